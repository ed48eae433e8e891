"""A run's tables as arrays, and the queries that are mined for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.models.prompts import NO_PROMPTS, Prompts


@dataclass(frozen=True)
class World:
    """The tables of a run as arrays; texts are numbered in the order of their ids.

    Attributes:
        texts: the table `texts`, sorted by text_id.
        cluster: (n,) number of each text's cluster; a text in no cluster is one of its own.
        split: (n,) train, dev, test.
        positives: directed pairs with their best edge: columns anchor, positive (numbers), weight, source.
        labels: (a, b) -> grade of people's labels, a and b numbers, both orders.
    """

    texts: pd.DataFrame
    cluster: np.ndarray
    split: np.ndarray
    positives: pd.DataFrame
    labels: dict[tuple[int, int], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame, graded: pd.DataFrame | None = None
    ) -> World:
        """From the tables `texts`, `edges`, `clusters` and `graded`, in any order of rows."""
        texts = texts.sort_values("text_id", ignore_index=True)
        number = pd.Series(texts.index, index=texts["text_id"])
        row = clusters.set_index("text_id").reindex(texts["text_id"])
        names = row["cluster_id"].fillna(pd.Series(texts["text_id"].to_numpy(), index=row.index))
        split = row["split"].fillna("train").to_numpy(dtype=object)
        labels = {}
        for a, b, grade in () if graded is None else graded[["a_id", "b_id", "grade"]].itertuples(index=False):
            if a in number and b in number:
                labels[number[a], number[b]] = labels[number[b], number[a]] = grade
        return cls(texts, pd.factorize(names, sort=True)[0], split, _directed(texts, edges, number), labels)

    def numbers(self, *ids: str) -> tuple[int, ...] | None:
        """The numbers of texts, None if one is unknown."""
        place = np.searchsorted(self.id, ids).clip(max=len(self.id) - 1)
        return tuple(int(n) for n in place) if (self.id[place] == np.array(ids, dtype=object)).all() else None

    def pair_key(self, a: np.ndarray | pd.Series, b: np.ndarray | pd.Series) -> np.ndarray:
        """One integer for each pair of a number (of a text or of a query) and a text's number: (n,) int64."""
        return np.asarray(a, dtype=np.int64) * len(self.texts) + np.asarray(b, dtype=np.int64)

    @cached_property
    def kind(self) -> np.ndarray:
        """(n,) query or document."""
        return self.texts["kind"].to_numpy(dtype=object)

    @cached_property
    def text(self) -> np.ndarray:
        """(n,) the texts."""
        return self.texts["text"].to_numpy(dtype=object)

    @cached_property
    def id(self) -> np.ndarray:
        """(n,) their ids."""
        return self.texts["text_id"].to_numpy(dtype=object)


def _directed(texts: pd.DataFrame, edges: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    """Both directions of every edge, but never from a document to a query: nobody searches with a document."""
    best = edges.sort_values(["weight", "source"], ascending=[False, True]).drop_duplicates(["a_id", "b_id"])
    a, b = number.reindex(best["a_id"]).to_numpy(), number.reindex(best["b_id"]).to_numpy()
    if np.isnan(a.astype(float)).any() or np.isnan(b.astype(float)).any():
        raise InputError("edges: an edge names a text_id that the table texts does not have; run again with --from 01")
    forth = pd.DataFrame(
        {"anchor": a, "positive": b, "weight": best["weight"].to_numpy(), "source": best["source"].to_numpy()}
    )
    pairs = pd.concat([forth, forth.rename(columns={"anchor": "positive", "positive": "anchor"})], ignore_index=True)
    kind = texts["kind"].to_numpy()
    backwards = (kind[pairs["anchor"]] == "document") & (kind[pairs["positive"]] == "query")
    return pairs[~backwards].sort_values(
        ["anchor", "weight", "positive"], ascending=[True, False, True], ignore_index=True
    )


def queries_of(world: World, split: str, prompts: Prompts = NO_PROMPTS) -> pd.DataFrame:
    """The queries of a split: one row a text and its prompts, however many rows of the data it stood in.

    Searching documents and finding texts of one's own kind are two tasks where the model has prompts for them. Without
    prompts every text is one row.

    Returns:
        anchor (number), prompt, text_prompt (of the texts that it is compared with), positives (numbers, best supported
        first), source (of the best supported), kinds (of the positives: the kinds of text to search for).
    """
    pairs = world.positives
    pairs = pairs[(world.split[pairs["anchor"]] == split) & (world.split[pairs["positive"]] == split)]
    own, kind = world.kind[pairs["anchor"]], world.kind[pairs["positive"]]
    pairs = pairs.assign(prompt=prompts.before(own, kind), text_prompt=prompts.before(kind, own), kind=kind)
    task = ["anchor", "prompt", "text_prompt"]
    pairs = pairs.sort_values(task, kind="stable", ignore_index=True)
    first = np.flatnonzero(~pairs.duplicated(task))
    counts = np.diff(first, append=len(pairs))
    positives, kinds = (as_lists(pairs[name].to_numpy(), counts) for name in ("positive", "kind"))
    return (
        pairs.loc[first, [*task, "source"]]
        .reset_index(drop=True)
        .assign(
            positives=positives,
            kinds=[tuple(sorted(set(names))) for names in kinds],
        )
    )


def as_lists(values: np.ndarray, counts: np.ndarray) -> list[list]:
    """Values in a row, cut into lists of so many each."""
    flat, ends = values.tolist(), np.cumsum(counts).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]
