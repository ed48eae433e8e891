"""Training groups (a query, its positives and hard negatives), read from JSON Lines in FlagEmbedding's format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _

DEFAULT_QUERIES = 12_000
"""Number of queries, repetitions included, that a training reads where the profile gives no number of epochs."""

MIN_EPOCHS, MAX_EPOCHS = 3, 10
"""Bounds of the default number of epochs."""


@dataclass(frozen=True)
class Group:
    """One line of `train.jsonl`.

    Attributes:
        query: the anchor.
        positives: texts that mean the same or answer it, one or more.
        negatives: hard negatives, none or more.
        prompt: prefix of the query, "" for none.
        text_prompt: prefix of every positive and negative.
        source: source of the positives.
        implied: further positives, which follow from others (`graph.implied`): a batch reads one of them at most.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    prompt: str = ""
    source: str = ""
    text_prompt: str = ""
    implied: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The query as it is encoded."""
        return self.prompt + self.query

    def prompted(self, texts: Iterable[str]) -> list[str]:
        """Positives or negatives as they are encoded."""
        return [self.text_prompt + text for text in texts]


def read_groups(file: str | Path) -> list[Group]:
    """Read the groups of a file.

    Args:
        file: in FlagEmbedding's format: `query`, `pos`, `neg`, and, where present, `prompt`, `source`, `text_prompt`.

    Raises:
        InputError: naming file, line and key; or if there is no group in the file.
    """
    file = Path(file)
    groups = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                groups.append(_parse(line, f"{file}, line {number}"))
    if not groups:
        raise InputError(
            _(
                "{file} holds no training group: no query of the train split has a positive; give more data "
                "(01_positives: sources), or lower dev_fraction and test_fraction"
            ).format(file=file)
        )
    return groups


def _parse(line: str, place: str) -> Group:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(
            _("{place}: not JSON ({error}); run again with --from 03").format(place=place, error=error)
        ) from None
    if not isinstance(row, dict):
        raise InputError(
            _("{place}: a group is an object with query, pos and neg; run again with --from 03").format(place=place)
        )
    for key, kind in (("query", str), ("pos", list), ("neg", list)):
        if not isinstance(row.get(key), kind):
            words = (
                _("{place}: {key} must be a text; run again with --from 03")
                if kind is str
                else _("{place}: {key} must be a list of texts; run again with --from 03")
            )
            raise InputError(words.format(place=place, key=key))
    texts = [row["query"], *row["pos"], *row["neg"]]
    if not row["pos"] or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(
            _("{place}: a group needs a query and at least one positive, and no text may be empty").format(place=place)
        )
    prompt, source, text_prompt = (row.get(name) or "" for name in ("prompt", "source", "text_prompt"))
    return Group(row["query"], tuple(row["pos"]), tuple(row["neg"]), prompt, source, text_prompt)


def cluster_numbers(groups: Sequence[Group], texts: pd.DataFrame, clusters: pd.DataFrame) -> dict[str, int]:
    """The cluster of every text of the groups, as a number.

    Args:
        groups: training groups.
        texts: the table `texts` (text_id, text).
        clusters: the table `clusters` (text_id, cluster_id). A text without a cluster is a cluster of its own.

    Returns:
        text -> number, from 0.
    """
    cluster_of = dict(clusters[["text_id", "cluster_id"]].itertuples(index=False))
    named = {text: cluster_of.get(text_id) for text_id, text in texts[["text_id", "text"]].itertuples(index=False)}
    numbers: dict[str, int] = {}
    return {
        text: numbers.setdefault(named.get(text) or f"text {text}", len(numbers))
        for group in groups
        for text in (group.query, *group.positives, *group.implied, *group.negatives)
    }


def with_implied(groups: Sequence[Group], same: Mapping[str, Sequence[str]], texts: pd.DataFrame) -> list[Group]:
    """Add the positives that follow from others.

    Args:
        groups: training groups.
        same: text_id -> ids of texts that mean the same, as `graph.implied.same_as` returns it.
        texts: the table `texts` (text_id, text, kind).

    Returns:
        The groups. An implied positive is of a kind (query or document) that the group's positives have.
    """
    id_of = dict(zip(texts["text"], texts["text_id"], strict=True))
    text_of, kind_of = (dict(zip(texts["text_id"], texts[name], strict=True)) for name in ("text", "kind"))
    added = []
    for group in groups:
        kinds = {kind_of.get(id_of.get(text, "")) for text in group.positives}
        fitting = [text_of[other] for other in same.get(id_of.get(group.query, ""), ()) if kind_of[other] in kinds]
        added.append(replace(group, implied=tuple(text for text in fitting if text not in group.positives)))
    return added


def without_contradictions(groups: Sequence[Group], cluster_of: Mapping[str, int]) -> tuple[list[Group], pd.DataFrame]:
    """Remove texts that contradict the data: a positive that is the query itself, and a negative of the cluster of the
    query or of one of its positives.

    Returns:
        The groups that still have a positive, and a table `dropped` (source, reason, rows, example).
    """
    kept: list[Group] = []
    reasons: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for group in groups:
        positives = tuple(dict.fromkeys(text for text in group.positives if text != group.query))
        own = {cluster_of[text] for text in (group.query, *positives)}
        negatives = tuple(dict.fromkeys(text for text in group.negatives if cluster_of[text] not in own))
        lost = {
            "positive is the query itself": [text for text in group.positives if text == group.query],
            "negative of the query's own cluster": [text for text in group.negatives if cluster_of[text] in own],
            "group without a positive": [] if positives else [group.query],
        }
        for reason, texts in lost.items():
            if texts:
                reasons[group.source, reason] += len(texts)
                examples.setdefault((group.source, reason), texts[0])
        if positives:
            kept.append(replace(group, positives=positives, negatives=negatives))
    rows = [(source, reason, count, examples[source, reason]) for (source, reason), count in sorted(reasons.items())]
    dropped = pd.DataFrame(rows, columns=["source", "reason", "rows", "example"])
    return kept, dropped.astype({"source": str, "reason": str, "rows": "int64", "example": str})


def linked_clusters(groups: Sequence[Group], cluster_of: Mapping[str, int]) -> np.ndarray:
    """The block of each cluster. Clusters are in one block if a group has texts of both, directly or through others.

    Texts of one block may be positives of each other, so no text is a random negative of a query of its own block.

    Args:
        groups: training groups.
        cluster_of: cluster number of every text in them.

    Returns:
        (clusters,) int32 block numbers.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array(
        [(cluster_of[group.query], cluster_of[text]) for group in groups for text in (group.query, *group.positives)]
    )
    size = max(cluster_of.values()) + 1
    graph = coo_matrix((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def blocks(groups: Sequence[Group], cluster_of: Mapping[str, int]) -> np.ndarray:
    """The block of each group, see `linked_clusters`: (n,) int64, numbered from 0."""
    linked = linked_clusters(groups, cluster_of)
    return np.unique(linked[[cluster_of[group.query] for group in groups]], return_inverse=True)[1]


def choose(
    group: Group,
    *,
    epoch: int,
    epochs: int,
    seed: Sequence[int],
    positives: int | None = None,
    negatives: int | None = None,
) -> tuple[list[str], list[str]]:
    """Choose the positives and hard negatives of a group for one epoch.

    Positives take turns, so that all of them are used by the end of the training, and about equally often; so do the
    implied ones, of which one joins them where there is room. Negatives are drawn without replacement.

    Args:
        group: with n positives and any number of negatives.
        epoch: from 0.
        epochs: number of epochs of the training.
        seed: the run's seed and the group's number.
        positives: maximum number of positives; None: n / epochs rounded up, so that every one is used.
        negatives: maximum number of negatives; None: all.

    Returns:
        Positives and negatives.
    """
    order = np.random.default_rng(seed).permutation(len(group.positives))
    count = -(-len(order) // epochs)
    count = count if positives is None else min(count, positives)
    turn = (epoch * count + np.arange(count)) % len(order)
    chosen = [group.positives[i] for i in order[turn]]
    if group.implied and (positives is None or len(chosen) < positives):
        others = np.random.default_rng([*seed, 1]).permutation(len(group.implied))
        chosen.append(group.implied[others[epoch % len(others)]])
    if negatives is None or len(group.negatives) <= negatives:
        return chosen, list(group.negatives)
    drawn = np.random.default_rng([*seed, epoch]).choice(len(group.negatives), size=negatives, replace=False)
    return chosen, [group.negatives[i] for i in sorted(drawn)]


def describe_batch(groups: Sequence[Group], items: Sequence[int] | None) -> str:
    """The first groups of a batch, for an error message.

    Args:
        groups: n groups.
        items: `epoch * n + number of the group` of each; None: a batch of graded pairs.
    """
    if items is None:
        return _("in a batch of graded pairs")
    n = len(groups)
    shown = ", ".join(f"{item % n + 1} ({groups[item % n].query[:20]!r})" for item in items[:3])
    return _("epoch {epoch}, in a batch of {count} groups: {shown}...").format(
        epoch=items[0] // n + 1, count=len(items), shown=shown
    )


def default_epochs(groups: int, *, evaluates: bool) -> int:
    """The number of epochs where the profile gives none.

    Few groups make few steps an epoch and gain from more epochs, as long as an evaluation on dev shows when they no
    longer do.

    Args:
        groups: number of training groups.
        evaluates: whether there are dev pairs to evaluate on.
    """
    wanted = -(-DEFAULT_QUERIES // max(groups, 1)) if evaluates else MIN_EPOCHS
    return min(max(wanted, MIN_EPOCHS), MAX_EPOCHS)


def summary(groups: Sequence[Group]) -> pd.DataFrame:
    """Numbers of groups, positives, implied ones and hard negatives by source, with a total."""
    table = pd.DataFrame(
        {
            "source": [group.source for group in groups],
            "groups": 1,
            "positives": [len(group.positives) for group in groups],
            "implied": [len(group.implied) for group in groups],
            "hard_negatives": [len(group.negatives) for group in groups],
            "without_negatives": [int(not group.negatives) for group in groups],
            "with_instruction": [int(bool(group.prompt)) for group in groups],
        }
    )
    counts = table.groupby("source").sum().sort_values("groups", ascending=False)
    counts.loc["all"] = counts.sum()
    return counts
