"""Which pairs the scores are judged and calibrated on, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bgetune.data.tables import SOURCES
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.scoring.scorer import cosines

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder

COLUMNS = ["query_id", "text_id", "label", "kind", "split"]


def evaluation_pairs(
    heldout: pd.DataFrame, graded: pd.DataFrame | None, *, min_labelled: int = 100, judged: str = "held out"
) -> tuple[pd.DataFrame, str]:
    """The pairs of dev and test that calibration trusts: those labelled by people where there are enough.

    Otherwise the positives and hard negatives that the pipeline held out. Random pairs are left out either way: no
    search proposes them, so they would make every score look right and every threshold look safe.

    Args:
        heldout, graded: see `tables.SCHEMAS`.
        min_labelled: labelled pairs of either label that dev and test must each have.
        judged: what the held-out positives come from, see `bgetune.graph.outlook.judged_by`.

    Returns:
        ``query_id, text_id, label, kind, split`` ordered by ids, and their origin: ``labelled`` or `judged`.

    Raises:
        InputError: if dev or test lacks one of the labels in both tables.
    """
    mined = heldout[heldout["kind"] != "random"]
    if graded is not None:
        people = graded[graded["split"] != "train"].rename(columns={"a_id": "query_id", "b_id": "text_id"})
        people["kind"] = np.where(people["label"] == 1, "positive", "hard_negative")
        if _fewest(people) >= min_labelled:
            return _ordered(people), "labelled"
    if _fewest(mined) < 2:
        counts = mined.groupby(["split", "label"]).size()
        there = "; ".join(
            _("{split}: {positives} positive, {negatives} negative").format(
                split=split, positives=counts.get((split, 1), 0), negatives=counts.get((split, 0), 0)
            )
            for split in ("dev", "test")
        )
        raise InputError(
            _(
                "05_calibrate: dev and test each need two positive and two negative pairs, or min_labelled "
                "({min_labelled}) labelled ones of each; held out are {there}. Give labelled pairs "
                "(01_positives: sources: pairs), more data to mine them from, or larger dev_fraction and "
                "test_fraction"
            ).format(min_labelled=min_labelled, there=there)
        )
    return _ordered(mined), judged


def random_pairs(heldout: pd.DataFrame) -> pd.DataFrame:
    """The random pairs that were held out."""
    return _ordered(heldout[heldout["kind"] == "random"])


def cluster_of(pairs: pd.DataFrame, clusters: pd.DataFrame) -> np.ndarray:
    """(n,) the cluster of each pair's query; a query in none is a cluster of its own."""
    known = clusters.set_index("text_id")["cluster_id"]
    return pairs["query_id"].map(known).fillna(pairs["query_id"]).to_numpy()


def similarities(encoder: Encoder, pairs: pd.DataFrame, texts: pd.DataFrame) -> np.ndarray:
    """(n,) float64 cosines of pairs; each text gets the prompt of its pair's task, on whichever side it stands.

    Raises:
        InputError: if a text of a pair is not in `texts`.
    """
    if pairs.empty:
        return np.empty(0)
    by_id = texts.set_index("text_id")
    missing = set(pairs["query_id"]).union(pairs["text_id"]) - set(by_id.index)
    if missing:
        raise InputError(
            _("pairs name texts that are not in the table texts, for example {text}").format(text=min(missing))
        )
    left, right = by_id.loc[pairs["query_id"]], by_id.loc[pairs["text_id"]]
    return cosines(_encode(encoder, left, right), _encode(encoder, right, left))


def _encode(encoder: Encoder, texts: pd.DataFrame, counterparts: pd.DataFrame) -> np.ndarray:
    """(n, d) vectors of the rows of `texts`, each with the prompt that its counterpart calls for."""
    prompts = encoder.prompts.before(texts["kind"].to_numpy(), counterparts["kind"].to_numpy())
    written = texts["text"].to_numpy()
    vectors = {prompt: encoder.encode(written[prompts == prompt].tolist(), prompt=prompt) for prompt in set(prompts)}
    rows = np.empty((len(texts), max(part.shape[1] for part in vectors.values())), dtype=np.float32)
    for prompt, part in vectors.items():
        rows[prompts == prompt] = part
    return rows


def are_symmetric(pairs: pd.DataFrame, texts: pd.DataFrame) -> bool:
    """Whether most pairs are of one kind (two queries), rather than of a query and a document that it searches."""
    kind = texts.set_index("text_id")["kind"]
    left, right = (kind.loc[pairs[column]].to_numpy() for column in ("query_id", "text_id"))
    return bool((left == right).mean() > 0.5)


def slices(
    pairs: pd.DataFrame, texts: pd.DataFrame, edges: pd.DataFrame, clusters: pd.DataFrame
) -> dict[str, pd.Categorical]:
    """Ways to part pairs by their query: length in characters (thirds), most trusted source of its cluster, frequency.

    Args:
        pairs: ``query_id, cluster_id``, ...
    """
    by_id = texts.set_index("text_id")
    length = by_id["text"].loc[pairs["query_id"]].str.len().to_numpy()
    short, medium = (int(np.quantile(length, share)) for share in (1 / 3, 2 / 3))
    lengths = [f"up to {short} characters", f"{short + 1} to {medium}", f"more than {medium}"]
    trust = {source: place for place, source in enumerate(SOURCES)}
    owner = edges["a_id"].map(clusters.set_index("text_id")["cluster_id"])
    best = edges.assign(cluster_id=owner, place=edges["source"].map(trust)).sort_values("place", kind="stable")
    best = best.drop_duplicates("cluster_id").set_index("cluster_id")["source"]
    source = pairs["cluster_id"].map(best).fillna("no edge").to_numpy()
    count = by_id["count"].loc[pairs["query_id"]].to_numpy()
    frequencies = ["seen once", "2 to 9 times", "10 times or more"]
    return {
        "length": _categories(np.digitize(length, [short + 0.5, medium + 0.5]), lengths),
        "source": pd.Categorical(source, [name for name in [*SOURCES, "no edge"] if name in set(source)]),
        "frequency": _categories(np.digitize(count, [2, 10]), frequencies),
    }


def relevance(
    queries: pd.DataFrame,
    corpus_ids: pd.Index,
    clusters: pd.DataFrame,
    graded: pd.DataFrame | None,
) -> dict[str, dict[str, int]]:
    """What should be found for each query: texts of its cluster (gain 4), and what people call the same (4 x grade).

    Args:
        queries: ``text_id, cluster_id``.
        corpus_ids: ids of the texts that are searched.

    Returns:
        query -> {id: gain}; only queries with something to find.
    """
    inside = clusters[clusters["text_id"].isin(corpus_ids)]
    found = queries.merge(inside, on="cluster_id", suffixes=("", "_other"))
    found = found[found["text_id"] != found["text_id_other"]]
    gains: dict[str, dict[str, int]] = {}
    for query, text in zip(found["text_id"], found["text_id_other"], strict=True):
        gains.setdefault(query, {})[text] = 4
    if graded is not None:
        high = graded[graded["label"] == 1]
        for a, b, grade in zip(high["a_id"], high["b_id"], high["grade"], strict=True):
            for query, text in ((a, b), (b, a)):
                if text in corpus_ids:
                    gains.setdefault(query, {}).setdefault(text, max(1, round(4 * grade)))
    return {query: gains[query] for query in queries["text_id"] if query in gains}


def balance(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs by split: ``positives, negatives, share of positives``, and ``clusters`` where the pairs name theirs."""
    counts = pairs.groupby("split")["label"].agg(["sum", "size"])
    table = pd.DataFrame(
        {
            "positives": counts["sum"],
            "negatives": counts["size"] - counts["sum"],
            "share of positives": counts["sum"] / counts["size"],
        }
    )
    return table.assign(clusters=pairs.groupby("split")["cluster_id"].nunique()) if "cluster_id" in pairs else table


def _fewest(pairs: pd.DataFrame) -> int:
    """The smallest number of pairs of a label in dev or test."""
    counts: Mapping = pairs.groupby(["split", "label"]).size().to_dict()
    return min(counts.get((split, label), 0) for split in ("dev", "test") for label in (0, 1))


def _ordered(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs by split and ids; one that is there in both directions is one witness, not two, and stays once."""
    pairs = pairs[COLUMNS].sort_values(["split", "query_id", "text_id"], ignore_index=True)
    swap = pairs["query_id"] > pairs["text_id"]
    undirected = pairs[["query_id", "text_id"]].mask(swap, pairs[["text_id", "query_id"]].to_numpy())
    return pairs[~undirected.duplicated()].reset_index(drop=True)


def _categories(codes: np.ndarray, names: list[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, names)
