"""`scoring.json`: everything that `Scorer` needs of a finished run, and what tells a reader where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.scoring import reference, stores

if TYPE_CHECKING:
    from bgetune.data.text import Normalizer
    from bgetune.metrics import calibrators
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker
    from bgetune.scoring.thresholds import Thresholds

VERSION = 2
"""Of the form of `scoring.json`."""


def make_settings(
    *,
    encoder: Encoder,
    normalizer: Normalizer,
    calibrator: calibrators.Calibrator,
    thresholds: Thresholds,
    dev: tuple[np.ndarray, np.ndarray],
    test: dict[str, Any],
    data: dict[str, Any],
    symmetric: bool = False,
    reranker: Reranker | None = None,
    reranker_is_tuned: bool = False,
    combination: calibrators.Combination | None = None,
    decisions: Mapping[str, Thresholds] | None = None,
) -> dict[str, Any]:
    """The content of `scoring.json`: everything `Scorer` needs, and what tells a reader where it comes from.

    Args:
        encoder: the tuned model; its fingerprint is what the file is bound to.
        normalizer: of the run: new texts are brought into the same form.
        dev: similarities and labels of the calibration pairs, kept as quantiles for monitoring.
        test: measures of the test pairs; ``auc_interval`` is read by the monitoring.
        data: what the calibration pairs are: origin (``pairs``), balance, prior, and ``human_labels``: how many labels
            of people replace them.
        reranker_is_tuned: whether it is the run's own artifact `reranker`; else it is found where it was.
        symmetric: whether most of them are of one kind, see `pairs.are_symmetric`.
        decisions: thresholds on the reranker's score (``reranker``) and on the combination (``both``).
    """
    reranking = None
    if reranker is not None and combination is not None:
        reranking = {
            "location": None if reranker_is_tuned else reranker.location,
            "fingerprint": reranker.fingerprint,
            "max_length": reranker.max_length,
            "combination": asdict(combination),
            "thresholds": {name: made.to_dict() for name, made in (decisions or {}).items()},
        }
    return {
        "version": VERSION,
        "model": {
            "fingerprint": encoder.fingerprint,
            "max_length": encoder.max_length,
            "prompts": asdict(encoder.prompts),
            "symmetric": symmetric,
        },
        "normalization": asdict(normalizer),
        "calibration": calibrator.to_dict(),
        "thresholds": thresholds.to_dict(),
        "stores": stores.bounds(thresholds.to_dict()["precision"], data.get("pairs")),
        "reranker": reranking,
        "data": data,
        "test": test,
        "reference": reference.reference(*dev),
        "versions": {name: metadata.version(name) for name in ("bgetune", "numpy", "scipy", "scikit-learn")},
    }


def read_settings(file: Path) -> dict[str, Any]:
    """The content of a `scoring.json`.

    Raises:
        InputError: if it is damaged (a number that is none among them), or of another version of bgetune.
    """

    def refuse(constant: str) -> None:
        raise ValueError(_("{constant} is no number").format(constant=constant))

    try:
        settings = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
        version = settings["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            _("{file} is damaged ({kind}: {reason}); run 05_calibrate again").format(
                file=file, kind=type(error).__name__, reason=reason
            )
        ) from None
    if version != VERSION:
        raise InputError(
            _(
                "{file} is of another version of bgetune (its form is {version!r}, this one reads {reads}); run "
                "05_calibrate again"
            ).format(file=file, version=version, reads=VERSION)
        )
    missing = {"model", "normalization", "calibration", "thresholds", "reranker"} - settings.keys()
    if missing:
        raise InputError(
            _("{file} is damaged (no {missing}); run 05_calibrate again").format(
                file=file, missing=", ".join(sorted(missing))
            )
        )
    return settings


def write_settings(file: Path, settings: dict[str, Any]) -> None:
    """Write a `scoring.json`; a measure that could not be taken (NaN) becomes null, as JSON has it."""
    text = json.dumps(_plain(settings), ensure_ascii=False, indent=1, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Numbers and lists of NumPy as those of Python, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
