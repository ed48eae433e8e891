"""Measures against the known truth of the demo world: what no log can tell.

Every function takes the table ``truth.csv`` of a world (columns ``text, meaning, service``) and compares texts in their
normal form with personal data masked, so a query typed in full-width letters is found. A text with an empty meaning
(junk, popular pages) means the same as no other text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PairQuality:
    """What pairs that were called positives are worth."""

    pairs: int  #: distinct unordered pairs of two known texts
    correct: int  #: of these, how many mean the same
    possible: int  #: pairs of distinct texts in question that mean the same
    unknown: int  #: pairs left out because a text is not in the truth

    @property
    def precision(self) -> float:
        """Share of the pairs that mean the same; nan without pairs."""
        return self.correct / self.pairs if self.pairs else float("nan")

    @property
    def recall(self) -> float:
        """Share of the possible pairs that were found; nan when none is possible."""
        return self.correct / self.possible if self.possible else float("nan")


def _key(text: str) -> str:
    """The form in which texts are compared: normal, with personal data masked as the pipeline masks it."""
    from bgetune.data.text import mask_personal_data, normalize

    return mask_personal_data(normalize(text))[0]


def load(world: str = "standard") -> pd.DataFrame:
    """The truth of a demo world: ``text, meaning, service``, all strings, the world made if it is not cached."""
    import pandas as pd

    from bgetune_demo import resolve

    return pd.read_csv(resolve(f"demo://{world}/truth.csv"), dtype=str, keep_default_na=False)


def meanings(texts: pd.Series, truth: pd.DataFrame) -> pd.Series:
    """The meaning of every text: "" for a text that means nothing, missing (NaN) for one the truth does not know."""
    known = dict(zip(truth["text"].map(_key), truth["meaning"], strict=True))
    return texts.map(lambda text: known.get(_key(text)))


def pair_quality(
    pairs: pd.DataFrame, truth: pd.DataFrame, among: pd.Series | None = None, a: str = "a", b: str = "b"
) -> PairQuality:
    """Precision and recall of ``pairs``, a table whose columns ``a`` and ``b`` hold texts.

    Recall is measured among the texts ``among`` (all texts of the truth when None): of all pairs of them that mean the
    same, how many are in ``pairs``. Direction and repetition do not count, nor do pairs of a text with itself.
    """
    known = dict(zip(truth["text"].map(_key), truth["meaning"], strict=True))
    found = {
        tuple(sorted((first, second)))
        for first, second in zip(pairs[a].map(_key), pairs[b].map(_key), strict=True)
        if first != second
    }
    inside = {pair for pair in found if pair[0] in known and pair[1] in known}
    correct = sum(1 for first, second in inside if known[first] and known[first] == known[second])
    universe = set(known) if among is None else set(among.map(_key)) & set(known)
    sizes: dict[str, int] = {}
    for text in universe:
        sizes[known[text]] = sizes.get(known[text], 0) + 1
    possible = sum(size * (size - 1) // 2 for meaning, size in sizes.items() if meaning)
    return PairQuality(len(inside), correct, possible, len(found) - len(inside))


def false_negative_share(pairs: pd.DataFrame, truth: pd.DataFrame, a: str = "query", b: str = "negative") -> float:
    """Share of supposed negatives (columns ``a`` and ``b`` of texts) that mean the same after all.

    Rows are counted as they stand, those with unknown texts left out; nan when none is left.
    """
    first, second = meanings(pairs[a], truth), meanings(pairs[b], truth)
    known = first.notna() & second.notna()
    return float(((first == second) & (first != ""))[known].mean())


def near_miss_share(
    pairs: pd.DataFrame, truth: pd.DataFrame, near_misses: pd.DataFrame, a: str = "query", b: str = "negative"
) -> float:
    """Share of supposed negatives that are near-misses: one decisive word apart by ``near_misses.csv``.

    These are the negatives worth having. Rows with unknown texts are left out; nan when none is left.
    """
    close = set(zip(near_misses["meaning_a"], near_misses["meaning_b"], strict=True))
    close |= {(second, first) for first, second in close}
    first, second = meanings(pairs[a], truth), meanings(pairs[b], truth)
    known = first.notna() & second.notna()
    hits = [pair in close for pair in zip(first[known], second[known], strict=True)]
    return sum(hits) / len(hits) if hits else float("nan")
