"""A run's tables as arrays, and the queries to mine for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models.prompts import NO_PROMPTS, Prompts


@dataclass(frozen=True)
class Corpus:
    """The tables of a run as arrays. A text's number is its position in the order of the ids.

    Attributes:
        texts: the table `texts`, sorted by text_id.
        cluster: (n,) int64 number of each text's cluster; a text in no cluster is a cluster of its own.
        split: (n,) str: train, dev or test; train for a text in no cluster.
        positives: directed pairs, each with its edge of the highest weight: columns anchor, positive (text numbers),
            weight, source.
        labels: (a, b) -> grade in [0, 1] that people gave; text numbers, both orders.
    """

    texts: pd.DataFrame
    cluster: np.ndarray
    split: np.ndarray
    positives: pd.DataFrame
    labels: dict[tuple[int, int], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame, graded: pd.DataFrame | None = None
    ) -> Corpus:
        """From the tables `texts`, `edges`, `clusters` and `graded`, their rows in any order.

        Raises:
            InputError: if an edge names a text that `texts` does not have.
        """
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

    def numbers(self, a: str, b: str) -> tuple[int, int] | None:
        """The numbers of two texts by their ids, None if one is unknown."""
        place = np.searchsorted(self.id, [a, b]).clip(max=len(self.id) - 1)
        known = (self.id[place] == np.array([a, b], dtype=object)).all()
        return (int(place[0]), int(place[1])) if known else None

    def pair_key(self, a: np.ndarray | pd.Series, b: np.ndarray | pd.Series) -> np.ndarray:
        """One integer for each pair of `a` (text numbers, or rows of queries) and `b` (text numbers): (n,) int64."""
        return np.asarray(a, dtype=np.int64) * len(self.texts) + np.asarray(b, dtype=np.int64)

    def among(self, pairs: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Which pairs of `a` and `b` (n text numbers each) are among sorted keys of pairs: (n,) bool."""
        key = self.pair_key(a, b)
        if not len(key):
            return np.zeros(0, dtype=bool)
        low, high = np.searchsorted(pairs, [key.min(), key.max() + 1])  # queries come in blocks, in the order of keys
        return pd.Index(key).isin(pairs[low:high])

    @cached_property
    def known_pairs(self) -> np.ndarray:
        """Sorted keys of the pairs that an edge or a label calls positives, in both orders."""
        a, b = self.positives["anchor"], self.positives["positive"]
        labelled = self.labelled[self.labelled["label"] > 0]
        keys = (self.pair_key(a, b), self.pair_key(b, a), self.pair_key(labelled["anchor"], labelled["candidate"]))
        return np.unique(np.concatenate(keys))

    @cached_property
    def different_pairs(self) -> np.ndarray:
        """Sorted keys of the pairs that people called different, in both orders."""
        labelled = self.labelled[self.labelled["label"] == 0]
        return np.unique(self.pair_key(labelled["anchor"], labelled["candidate"]))

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """`labels` as a table, sorted: anchor, candidate (int64, both orders), label (float64)."""
        rows = [(a, b, grade) for (a, b), grade in self.labels.items()]
        table = pd.DataFrame(rows, columns=["anchor", "candidate", "label"])
        table = table.astype({"anchor": np.int64, "candidate": np.int64, "label": np.float64})
        return table.sort_values(["anchor", "candidate"], ignore_index=True)

    @cached_property
    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """The text numbers by cluster (n,), and where each cluster begins (clusters + 1,)."""
        ends = np.cumsum(np.bincount(self.cluster))
        return np.argsort(self.cluster, kind="stable"), np.concatenate([[0], ends])

    @cached_property
    def kind(self) -> np.ndarray:
        """(n,) str: query or document."""
        return self.texts["kind"].to_numpy(dtype=object)

    @cached_property
    def text(self) -> np.ndarray:
        """(n,) the texts."""
        return self.texts["text"].to_numpy(dtype=object)

    @cached_property
    def id(self) -> np.ndarray:
        """(n,) the ids of the texts."""
        return self.texts["text_id"].to_numpy(dtype=object)


def _directed(texts: pd.DataFrame, edges: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    """Both directions of every edge, except from a document to a query: documents are never used as queries."""
    best = edges.sort_values(["weight", "source"], ascending=[False, True]).drop_duplicates(["a_id", "b_id"])
    a, b = number.reindex(best["a_id"]).to_numpy(), number.reindex(best["b_id"]).to_numpy()
    if np.isnan(a.astype(float)).any() or np.isnan(b.astype(float)).any():
        raise InputError(
            _("edges: an edge names a text_id that the table texts does not have; run again with --from 01")
        )
    forth = pd.DataFrame(
        {"anchor": a, "positive": b, "weight": best["weight"].to_numpy(), "source": best["source"].to_numpy()}
    )
    pairs = pd.concat([forth, forth.rename(columns={"anchor": "positive", "positive": "anchor"})], ignore_index=True)
    kind = texts["kind"].to_numpy()
    backwards = (kind[pairs["anchor"]] == "document") & (kind[pairs["positive"]] == "query")
    return pairs[~backwards].sort_values(
        ["anchor", "weight", "positive"], ascending=[True, False, True], ignore_index=True
    )


def queries_of(corpus: Corpus, split: str, prompts: Prompts = NO_PROMPTS) -> pd.DataFrame:
    """The queries of a split: one row for each text with a positive and each of its prompts.

    A model with prompts encodes a query in two ways: to search documents, and to find texts of its own kind. These are
    two rows. Without prompts every text is one row.

    Returns:
        anchor (text number), prompt, text_prompt (prompt of the texts it is compared with), positives (list of text
        numbers, highest weight first), source (of the first positive), kinds (tuple: query, document or both, the kinds
        of its positives and of the texts to search).
    """
    pairs = corpus.positives
    pairs = pairs[(corpus.split[pairs["anchor"]] == split) & (corpus.split[pairs["positive"]] == split)]
    own, kind = corpus.kind[pairs["anchor"]], corpus.kind[pairs["positive"]]
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
    """Cut `values` (n,) into consecutive lists of the lengths `counts`, which add up to n."""
    flat, ends = values.tolist(), np.cumsum(counts).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]
