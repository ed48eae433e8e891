"""A threshold to play with: in JupyterLab a slider with examples, in a report the curve it moves along."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from bgetune.locale import _
from bgetune.reports import figures, plots
from bgetune.scoring import thresholds

EXAMPLES = 5
"""Pairs shown on either side of the threshold."""


class ThresholdSlider:
    """Shows what a threshold does, and the pairs next to it, while it is moved.

    A notebook front end that knows widgets shows the slider; any other shows the picture.

    Args:
        similarities: (n,) cosines.
        labels: (n,) 0 or 1.
        queries, documents: n texts each.
        marks: label -> threshold, drawn in the picture; the slider starts at the first.
        prior: share of positives in production.
    """

    def __init__(
        self,
        similarities: np.ndarray,
        labels: np.ndarray,
        queries: Sequence[str],
        documents: Sequence[str],
        marks: Mapping[str, float] | None = None,
        prior: float | None = None,
    ):
        self.pairs = pd.DataFrame(
            {"similarity": similarities, "same": np.asarray(labels) == 1, "query": queries, "document": documents}
        ).sort_values("similarity", ascending=False, ignore_index=True)
        self.marks = dict(marks or {})
        self.prior = prior

    def at(self, threshold: float) -> tuple[dict[str, float], pd.DataFrame]:
        """What `thresholds.point` says of a threshold, and the pairs next above and below it."""
        accepted = int((self.pairs["similarity"] >= threshold).sum())
        near = self.pairs.iloc[max(accepted - EXAMPLES, 0) : accepted + EXAMPLES]
        near = near.assign(accepted=near["similarity"] >= threshold)
        facts = thresholds.point(self.pairs["similarity"], self.pairs["same"].astype(int), threshold, self.prior)
        return facts, near[["accepted", "same", "similarity", "query", "document"]]

    @cached_property
    def widget(self) -> Any:
        """The slider and what it shows."""
        import ipywidgets

        # whole thousandths, or the front end rounds a threshold to a step that it is not on
        low = np.floor(self.pairs["similarity"].min() * 1000) / 1000
        high = np.ceil(self.pairs["similarity"].max() * 1000) / 1000
        start = next(iter(self.marks.values()), (low + high) / 2)
        slider = ipywidgets.FloatSlider(
            value=start,
            min=low,
            max=high,
            step=0.001,
            description=_("threshold"),
            readout_format=".3f",
            layout={"width": "90%"},
        )
        shown = ipywidgets.HTML(self._html(slider.value))
        slider.observe(lambda change: setattr(shown, "value", self._html(change["new"])), "value")
        jumps = []
        for label, threshold in self.marks.items():
            jumps.append(ipywidgets.Button(description=_(label), tooltip=f"{threshold:.3f}"))
            jumps[-1].on_click(lambda _button, threshold=threshold: setattr(slider, "value", threshold))
        return ipywidgets.VBox([slider, ipywidgets.HBox(jumps), shown])

    def _html(self, threshold: float) -> str:
        facts, near = self.at(threshold)
        shown = ", ".join(f"{_(key)} <b>{facts[key]:.3f}</b>" for key in ("precision", "recall", "coverage", "f1"))
        accepted, same = self.pairs["similarity"] >= threshold, self.pairs["same"]
        counts = {
            "accepted": accepted.sum(),
            "all": len(same),
            "right": (accepted & same).sum(),
            "missed": (same & ~accepted).sum(),
        }
        said = _(
            "{accepted} of {all} pairs are accepted, {right} of them rightly; {missed} with the same meaning are "
            "missed."
        ).format(**{name: f"{number:,}" for name, number in counts.items()})
        table = plots.table(near, digits=3, marked=near["accepted"] != near["same"])
        above = _("From a cosine of {threshold} on: {measures}.").format(
            threshold=f"<b>{threshold:.3f}</b>", measures=shown
        )
        below = _("The pairs on either side, mistakes in red:")
        return f"<p>{above}<br>{said} {below}</p>{table.html}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        curve = thresholds.curve(self.pairs["similarity"], self.pairs["same"].astype(int), self.prior)
        figure = plots.threshold_curves(curve, self.marks)
        bundle = self.widget._repr_mimebundle_()
        bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        encoded = base64.b64encode(figures.picture(figure)).decode()
        message = escape(str(figure.get_label()))
        # the report drops widgets and shows what else there is
        return bundle | {
            "text/html": f'<img alt="{message}" width="880" src="data:image/png;base64,{encoded}">',
            "text/plain": figure.get_label(),
        }
