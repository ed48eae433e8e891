"""A comparison of new scores with the reference as a page: one HTML file without scripts, that a scheduler can mail."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from bgetune.locale import N_, _

if TYPE_CHECKING:
    from bgetune.scoring.monitor import Comparison

FIGURES = {
    "pairs": N_("new pairs"),
    "psi": N_("population stability index (PSI)"),
    "psi_band": N_("PSI that chance alone stays below (99 %)"),
    "ks": N_("Kolmogorov-Smirnov distance (KS)"),
    "ks_band": N_("KS that chance alone stays below (99 %)"),
    "prior": N_("share of positives that explains the new scores best"),
    "psi_after_prior": N_("PSI left with this share"),
    "ks_after_prior": N_("KS left with this share"),
    "auc": N_("AUC of the labelled pairs"),
    "ece": N_("calibration error of the labelled pairs"),
}
VERDICTS = (N_("stable"), N_("recalibrate"), N_("retrain"), N_("too few pairs"))
WIDTH, HEIGHT = 640, 220
STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
    "td{padding:.15rem 1.5rem .15rem 0}td+td{text-align:right}.known{fill:#a7b1bf}.new{fill:#235a9c}"
    "svg{max-width:100%}text{font-size:11px;fill:#55606f}"
)


def page(found: Comparison, run: str, pairs: str) -> str:
    """The page, complete.

    Args:
        run, pairs: what was compared, as the command line names them.
    """
    facts = [(_(words), getattr(found, name)) for name, words in FIGURES.items() if getattr(found, name) is not None]
    rows = "".join(
        f"<tr><td>{escape(words)}</td><td>{value:,}</td></tr>"
        if isinstance(value, int)
        else f"<tr><td>{escape(words)}</td><td>{value:.3f}</td></tr>"
        for words, value in facts
    )
    verdict, advice = escape(_(found.verdict)), escape(found.advice)
    title = escape(_("New scores against those of the calibration"))
    legend = escape(_("share of pairs by cosine; grey: at calibration, blue: new"))
    return f"""<!doctype html>
<html><head><meta charset="utf-8"><title>{verdict}: {escape(run)}</title><style>{STYLE}</style>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"></head>
<body><h1>{verdict}</h1><p>{advice}</p><p>{title}: {escape(pairs)} / {escape(run)}</p>
{_bars(found.edges, found.known_shares, found.new_shares)}
<p>{legend}</p><table>{rows}</table></body></html>
"""


def _bars(edges: Sequence[float], known: Sequence[float], new: Sequence[float]) -> str:
    """An SVG: two bars a bin, the bins' lower edges below."""
    step, top = WIDTH / len(known), max(*known, *new)
    parts = []
    for place, pair in enumerate(zip(known, new, strict=True)):
        for side, (name, share) in enumerate(zip(("known", "new"), pair, strict=True)):
            height = share / top * (HEIGHT - 20)
            left = place * step + side * step * 0.4
            parts.append(
                f'<rect class="{name}" x="{left:.1f}" y="{HEIGHT - 20 - height:.1f}" width="{step * 0.38:.1f}" '
                f'height="{height:.1f}"/>'
            )
        if place:
            parts.append(f'<text x="{place * step - 10:.1f}" y="{HEIGHT - 5}">{edges[place - 1]:.2f}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
