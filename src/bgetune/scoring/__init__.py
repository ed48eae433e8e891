"""Scores that a threshold can be put on: calibrated similarities, thresholds with a guarantee, and the scorer.

from bgetune.scoring import Scorer

scorer = Scorer.load("runs/demo")
scorer.score(["忘记支付密码"], ["支付密码怎么找回"])   # calibrated probabilities
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgetune.scoring.scorer import Hit, Scorer

__all__ = ["Hit", "Scorer"]


def __getattr__(name: str):
    # PEP 562: the metrics of this package can be had without the encoder's imports
    if name in __all__:
        from bgetune.scoring import scorer

        return getattr(scorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
