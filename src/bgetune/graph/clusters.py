"""The positive graph: edges of all sources -> clusters of texts that mean the same -> train, dev and test.

All functions take and return tables (see `tables.SCHEMAS`); the order of their rows does not change the result.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bgetune.data import tables
from bgetune.data.draw import draw
from bgetune.data.tables import SOURCES, SPLITS
from bgetune.runs import Stage
from bgetune.runs.manifest import read_manifest

# Punctuation and blanks, except between two digits (1.5, 3-5, 12:30), signs with a meaning (c++, 5%, ≥) and the vowel
# signs of Indic scripts, Thai, Lao, Burmese and Khmer, which Python does not count as letters.
_VOWEL_SIGNS = r"\u0300-\u036f\u0900-\u0963\u0966-\u0e7f\u0e80-\u0eff\u102b-\u103e\u1056-\u109d\u17b4-\u17d3"
_MARK = rf"(?:[^\w+#%&@$¥€£*/<>≥≤≠±√{_VOWEL_SIGNS}]|_)"
_DECORATION = re.compile(rf"(?<!\d){_MARK}++|{_MARK}++(?!\d)|(?<=\d),(?=\d)")

LARGE = 0.05
"""Maximum share of all texts in a component; a larger one is assumed to be joined by errors."""


def merge_duplicates(texts: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Merge texts that differ in punctuation and blanks only; the most frequent one represents them.

    Args:
        texts: text_id, text, kind, count. Rows of one text_id are merged as well; a text is a query if one row is.

    Returns:
        The merged texts, sorted by text_id, with their counts added; and text_id -> text_id of its representative, for
        all texts.
    """
    core = texts["text"].str.replace(_DECORATION, "", regex=True)
    texts = texts.assign(core=core.where(core != "", texts["text"]))
    texts = texts.sort_values(["count", "text_id", "kind"], ascending=[False, True, False])
    first = texts.drop_duplicates("core")
    total = texts.groupby("core").agg(count=("count", "sum"), kind=("kind", "max"))  # "query" > "document"
    merged = first.assign(
        count=total.loc[first["core"], "count"].to_numpy(), kind=total.loc[first["core"], "kind"].to_numpy()
    )
    stands_for = dict(zip(first["core"], first["text_id"], strict=True))
    representative = {text_id: stands_for[core] for text_id, core in zip(texts["text_id"], texts["core"], strict=True)}
    merged = merged.drop(columns="core").sort_values("text_id", ignore_index=True)
    return merged.astype({"count": "int64"}), representative


def to_representatives(pairs: pd.DataFrame, representative: Mapping[str, str], ordered: bool = True) -> pd.DataFrame:
    """Replace the texts of pairs by their representatives, and drop pairs of a text with itself.

    Args:
        pairs: a_id, b_id and further columns.
        representative: see `merge_duplicates`.
        ordered: True swaps the texts so that a_id < b_id. False keeps the direction and the first row of each pair.
    """
    a, b = pairs["a_id"].map(representative).astype(str), pairs["b_id"].map(representative).astype(str)
    swap = (a > b) & ordered
    renamed = pairs.assign(a_id=a.where(~swap, b), b_id=b.where(~swap, a))
    renamed = renamed[renamed["a_id"] != renamed["b_id"]]
    return (renamed if ordered else renamed.drop_duplicates(["a_id", "b_id"])).reset_index(drop=True)


def merge_edges(edges: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair and source: a_id, b_id, source, support (the sum), weight (the highest)."""
    found = edges.groupby(["a_id", "b_id", "source"], as_index=False).agg(
        support=("support", "sum"), weight=("weight", "max")
    )
    return found.astype({"support": "int64", "weight": "float64"})


def combine_sources(edges: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair: a_id, b_id, weight.

    The weights of the sources of a pair are combined as independent probabilities, as the probability that at least one
    is right (noisy-or): 1 - prod(1 - weight).
    """
    doubt = edges.assign(doubt=np.log1p(-edges["weight"].clip(upper=1 - 1e-9)))
    pairs = doubt.groupby(["a_id", "b_id"], as_index=False)["doubt"].sum()
    return pairs.assign(weight=-np.expm1(pairs["doubt"])).drop(columns="doubt")


def cluster(
    text_ids: Iterable[str],
    edges: pd.DataFrame,
    *,
    max_cluster_size: int,
    different: Iterable[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Cluster texts: the connected components, cut where they are too large or join texts that are known to differ.

    A component to cut is built again from its strongest edge to its weakest (Kruskal's algorithm). An edge is left out
    if it would join more than `max_cluster_size` texts, or two texts that are known to differ. The strength of an edge
    grows with its weight and with the triangles it closes: an edge that joins two groups by mistake closes none.

    Args:
        text_ids: all texts; those without an edge become clusters of one text.
        edges: a_id, b_id, weight (see `combine_sources`).
        max_cluster_size: maximum number of texts in a cluster.
        different: pairs of text_ids that people labelled as different.

    Returns:
        text_id, cluster_id, component_id (the component before cutting), sorted by text_id. The id of a cluster or a
        component is its smallest text_id.

    Raises:
        ValueError: if an edge names a text that is not among the texts.
    """
    index = pd.Index(sorted(set(text_ids)))
    a, b = index.get_indexer(edges["a_id"]), index.get_indexer(edges["b_id"])
    if len(edges) and min(a.min(), b.min()) < 0:
        raise ValueError("edges hold a text that is not among the texts")
    weight = edges["weight"].to_numpy(dtype=float)
    component = label = _components(len(index), a, b)
    forbidden = [tuple(index.get_indexer(pair)) for pair in different]
    forbidden = [(x, y) for x, y in forbidden if x >= 0 and y >= 0 and x != y]
    size = np.bincount(label, minlength=1)
    cut = set(np.flatnonzero(size > max_cluster_size)) | {label[x] for x, y in forbidden if label[x] == label[y]}
    inside = np.isin(label[a], sorted(cut)) if cut else np.zeros(len(a), bool)
    if inside.any():
        strength = _strength(len(index), a[inside], b[inside], weight[inside])
        order = np.lexsort((b[inside], a[inside], -strength.round(12)))
        kept = _kruskal(a[inside][order], b[inside][order], max_cluster_size, forbidden)
        rest = np.flatnonzero(~inside)
        chosen = np.concatenate([rest, np.flatnonzero(inside)[order][kept]])
        label = _components(len(index), a[chosen], b[chosen])
    ids = {"text_id": index, "cluster_id": index[_first(label)], "component_id": index[_first(component)]}
    return pd.DataFrame(ids).astype(str)


def _first(label: np.ndarray) -> np.ndarray:
    """For each position, the first position with the same label: (n,) int64."""
    first = np.full(label.max(initial=-1) + 1, len(label))
    np.minimum.at(first, label, np.arange(len(label)))
    return first[label]


def _components(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of the connected component of each of `count` nodes, for edges (a, b): (count,) int32."""
    return connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)[1]


def _strength(count: int, a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Noisy-or of the weight of each edge and of the paths by one third text: (edges,) float64, as -log(1 - p)."""
    weight = np.minimum(weight, 1 - 1e-9)
    upper = coo_matrix((weight, (a, b)), shape=(count, count)).tocsr()
    graph = upper + upper.T
    graph.sort_indices()
    strength = np.empty(len(a))
    for number, (x, y, w) in enumerate(zip(a, b, weight, strict=True)):
        row_x, row_y = slice(*graph.indptr[x : x + 2]), slice(*graph.indptr[y : y + 2])
        _, in_x, in_y = np.intersect1d(graph.indices[row_x], graph.indices[row_y], True, return_indices=True)
        ways = graph.data[row_x][in_x] * graph.data[row_y][in_y]
        strength[number] = -(np.log1p(-w) + np.log1p(-ways).sum())
    return strength


def _kruskal(a: np.ndarray, b: np.ndarray, limit: int, forbidden: list[tuple[int, int]]) -> np.ndarray:
    """Positions of the edges to keep, tried in the given order: joining at most `limit` texts and no forbidden pair."""
    groups = DisjointSet({*a.tolist(), *b.tolist(), *itertools.chain.from_iterable(forbidden)})
    apart: dict[int, set[int]] = {}
    for x, y in forbidden:
        apart.setdefault(x, set()).add(y)
        apart.setdefault(y, set()).add(x)

    kept = []
    for number, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        x, y = groups[x], groups[y]
        if x == y:
            continue
        too_many = groups.subset_size(x) + groups.subset_size(y) > limit
        if too_many or any(groups[other] == y for other in apart.get(x, ())):
            continue
        groups.merge(x, y)
        apart[groups[x]] = apart.get(x, set()) | apart.get(y, set())
        kept.append(number)
    return np.array(kept, dtype=int)


def within_clusters(edges: pd.DataFrame, clusters: pd.DataFrame) -> pd.Series:
    """Whether both texts of each edge are in one cluster: bool, with the index of `edges`."""
    home = clusters.set_index("text_id")["cluster_id"]
    return (edges["a_id"].map(home) == edges["b_id"].map(home)).rename("inside")


def split(
    clusters: pd.DataFrame,
    edges: pd.DataFrame,
    *,
    dev_fraction: float,
    test_fraction: float,
    seed: int,
    train_only: Iterable[str] = (),
    heldout: Iterable[str] = (),
    earlier: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Assign whole clusters to train, dev and test, with the same fractions for every source.

    The clusters of a component that was cut stay together, because they may mean the same; only a component of more
    than `LARGE` of all texts is divided by cluster. Below, such a unit is called a cluster.

    Clusters are sorted by a random number that depends on their id and the seed alone, and each stratum (clusters with
    the same most trusted source; clusters of one text) is divided by the fractions. Assignments of an earlier run are
    kept: a cluster with a test text of that run is test, else one with a dev text is dev, else one with a train text is
    train. Therefore a text never moves from test or dev to train, whatever data is appended.

    Args:
        clusters: text_id, cluster_id, component_id.
        edges: a_id, b_id, source and further columns, of the same texts.
        dev_fraction, test_fraction: shares of the texts.
        seed: of the random order.
        train_only: text_ids that must not be evaluated on (unless a held-out text is in their cluster).
        heldout: text_ids that must not be trained on.
        earlier: text_id -> split of the earlier run.

    Returns:
        text_id, cluster_id, split.
    """
    large = clusters.groupby("component_id")["text_id"].transform("size") > max(LARGE * len(clusters), 1)
    clusters = clusters.assign(unit=clusters["component_id"].where(~large, clusters["cluster_id"]))
    table = clusters.groupby("unit").size().rename("texts").to_frame()
    home = clusters.set_index("text_id")["unit"]
    trust = edges.assign(unit=edges["a_id"].map(home), rank=-edges["source"].map(SOURCES).astype(float))
    best = trust.sort_values(["rank", "source"]).drop_duplicates("unit").set_index("unit")["source"]
    table["stratum"] = best.reindex(table.index).fillna("single")
    table["draw"] = [draw(seed, unit) for unit in table.index]

    heldout_clusters = set(home.reindex(heldout).dropna())
    train_clusters = set(home.reindex(train_only).dropna()) - heldout_clusters
    table["fixed"] = pd.Series(dict.fromkeys(train_clusters, "train"), dtype=str).reindex(table.index)
    if earlier:
        was = home.index.to_series().map(earlier).dropna()
        known = pd.DataFrame({"unit": home.loc[was.index], "split": was})
        rank = known["split"].map({"test": 0, "dev": 1, "train": 2})
        known = known.assign(rank=rank).sort_values("rank").drop_duplicates("unit").set_index("unit")["split"]
        # "must not be trained on" overrides the assignment of an earlier run
        known = known[~((known == "train") & known.index.isin(heldout_clusters))]
        table["fixed"] = known.reindex(table.index).fillna(table["fixed"])

    table["split"] = table["fixed"]
    free = table["fixed"].isna()
    judged = dev_fraction + test_fraction
    for heldout_only in (False, True):
        some = free & (table.index.isin(heldout_clusters) == heldout_only)
        shares = (dev_fraction, test_fraction)
        if heldout_only and judged:
            shares = (dev_fraction / judged, 1 - dev_fraction / judged)
        for _, group in table[some].sort_values("draw").groupby("stratum"):
            # The middle of a cluster decides; test comes first, then dev.
            middle = (group["texts"].cumsum() - group["texts"] / 2) / group["texts"].sum()
            part = np.select(
                [middle < shares[1], middle < sum(shares)], ["test", "dev"], "dev" if heldout_only else "train"
            )
            table.loc[group.index, "split"] = part
    clusters = clusters.assign(split=clusters["unit"].map(table["split"]).astype(str))
    return clusters[["text_id", "cluster_id", "split"]]


def earlier_splits(stage: Stage) -> dict[str, str]:
    """text_id -> split of the earlier run on all data in the same folder; empty if its seed or fractions differ.

    Args:
        stage: 01_positives, running.
    """
    record = read_manifest(stage.run_dir)["stages"].get(stage.name, {})
    same = ("seed", "dev_fraction", "test_fraction")
    if any(record.get("parameters", {}).get(name) != getattr(stage.params, name) for name in same):
        return {}
    file = stage.run_dir / record["outputs"]["splits"]["path"] if "splits" in record.get("outputs", {}) else None
    if file is None or not file.exists():
        return {}
    decided = tables.check("splits", pd.read_parquet(file))
    return dict(zip(decided["text_id"], decided["split"], strict=True))


def splits_to_keep(stage: Stage, clusters: pd.DataFrame) -> pd.DataFrame:
    """The table `splits` (text_id, split), which later runs in the same folder keep.

    A run on a sample (`sample_fraction` below 1) passes on the splits of the earlier run on all data, so that it does
    not change the result of later runs on all data.

    Args:
        stage: 01_positives, running.
        clusters: text_id, split and further columns of this run.
    """
    if stage.params.sample_fraction == 1:
        return clusters[["text_id", "split"]]
    return pd.DataFrame(sorted(earlier_splits(stage).items()), columns=["text_id", "split"])


# --- tables of the notebook ---------------------------------------------------------------------------------------


def overview(clusters: pd.DataFrame, edges: pd.DataFrame) -> pd.DataFrame:
    """Numbers of texts, clusters, clusters of two texts or more, and edges of each source, for each split."""
    size = clusters["cluster_id"].map(clusters["cluster_id"].value_counts())
    table = clusters.groupby("split").agg(texts=("text_id", "size"), clusters=("cluster_id", "nunique"))
    table["clusters of 2 or more"] = clusters[size > 1].groupby("split")["cluster_id"].nunique()
    split = edges["a_id"].map(clusters.set_index("text_id")["split"])
    table = table.join(pd.crosstab(split, edges["source"].map("{} edges".format)))
    return table.reindex(SPLITS).fillna(0).astype("int64").rename_axis(None)


def largest(clusters: pd.DataFrame, texts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` largest clusters: size, split, texts (the 30 most frequent, each cut to 60 characters)."""
    named = clusters.merge(texts, on="text_id").sort_values(["count", "text_id"], ascending=[False, True])
    sizes = named["cluster_id"].value_counts()
    chosen = sorted(sizes[sizes > 1].index, key=lambda cluster: (-sizes[cluster], cluster))[:count]
    rows = []
    for chosen_id in chosen:
        members = named[named["cluster_id"] == chosen_id]
        rows.append((len(members), members["split"].iloc[0], "　·　".join(members["text"].head(30).str.slice(0, 60))))
    return pd.DataFrame(rows, columns=["size", "split", "texts"])


def doubtful(edges: pd.DataFrame, texts: pd.DataFrame, count: int, scores: pd.DataFrame | None = None) -> pd.DataFrame:
    """The `count` edges most likely to be wrong: lowest reranker score, then lowest weight, then least similar texts.

    Args:
        scores: a_id, b_id, score of the pairs that a reranker scored. None: no reranker.

    Returns:
        text, other text, source, support, weight, score (with a reranker; NaN for pairs it did not score), overlap
        (Jaccard overlap of the characters of both texts).
    """
    pairs = ["a_id", "b_id"]
    columns = ["a", "b", "source", "support", "weight", *(["score"] if scores is not None else []), "overlap"]
    names = {"a": "text", "b": "other text"}
    if edges.empty:
        return pd.DataFrame(columns=columns).rename(columns=names)
    table = combine_sources(edges).assign(score=float("nan"))
    if scores is not None:
        table["score"] = table[pairs].merge(scores.drop_duplicates(pairs), how="left", on=pairs)["score"]
    table = table.assign(step=table["weight"].round(2)).sort_values(["score", "step", *pairs]).head(20 * count)
    chosen = edges.merge(table[pairs], on=pairs)
    found = chosen.groupby(pairs).agg(source=("source", lambda s: " + ".join(sorted(s))), support=("support", "sum"))
    table = table.join(found, on=pairs)
    text = texts.set_index("text_id")["text"]
    table = table.assign(a=table["a_id"].map(text), b=table["b_id"].map(text))
    table["overlap"] = [
        len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(table["a"], table["b"], strict=True)
    ]
    table = table.sort_values(["score", "step", "overlap", *pairs]).head(count)
    return table[columns].rename(columns=names).reset_index(drop=True)


def concat_dropped(*tables: pd.DataFrame) -> pd.DataFrame:
    """Several tables of dropped rows as the table `dropped` (source, reason, rows, example)."""
    columns = ["source", "reason", "rows", "example"]
    return pd.concat([table[columns] for table in tables], ignore_index=True).astype({"rows": "int64"})


def dropped_row(source: str, reason: str, rows: int) -> pd.DataFrame:
    """A row without an example for `concat_dropped`; no row if `rows` is 0."""
    table = pd.DataFrame({"source": [source], "reason": [reason], "rows": [rows], "example": [""]})
    return table[table["rows"] > 0]
