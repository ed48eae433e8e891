"""The gate: which paraphrases are kept, and for each that is not the first rule that rejected it.

A wrong paraphrase is a false positive in every training batch, a missing one costs nothing: in doubt the gate says no.
Similarity alone cannot tell, because a drifted model finds everything similar; so what decides is comparison (is it
nearer to its own cluster than to any other?), the reranker, and what must be literally the same: numbers, names,
negation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
"""The rules in their order, and what each says of a text that it drops."""

COLUMNS = (
    *("origin_id", "text_id", "text", "source", "via", "pivot_text", "support", "asks"),
    *("change", "fluency", "agreement", "similarity", "own_similarity", "other_similarity", "reranker", "reason"),
)

_TYPES = {
    **dict.fromkeys(("origin_id", "text", "source", "via", "pivot_text"), str),
    **{"support": "int64", "fluency": float, "agreement": float, "asks": bool},
}

NEIGHBOURS = 50
"""Texts of the graph that are looked at to find a paraphrase's nearest cluster and the nearest other one."""


def collect(
    origins: pd.DataFrame,
    translations: pd.DataFrame,
    generated: Mapping[str, pd.DataFrame] | None = None,
    normalizer: Normalizer = STANDARD,
) -> pd.DataFrame:
    """Everything that was translated or generated, normalised, as one table; what became equal is one row.

    Args:
        origins: rows of the table of texts that `translations.origin` counts in.
        translations: see `bgetune.augment.backtranslate.back_translate`.
        generated: task (queries or paraphrases) -> `origin_id`, `via`, `text`.
        normalizer: of the run; a translator may answer in traditional characters, a language model with a number.
    """
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
    # one row a text that was made of one origin, whatever the ways; from a person's side it is one paraphrase
    return table.groupby(["origin_id", "text"], sort=False, as_index=False).agg(
        source=("source", "first"),
        via=("via", lambda ways: ", ".join(dict.fromkeys(ways))),
        pivot_text=("pivot_text", "first"),
        support=("support", "sum"),
        fluency=("fluency", "max"),
        agreement=("agreement", "max"),
        asks=("asks", "first"),
    )


def judge(
    candidates: pd.DataFrame,
    texts: pd.DataFrame,
    clusters: pd.DataFrame,
    gate: Gate,
    *,
    encoder: Encoder | None = None,
    reranker: Reranker | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Candidates with what was measured of them and the reason why each was dropped.

    Args:
        candidates: `origin_id`, `text` (normalised), `source` (back_translation or generated), `via`, `pivot_text`,
            `support`, `fluency` and `agreement` (NaN where nothing was translated), and `asks`: true for a query that
            was written for a document; it need not repeat all of it, so of the literal rules only "invents no number
            and no name" applies.
        texts: the table of texts; origins are in it.
        clusters: the table of clusters of all splits. An origin in none is a cluster of its own.
        gate: the rules.
        encoder: None leaves out the rules that need it.
        reranker: likewise. It is also asked whether a cluster that is nearer than the own one means the same; if it
            says so, this is no reason to drop.

    Returns:
        The table `paraphrases` in the order of the candidates: `change` in [0, 1]; `similarity` to the origin,
        `own_similarity` and `other_similarity` to the nearest text of its cluster and of any other, as cosines;
        `reranker` in [0, 1], NaN where no score was needed; `reason`, empty for what is kept.
    """
    table = candidates.reset_index(drop=True).astype(_TYPES)
    table["text_id"] = table["text"].map(text_id).astype(str)
    table["reason"] = pd.Series("", index=table.index, dtype=str)
    origin = table["origin_id"].map(texts.set_index("text_id")["text"])
    own = table["origin_id"].map(clusters.set_index("text_id")["cluster_id"]).fillna(table["origin_id"])
    table["change"] = _each(surface.change, origin, table["text"])

    def drop(reason: str, bad) -> None:
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
            # the top of the band in float32: a copy's cosine can be 1.0000001
            low, high = gate.similarity[0], gate.similarity[1] + 1e-6
            drop("similarity", ~table["similarity"].between(low, high))
        if gate.own_cluster_margin is not None:
            astray = ~(table["own_similarity"] - table["other_similarity"] > gate.own_cluster_margin)
            if reranker is not None and gate.min_reranker is not None:
                # mined clusters split meanings: what is nearer may be another cluster of the same one
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
    """Candidates that each rule dropped, and what is left after it: one row a rule, in the rules' order."""
    dropped = table["reason"].value_counts().reindex(list(RULES), fill_value=0)
    left = len(table) - dropped.cumsum()
    return pd.DataFrame({"says": list(RULES.values()), "dropped": dropped, "left": left}).rename_axis("rule")


def dropped_rows(paraphrases: pd.DataFrame, texts: pd.DataFrame, failures: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The table `dropped`: candidates by source and rule, and texts that a language model gave no answer for.

    Args:
        paraphrases: see `judge`.
        texts: the table of texts.
        failures: task -> `text`, `reason`; see `bgetune.augment.generate.generate_for`.
    """
    gone = paraphrases[paraphrases["reason"] != ""]
    origin = gone["origin_id"].map(texts.set_index("text_id")["text"])
    frames = [gone[["source", "reason"]].assign(example=origin + " -> " + gone["text"])]
    for task, fates in failures.items():
        failed = fates[fates["reason"] != ""]
        frames.append(failed[["reason"]].assign(source=f"generated {task}", example=failed["text"]))
    table = pd.concat(frames).groupby(["source", "reason"], as_index=False, sort=False)
    return table.agg(rows=("example", "size"), example=("example", "first")).astype(
        {"source": str, "reason": str, "rows": "int64", "example": str}
    )


def _literal_rules(table: pd.DataFrame, origin: pd.Series, paraphrase: pd.Series, gate: Gate, drop) -> None:
    """Numbers, names and negation; a query written for a document may leave them out, but invent none."""

    def differs(found) -> pd.Series:
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
    """Fill in the similarities to the origin, to its cluster and to the nearest other cluster.

    Returns:
        The nearest text of another cluster for each row, "" where there is none.
    """
    rows = np.flatnonzero(table["text"] != "")
    nearest = np.full(len(table), "", dtype=object)
    if not len(rows):
        return nearest
    # a text that stands alone is evidence of nothing: it may well belong here, and no log said so
    grouped = clusters[clusters.groupby("cluster_id")["cluster_id"].transform("size") > 1]
    known = grouped.merge(texts[["text_id", "text"]], on="text_id")
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
        others = np.where(~ours & (positions >= 0), similarities, -1)
        best_other = others.max(axis=1)
        place = positions[np.arange(len(rows)), others.argmax(axis=1)]
        nearest[rows] = np.where(best_other > -1, known["text"].to_numpy(dtype=object)[place], "")
    columns = ["similarity", "own_similarity", "other_similarity"]
    table.loc[rows, columns] = np.column_stack([to_origin, best_own, best_other])
    return nearest


def _choose(table: pd.DataFrame, own: pd.Series, gate: Gate, drop) -> None:
    """Among those that pass: nothing that two clusters claim, nothing twice, not too many of one text."""
    alive = table[table["reason"] == ""]
    cores = table["text"].map(surface.core)
    claims = own[alive.index].groupby(cores[alive.index]).nunique()
    drop("two clusters", cores.map(claims) > 1)
    alive = table[table["reason"] == ""].sort_values(["support", "change"], ascending=False, kind="stable")
    drop("duplicate", table.index.isin(alive.index[cores[alive.index].duplicated()]))
    if gate.max_per_text is not None:
        alive = table[table["reason"] == ""].sort_values("change", ascending=False, kind="stable")
        beyond = alive.groupby("origin_id").cumcount() >= gate.max_per_text
        drop("enough", table.index.isin(beyond.index[beyond]))


def _each(compare, a: pd.Series, b: pd.Series) -> pd.Series:
    return pd.Series([compare(*pair) for pair in zip(a, b, strict=True)], index=a.index, dtype=float)
