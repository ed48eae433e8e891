"""The gate: which paraphrases are kept, and the first rule that rejects each of the others.

A wrong paraphrase is a false positive in training, and a missing one costs little, so doubtful ones are rejected.
Similarity alone cannot decide, because similarities of a drifted model bunch. The rules compare similarities (a
paraphrase must be nearer to its own cluster than to any other), read the reranker's score, and require the same
numbers, names and negation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bgetune.augment import surface
from bgetune.config.augmentation import Gate
from bgetune.data.text import STANDARD, Normalizer, text_id
from bgetune.models.index import search

if TYPE_CHECKING:
    from bgetune.models.encoder import Encoder
    from bgetune.models.reranker import Reranker

RULES = {
    "no text": "nothing came back, or too few characters",
    "known": "the text was there before",
    "copy": "the surface hardly changed",
    "length": "much shorter or longer",
    "numbers": "other numbers or units",
    "latin": "other Latin words or codes",
    "terms": "other product names or protected terms",
    "negation": "negated where the origin is not, or the reverse",
    "fluency": "the translator itself finds it unlikely",
    "meaning lost": "translated again, a word of the pivot text would no longer come",
    "similarity": "similarity to the origin outside the band",
    "other cluster": "as near to a cluster of another meaning as to its own",
    "reranker": "the reranker does not find the same meaning",
    "two clusters": "made from two clusters, so it is of neither",
    "duplicate": "made from another text of the cluster too",
    "enough": "its text has the wanted number already",
}
"""Name of a rule -> why it rejects a paraphrase, in the order in which the rules apply."""

COLUMNS = (
    *("origin_id", "text_id", "text", "source", "via", "pivot_text", "support", "asks"),
    *("change", "fluency", "agreement", "similarity", "own_similarity", "other_similarity", "reranker", "reason"),
)

_TYPES = {
    **dict.fromkeys(("origin_id", "text", "source", "via", "pivot_text"), str),
    **{"support": "int64", "fluency": float, "agreement": float, "asks": bool},
}

Drop = Callable[[str, ArrayLike], None]
"""Records a rule for the rows of a mask that no earlier rule rejected."""

NEIGHBOURS = 50
"""Number of nearest texts of the graph among which a paraphrase's own cluster and the nearest other one are found."""


def collect(
    origins: pd.DataFrame,
    translations: pd.DataFrame | None,
    generated: Mapping[str, pd.DataFrame] | None = None,
    normalizer: Normalizer = STANDARD,
) -> pd.DataFrame:
    """All translated and generated texts, normalised, as one table; equal texts of one origin are one row.

    Args:
        origins: rows of the table `texts`; `translations.origin` is a position in it.
        translations: see `bgetune.augment.backtranslate.back_translate`. None: none.
        generated: task (queries or paraphrases; other tasks are passed over) -> origin_id, via, text.
        normalizer: of the run. (A translator may answer in traditional characters, a language model with a phone
            number.)

    Returns:
        origin_id, text, source, via, pivot_text, support, fluency, agreement, asks: see `check`.
    """
    if translations is None:
        columns = ["origin", "via", "pivot_text", "paraphrase", "support", "fluency", "agreement"]
        translations = pd.DataFrame({name: [] for name in columns})
    frames = [
        pd.DataFrame(
            {
                "origin_id": origins["text_id"].to_numpy()[translations["origin"].to_numpy(dtype=int)],
                "text": translations["paraphrase"],
                "source": "back_translation",
                "via": translations["via"],
                "pivot_text": translations["pivot_text"],
                "support": translations["support"],
                "fluency": translations["fluency"],
                "agreement": translations["agreement"],
                "asks": False,
            }
        )
    ]
    for task, found in (generated or {}).items():
        if task not in ("queries", "paraphrases"):
            continue
        rest = {
            "source": "generated",
            "pivot_text": "",
            "support": 1,
            "fluency": np.nan,
            "agreement": np.nan,
            "asks": task == "queries",
        }
        frames.append(found[["origin_id", "text", "via"]].assign(**rest))
    table = pd.concat(frames, ignore_index=True).astype(_TYPES)
    table["text"] = table["text"].map(normalizer).astype(str)
    # one row for each text of an origin, however many pivots made it
    return table.groupby(["origin_id", "text"], sort=False, as_index=False).agg(
        source=("source", "first"),
        via=("via", lambda ways: ", ".join(dict.fromkeys(ways))),
        pivot_text=("pivot_text", "first"),
        support=("support", "sum"),
        fluency=("fluency", "max"),
        agreement=("agreement", "max"),
        asks=("asks", "first"),
    )


def check(
    candidates: pd.DataFrame,
    texts: pd.DataFrame,
    clusters: pd.DataFrame,
    gate: Gate,
    *,
    encoder: Encoder | None = None,
    reranker: Reranker | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Apply the rules of the gate to paraphrases.

    Args:
        candidates: origin_id, text (normalised), source (back_translation or generated), via, pivot_text, support,
            fluency and agreement (NaN without a translation model), asks (bool: a query written for a document. It need
            not repeat the whole document, so numbers and names must only not be invented, and length and negation do
            not matter).
        texts: the table `texts`, with the origins.
        clusters: the table `clusters` of all splits. An origin of no cluster is a cluster of its own.
        gate: the rules.
        encoder: None: the rules that need similarities do not apply.
        reranker: None: the rule that needs scores does not apply. The reranker also decides whether a cluster that is
            nearer than the own one means the same; then the paraphrase is not rejected for it.
        progress: whether to show progress bars.

    Returns:
        The table `paraphrases`, in the order of the candidates: the columns above and text_id; change (see
        `surface.change`); similarity to the origin, own_similarity and other_similarity to the nearest text of the own
        cluster and of any other (cosines); reranker (score in [0, 1], NaN where none was needed); reason (the first
        rule that rejects it, "" for kept ones).
    """
    table = candidates.reset_index(drop=True).astype(_TYPES)
    table["text_id"] = table["text"].map(text_id).astype(str)
    table["reason"] = pd.Series("", index=table.index, dtype=str)
    origin = table["origin_id"].map(texts.set_index("text_id")["text"])
    own = table["origin_id"].map(clusters.set_index("text_id")["cluster_id"]).fillna(table["origin_id"])
    table["change"] = _each(surface.change, origin, table["text"])

    def drop(reason: str, bad: ArrayLike) -> None:
        table.loc[(table["reason"] == "") & np.asarray(bad, dtype=bool), "reason"] = reason

    drop("no text", table["text"].str.len() < (gate.min_characters or 1))
    drop("known", table["text"].map(surface.core).isin(set(texts["text"].map(surface.core))))
    paraphrase = ~table["asks"]
    if gate.min_change is not None:
        drop("copy", table["change"] < gate.min_change)
    if gate.length_ratio is not None:
        ratio = _each(surface.length_ratio, origin, table["text"])
        drop("length", paraphrase & ~ratio.between(*gate.length_ratio))
    _literal_rules(table, origin, paraphrase, gate, drop)

    if gate.min_fluency is not None:
        drop("fluency", table["fluency"] < gate.min_fluency)
    if gate.min_agreement is not None:
        drop("meaning lost", table["agreement"] < gate.min_agreement)
    table["similarity"] = table["own_similarity"] = table["other_similarity"] = np.nan
    scores = np.full(len(table), np.nan)
    if encoder is not None:
        nearest = _measure(table, own, texts, clusters, encoder, progress)
        if gate.similarity is not None:
            # cosines are float32: that of a copy can be 1.0000001
            low, high = gate.similarity[0], gate.similarity[1] + 1e-6
            drop("similarity", ~table["similarity"].between(low, high))
        if gate.own_cluster_margin is not None:
            astray = ~(table["own_similarity"] - table["other_similarity"] > gate.own_cluster_margin)
            if reranker is not None and gate.min_reranker is not None:
                # one meaning may have several clusters: the nearer cluster may mean the same
                doubtful = np.flatnonzero(astray & (table["reason"] == ""))
                pairs = [(origin[row], nearest[row]) for row in doubtful]
                astray.iloc[doubtful] = reranker.score(pairs, progress=progress) < gate.min_reranker
            drop("other cluster", astray)
    if reranker is not None and gate.min_reranker is not None:
        alive = np.flatnonzero(table["reason"] == "")
        pairs = [
            (table["text"][row], origin[row]) if table["asks"][row] else (origin[row], table["text"][row])
            for row in alive
        ]
        scores[alive] = reranker.score(pairs, progress=progress)
        drop("reranker", scores < gate.min_reranker)
    table["reranker"] = scores
    _choose(table, own, gate, drop)
    return table[list(COLUMNS)]


def yield_by_rule(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers of paraphrases that each rule rejects: index rule, columns says (why), dropped, left (after the rule)."""
    dropped = table["reason"].value_counts().reindex(list(RULES), fill_value=0)
    left = len(table) - dropped.cumsum()
    return pd.DataFrame({"says": list(RULES.values()), "dropped": dropped, "left": left}).rename_axis("rule")


def dropped_rows(
    paraphrases: pd.DataFrame, near_misses: pd.DataFrame, texts: pd.DataFrame, failures: Mapping[Any, pd.DataFrame]
) -> pd.DataFrame:
    """The table `dropped`: rejected texts by source and rule, and texts without an answer of the language model.

    Args:
        paraphrases: see `check`.
        near_misses: see `bgetune.augment.near_misses.check`.
        texts: the table `texts`.
        failures: task -> text, reason; see `bgetune.augment.generate.generate_for`.
    """
    gone = pd.concat([paraphrases, near_misses.assign(source="generated near_misses")], ignore_index=True)
    gone = gone[gone["reason"] != ""]
    origin = gone["origin_id"].map(texts.set_index("text_id")["text"])
    frames = [gone[["source", "reason"]].assign(example=origin + " -> " + gone["text"])]
    for task, outcomes in failures.items():
        failed = outcomes[outcomes["reason"] != ""]
        frames.append(failed[["reason"]].assign(source=f"generated {task}", example=failed["text"]))
    table = pd.concat(frames).groupby(["source", "reason"], as_index=False, sort=False)
    return table.agg(rows=("example", "size"), example=("example", "first")).astype(
        {"source": str, "reason": str, "rows": "int64", "example": str}
    )


def _literal_rules(table: pd.DataFrame, origin: pd.Series, paraphrase: pd.Series, gate: Gate, drop: Drop) -> None:
    """Apply the rules for numbers, names and negation; a query for a document may leave them out, but not add any."""

    def differs(found: Callable[[str], Any]) -> pd.Series:
        a, b = origin.map(found), table["text"].map(found)
        invented = np.array([not set(theirs) <= set(ours) for ours, theirs in zip(a, b, strict=True)], dtype=bool)
        return (paraphrase & (a != b)) | (~paraphrase & invented)

    if gate.numbers:
        drop("numbers", differs(surface.numbers))
    if gate.latin:
        drop("latin", differs(surface.latin_tokens))
    if gate.terms:
        drop("terms", differs(lambda text: surface.terms_in(text, gate.terms)))
    if gate.negation:
        drop("negation", paraphrase & ~_each(surface.same_negation, origin, table["text"]).astype(bool))


def _measure(
    table: pd.DataFrame,
    own: pd.Series,
    texts: pd.DataFrame,
    clusters: pd.DataFrame,
    encoder: Encoder,
    progress: bool,
) -> np.ndarray:
    """Fill the columns similarity, own_similarity and other_similarity.

    Returns:
        (n,) str: the nearest text of another cluster for each row, "" if there is none.
    """
    rows = np.flatnonzero(table["text"] != "")
    nearest = np.full(len(table), "", dtype=object)
    if not len(rows):
        return nearest
    # a cluster of one text is no evidence: it may mean the same without any edge
    grouped = clusters[clusters.groupby("cluster_id")["cluster_id"].transform("size") > 1]
    known = grouped.merge(texts[["text_id", "text", "kind"]], on="text_id")
    vectors = encoder.encode(table["text"].iloc[rows].tolist(), progress=progress)
    text_of = texts.set_index("text_id")["text"]
    origins = encoder.encode(table["origin_id"].iloc[rows].map(text_of).tolist(), progress=progress)
    to_origin = (vectors * origins).sum(axis=1)
    best_own, best_other = to_origin, np.full(len(rows), -1.0, dtype=np.float32)
    if len(known):
        corpus = encoder.encode(known["text"].tolist(), progress=progress)
        similarities, positions = search(vectors, corpus, min(NEIGHBOURS, len(known)))
        cluster_of = known["cluster_id"].to_numpy()
        ours = cluster_of[positions] == own.to_numpy()[rows][:, None]
        best_own = np.maximum(to_origin, np.where(ours, similarities, -1).max(axis=1))
        # a query is nearer to other queries than to its own document: it is compared with other documents alone
        alike = ~table["asks"].to_numpy()[rows][:, None] | (known["kind"].to_numpy()[positions] == "document")
        others = np.where(~ours & (positions >= 0) & alike, similarities, -1)
        best_other = others.max(axis=1)
        place = positions[np.arange(len(rows)), others.argmax(axis=1)]
        nearest[rows] = np.where(best_other > -1, known["text"].to_numpy(dtype=object)[place], "")
    columns = ["similarity", "own_similarity", "other_similarity"]
    table.loc[rows, columns] = np.column_stack([to_origin, best_own, best_other])
    return nearest


def _choose(table: pd.DataFrame, own: pd.Series, gate: Gate, drop: Drop) -> None:
    """Apply the rules two clusters, duplicate and enough, which compare paraphrases with each other."""
    alive = table[table["reason"] == ""]
    cores = table["text"].map(surface.core)
    claims = own[alive.index].groupby(cores[alive.index]).nunique()
    drop("two clusters", cores.map(claims) > 1)
    alive = table[table["reason"] == ""].sort_values(["support", "change"], ascending=False, kind="stable")
    drop("duplicate", table.index.isin(alive.index[cores[alive.index].duplicated()]))
    if gate.max_per_text is not None:
        # how many queries are written for a document is a parameter of its own
        alive = table[(table["reason"] == "") & ~table["asks"]]
        alive = alive.sort_values("change", ascending=False, kind="stable")
        beyond = alive.groupby("origin_id").cumcount() >= gate.max_per_text
        drop("enough", table.index.isin(beyond.index[beyond]))


def _each(compare: Callable[[str, str], float], a: pd.Series, b: pd.Series) -> pd.Series:
    """compare(a, b) for each row: float64, with the index of a."""
    return pd.Series([compare(*pair) for pair in zip(a, b, strict=True)], index=a.index, dtype=float)
