"""How the scorer of a finished run is called: Python and commands with this run's path, precisions and texts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.locale import _
from bgetune.metrics import worth
from bgetune.paths import ROOT
from bgetune.scoring.scorer import Scorer

USUAL = 0.95
"""Of several guaranteed precisions, the one nearest to this is shown."""


def example(pairs: pd.DataFrame, texts: pd.DataFrame) -> tuple[str, list[str]]:
    """A query of some pairs, with texts that it was compared with: positives before others, three at most.

    Texts in which personal data are masked are left out where there are others: they read badly in code.

    Args:
        pairs: ``query_id, text_id, label``, one row or more.
        texts: ``text_id, text``.
    """
    by_id = texts.set_index("text_id")["text"]
    masked = by_id.index[by_id.str.contains("<", regex=False)]
    plain = pairs[~(pairs["query_id"].isin(masked) | pairs["text_id"].isin(masked))]
    pairs = plain if len(plain) else pairs
    kinds = pairs.groupby("query_id")["label"].nunique()
    own = pairs[pairs["query_id"] == kinds[kinds == kinds.max()].index.min()]
    own = own.sort_values(["label", "text_id"], ascending=[False, True])
    shown = pd.concat([own[own["label"] == 1].head(2), own[own["label"] == 0].head(1)])
    return by_id[own["query_id"].iloc[0]], by_id[shown["text_id"]].tolist()


def guaranteed_precision(scorer: Scorer) -> float | None:
    """The guaranteed precision to show, None where the run guarantees none."""
    kept = [row["precision"] for row in scorer.settings["thresholds"]["precision"] if row["threshold"] is not None]
    return min(kept, key=lambda precision: abs(precision - USUAL), default=None)


def code(scorer: Scorer, query: str, texts: Sequence[str]) -> str:
    """Python that loads the run and calls its scorer; what it prints stands beside it, computed with this scorer.

    Args:
        scorer: of the run.
        query: a text.
        texts: what it is compared with.
    """
    precision = guaranteed_precision(scorer)
    means = (
        _("no precision is guaranteed here: the threshold with the best F1")
        if precision is None
        else _("of what is True, {precision:.0%} or more is right").format(precision=precision)
    )
    mark = worth.mark(scorer.settings.get("data", {}).get("pairs"))
    means += _(" (measured on {pairs})").format(pairs=mark) if mark else ""
    if scorer.settings["thresholds"]["best_f1"] is None:
        matched = "# scorer.is_match: " + _("no threshold can be trusted yet, see the verdict")
    else:
        matches = scorer.is_match(query, texts, precision=precision).tolist()
        matched = f"print(scorer.is_match(query, texts, precision={precision}).tolist())  # {matches}: {means}"
    searched, reranked = _("of the texts of this run"), _("the reranker orders, too")
    scores = np.round(scorer.score(query, texts), 2).tolist()
    lines = [
        "from bgetune.scoring import Scorer",
        "",
        f"scorer = Scorer.load({_literal(run_path(scorer.run_dir))})",
        f"query = {_literal(query)}",
        f"texts = [{', '.join(map(_literal, texts))}]",
        "",
        f"print(scorer.score(query, texts).round(2).tolist())  # {scores}",
        matched,
        "print([hit.text for hit in scorer.search(query, k=3)])  # " + searched,
    ]
    if scorer.settings["reranker"] is not None:
        lines.append("print([hit.text for hit in scorer.search(query, k=3, rerank=True)])  # " + reranked)
    return "\n".join(lines)


def how_to_use(scorer: Scorer, query: str, texts: Sequence[str]) -> str:
    """Markdown: the code, and the commands for files of pairs and for monitoring."""
    run, precision = run_path(scorer.run_dir), guaranteed_precision(scorer)
    option = "" if precision is None else f" --precision {precision}"
    commands = [
        f"python -m bgetune.scoring --run {shlex.quote(run)}{option} pairs.csv",
        f"python -m bgetune.scoring.monitor --run {shlex.quote(run)} --pairs new.csv",
    ]
    what = _(
        "Scores of pairs in a file, and whether their distribution has moved (once a month, or after a change of the "
        "product):"
    )
    return f"""{_block("python", code(scorer, query, texts))}

{what}

{_block("bash", chr(10).join(commands))}
"""


def run_path(run_dir: Path) -> str:
    """A run's folder as `Scorer.load` takes it: relative to the repository where it lies in there."""
    run_dir = Path(run_dir).absolute()
    return run_dir.relative_to(ROOT).as_posix() if run_dir.is_relative_to(ROOT) else str(run_dir)


def _block(language: str, text: str) -> str:
    """A block of code in Markdown that nothing in the text can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _literal(text: str) -> str:
    """A Python string of one line, in which nothing is markup and nothing is hidden."""
    return "".join(f"\\x{ord(letter):02x}" if letter in "`<>&$" else letter for letter in repr(text))
