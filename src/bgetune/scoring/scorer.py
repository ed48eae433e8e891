"""The scorer of production: similarities as probabilities, matches of a guaranteed precision, search."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from bgetune.data.text import Normalizer
from bgetune.errors import InputError, joined
from bgetune.locale import _
from bgetune.locale.words import said
from bgetune.metrics import calibrators, worth
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts
from bgetune.paths import ROOT
from bgetune.runs.manifest import artifact_path, verify
from bgetune.scoring.settings import read_settings

if TYPE_CHECKING:
    from bgetune.models.reranker import Reranker

KINDS = ("query", "document", "symmetric")
SAME = 0.99
"""Mean cosine of stored vectors with a model's own from which on they are its own, in whatever number format."""


@dataclass(frozen=True)
class Hit:
    """A text that a search found.

    Attributes:
        text_id, text: of the corpus.
        similarity: cosine with the query.
        probability: calibrated, of "the same meaning".
        reranker: the cross-encoder's score in [0, 1], where it was asked.
        both: the score of both models together in [0, 1], where it was asked; it orders the hits.
    """

    text_id: str
    text: str
    similarity: float
    probability: float
    reranker: float | None = None
    both: float | None = None


class Scorer:
    """Scores pairs of texts, and searches the corpus of a run.

    Safe to share between threads: the fitted numbers never change, and the models take one batch at a time.

    Attributes:
        settings: the content of `scoring.json`.
        encoder: the tuned model. It caches no vector on disk: what users ask is nobody's to keep.

    Example (the report of 05_calibrate shows one with the run's own path, texts, precisions and results):
        >>> scorer = Scorer.load("runs/mine")
        >>> probabilities = scorer.score(["忘记支付密码"], ["支付密码怎么找回"])
        >>> matches = scorer.is_match("忘记支付密码", ["支付密码怎么找回", "怎么修改登录密码"], precision=None)
        >>> hits = scorer.search("忘记支付密码", k=3)
    """

    def __init__(self, settings: dict[str, Any], encoder: Encoder, run_dir: Path):
        if encoder.fingerprint != settings["model"]["fingerprint"]:
            raise InputError(
                _(
                    "{run}: scoring.json was made for other weights than those in {model}, and its thresholds would "
                    "be wrong for them; run 05_calibrate again (./run_all.sh --from 05)"
                ).format(run=run_dir, model=encoder.folder)
            )
        self.settings = settings
        self.encoder = encoder
        self.run_dir = run_dir
        self._calibrator = calibrators.from_dict(settings["calibration"])
        form = settings["normalization"]
        self._normalizer = Normalizer.of(form)
        self._corpus: tuple[pd.DataFrame, np.ndarray, str] | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str = "auto") -> Self:
        """The scorer of a finished run.

        Args:
            run_dir: its folder, relative to the working directory or the repository.
            device: ``auto``, ``cpu``, ``cuda``...

        Raises:
            InputError: if the run is not finished, a file of it was changed (whatever its size and time say), or its
                `scoring.json` is damaged, of another version, or made for other weights.
        """
        folder = Path(run_dir) if Path(run_dir).is_dir() else ROOT / run_dir
        settings = read_settings(artifact_path(folder, "scoring.json"))
        encoder = Encoder(
            artifact_path(folder, "model"),
            prompts=Prompts(**settings["model"]["prompts"]),
            max_length=settings["model"]["max_length"],
            device=device,
            cache_dir=None,
        )
        scorer = cls(settings, encoder, folder)
        verify(folder, ["scoring.json", "model"])
        return scorer

    def score(
        self, queries: str | Sequence[str], documents: str | Sequence[str], *, symmetric: bool | None = None
    ) -> np.ndarray:
        """The probability that the texts of each pair mean the same.

        Args:
            queries, documents: n texts each; a single text is paired with every text of the other side.
            symmetric: as for `similarity`.

        Returns:
            (n,) float64 in [0, 1].

        Raises:
            InputError: if something is no text, or an empty one.
        """
        return self.calibrate(self.similarity(queries, documents, symmetric=symmetric))

    def is_match(
        self,
        queries: str | Sequence[str],
        documents: str | Sequence[str],
        precision: float | None = 0.95,
        *,
        symmetric: bool | None = None,
        rerank: bool = False,
    ) -> np.ndarray:
        """Which pairs to accept so that at least the given share of them is right.

        Args:
            precision: one of the profile's `precisions`; None takes the threshold with the best F1, which
                guarantees no precision.
            symmetric: as for `similarity`.
            rerank: decide by both models together (`together`), whose thresholds are their own; else by the cosine.

        Returns:
            (n,) bool.

        Raises:
            InputError: if this precision is not guaranteed (says why, and which are), there is no reranker in the run,
                or something is no text.
        """
        score = self.together if rerank else self.similarity
        scores = score(queries, documents, symmetric=symmetric)
        return scores >= self.threshold(precision, "both" if rerank else "cosine")

    def threshold(self, precision: float | None = None, by: Literal["cosine", "reranker", "both"] = "cosine") -> float:
        """The score from which on a precision is guaranteed; None: that of the best F1 on the calibration pairs.

        Args:
            by: the score that the threshold is of: `similarity`, `rerank` or `together`.

        Raises:
            InputError: if it is not guaranteed, no threshold can be trusted, or the run has none on this score.
        """
        chosen = self.settings["thresholds"] if by == "cosine" else self._made_with.get("thresholds", {}).get(by)
        if chosen is None:
            message = _("{run}: scoring.json has no thresholds on the score {score!r}; run 05_calibrate again")
            raise InputError(message.format(run=self.run_dir, score=by))
        if precision is None:
            if chosen["best_f1"] is None:
                raise InputError(
                    joined(
                        _(
                            "{run}: no threshold on the score {score!r} can be trusted; give more pairs of dev and run "
                            "05_calibrate again"
                        ).format(run=self.run_dir, score=by),
                        worth.caution(self.settings["data"]),
                    )
                )
            return chosen["best_f1"]["threshold"]
        rows = chosen["precision"]
        for row in rows:
            if np.isclose(row["precision"], precision, rtol=0, atol=1e-9) and row["threshold"] is not None:
                return row["threshold"]
        guaranteed = [f"{row['precision']:g}" for row in rows if row["threshold"] is not None]
        why = [row["note"] for row in rows if np.isclose(row["precision"], precision)]
        words = (
            _("{run}: precision {precision:g} is not guaranteed ({why})")
            if why
            else _("{run}: precision {precision:g} is not guaranteed; name it in `precisions` of 05_calibrate")
        )
        raise InputError(
            joined(
                words.format(run=self.run_dir, precision=precision, why=said(why[0]) if why else ""),
                _("guaranteed: {precisions}").format(precisions=", ".join(guaranteed) or _("none")),
            )
        )

    def rerank(self, queries: str | Sequence[str], documents: str | Sequence[str]) -> np.ndarray:
        """(n,) float64 scores in [0, 1] of pairs by the run's reranker alone.

        Raises:
            InputError: if there is no reranker in the run, or it is another one than at calibration; if something is
                no text, or an empty one.
        """
        queries, documents = _paired(queries, documents)
        pairs = zip(self._normal(queries, "queries"), self._normal(documents, "documents"), strict=True)
        return self._reranker.score(list(pairs), progress=False).astype(np.float64)

    def together(
        self, queries: str | Sequence[str], documents: str | Sequence[str], *, symmetric: bool | None = None
    ) -> np.ndarray:
        """(n,) float64 scores in [0, 1] of pairs by both models together: what `rerank=True` decides and orders by.

        Args:
            symmetric: as for `similarity`.

        Raises:
            InputError: as `rerank` does.
        """
        reranked = self.rerank(queries, documents)
        return self.combine(self.similarity(queries, documents, symmetric=symmetric), reranked)

    def combine(self, similarities: np.ndarray, reranked: np.ndarray) -> np.ndarray:
        """(n,) float64 scores of both together, from cosines and scores of the reranker that were computed elsewhere.

        Raises:
            InputError: if there is no reranker in the run.
        """
        combination = calibrators.Combination(**self._made_with["combination"])
        return combination.predict(self.calibrate(similarities), reranked)

    def similarity(
        self, queries: str | Sequence[str], documents: str | Sequence[str], *, symmetric: bool | None = None
    ) -> np.ndarray:
        """(n,) float64 cosines of pairs.

        Args:
            symmetric: True: both sides are of one kind, two queries for example; False: queries that search documents;
                None: as most of the pairs that the thresholds were chosen on. It decides on the model's prompts, and
                changes nothing for a model without.

        Raises:
            InputError: if something is no text, or an empty one.
        """
        queries, documents = _paired(queries, documents)
        if not queries:
            return np.empty(0)
        prompts = self.encoder.prompts
        symmetric = self.settings["model"]["symmetric"] if symmetric is None else symmetric
        if symmetric or prompts.query == prompts.document:
            prompt = prompts.symmetric if symmetric else prompts.query
            both = self._encode([*self._normal(queries, "queries"), *self._normal(documents, "documents")], prompt)
            return cosines(both[: len(queries)], both[len(queries) :])
        left = self._encode(self._normal(queries, "queries"), prompts.query)
        return cosines(left, self._encode(self._normal(documents, "documents"), prompts.document))

    def calibrate(self, similarities: np.ndarray) -> np.ndarray:
        """(n,) float64 probabilities of cosines that were computed elsewhere, by an index for example."""
        return self._calibrator.predict(similarities)

    def embed(
        self, texts: str | Sequence[str], *, kind: Literal["query", "document", "symmetric"] = "symmetric"
    ) -> np.ndarray:
        """The vectors of texts, in the form of the run's texts and with the model's prompt, for an index of one's own.

        Args:
            texts: n texts, or a single one.
            kind: decides on the prompt: ``query`` searches documents, ``document`` is searched, ``symmetric`` texts are
                compared with their own kind.

        Returns:
            (n, d) float32, rows of length 1.

        Raises:
            InputError: if something is no text, or an empty one, or there is no such kind.
        """
        if kind not in KINDS:
            raise InputError(
                _("kind is {kind!r:.80}; give one of {kinds}").format(kind=kind, kinds=", ".join(map(repr, KINDS)))
            )
        normal = self._normal(_listed(texts, "texts"), "texts")
        return self._encode(normal, getattr(self.encoder.prompts, kind))

    def check_vectors(
        self, texts: Sequence[str], vectors: np.ndarray, *, kind: Literal["query", "document", "symmetric"] = "document"
    ) -> None:
        """Refuse stored vectors of another model: texts of an index are encoded again and compared.

        Args:
            texts: n texts, a sample of an index's.
            vectors: (n, d) of these texts, as the index holds them; rows of any length.
            kind: as for `embed`.

        Raises:
            InputError: if the mean cosine with the model's own vectors is below 0.99 (smaller differences come from
                number formats) or no number, the shape is another, or there are no texts.
        """
        own = self.embed(texts, kind=kind)
        if not len(own):
            raise InputError(_("there are no texts to compare the vectors by; give a sample of the index's"))
        stored = np.asarray(vectors, dtype=np.float32)
        if stored.shape != own.shape:
            message = _(
                "the vectors have the shape {shape}, those of this run's model {wanted}; encode the index again"
            )
            raise InputError(message.format(shape=stored.shape, wanted=own.shape))
        with np.errstate(invalid="ignore"):  # infinite vectors get cosines that are no numbers, and are refused below
            stored = stored / np.linalg.norm(stored, axis=1, keepdims=True).clip(min=1e-12)
        alike = cosines(stored, own)
        if not alike.mean() >= SAME:  # a cosine that is no number is neither above nor below
            message = _(
                "the vectors are not of this run's model (their mean cosine with its own is {alike:.3f}; {share:.1%} "
                "are below {same}), and its thresholds mean nothing for them; encode the index again with {model}"
            )
            others = 1 - (alike >= SAME).mean()
            raise InputError(message.format(alike=alike.mean(), share=others, same=SAME, model=self.encoder.folder))

    def search(self, query: str, k: int = 10, *, rerank: bool = False, precision: float | None = None) -> list[Hit]:
        """The texts of the run's corpus that are nearest to a query.

        Args:
            k: at least 1.
            rerank: order the k texts by the bi-encoder and the cross-encoder together. Probabilities stay those of the
                pair, so that thresholds keep their meaning.
            precision: leave out hits below the threshold for this guaranteed precision, as `is_match` does; None: none.

        Returns:
            At most k hits, best first.

        Raises:
            InputError: if this precision is not guaranteed; if there is no reranker in the run, or it is another one
                than at calibration; if the query is no text, or an empty one; if k is no whole number from 1.
        """
        from bgetune.models.index import search

        if not isinstance(k, int | np.integer) or k < 1:
            raise InputError(_("k is {k!r:.80}; give a whole number, 1 or more").format(k=k))
        lowest = -np.inf if precision is None else self.threshold(precision, "both" if rerank else "cosine")
        (text,) = self._normal([query], "query")
        texts, vectors, prompt = self._searchable()
        similarities, positions = search(self._encode([text], prompt), vectors, min(k, len(texts)))
        found = positions[0][positions[0] >= 0]
        similar = similarities[0][: len(found)].astype(np.float64)
        probability = self.calibrate(similar)
        rows = texts.iloc[found]
        reranked = both = None
        decides = similar
        if rerank and len(found):
            reranked = self._reranker.score([(text, candidate) for candidate in rows["text"]], progress=False)
            decides = both = self.combine(similar, reranked)
        return [
            Hit(
                rows["text_id"].iloc[i],
                rows["text"].iloc[i],
                float(similar[i]),
                float(probability[i]),
                None if reranked is None else float(reranked[i]),
                None if both is None else float(both[i]),
            )
            for i in np.argsort(-decides, kind="stable")
            if decides[i] >= lowest
        ]

    def _searchable(self) -> tuple[pd.DataFrame, np.ndarray, str]:
        """The corpus and its vectors, made by the first search, and the prompt of queries that search it."""
        with self._lock:
            if self._corpus is None:
                texts = corpus(pd.read_parquet(artifact_path(self.run_dir, "texts")))
                before_query, before_text = prompts_for(self.encoder.prompts, texts)
                # the corpus is the run's own: its vectors are in the cache that the notebook filled
                encoder = Encoder(self.encoder.folder, max_length=self.encoder.max_length, device=self.encoder.device)
                vectors = encoder.encode(texts["text"].tolist(), prompt=before_text, progress=False)
                self._corpus = texts, vectors, before_query
            return self._corpus

    @cached_property
    def _reranker(self) -> Reranker:
        from bgetune.models.reranker import Reranker

        made_with = self._made_with
        location = made_with["location"] or artifact_path(self.run_dir, "reranker")  # without one, the run's own
        reranker = Reranker(location, max_length=made_with["max_length"], device=self.encoder.device, cache_dir=None)
        if reranker.fingerprint != made_with["fingerprint"]:
            raise InputError(
                _("{model} is not the reranker of {run}; run 05_calibrate again").format(
                    model=location, run=self.run_dir
                )
            )
        return reranker

    @property
    def _made_with(self) -> dict[str, Any]:
        """What `scoring.json` says of the reranker."""
        if self.settings["reranker"] is None:
            raise InputError(
                _("{run}: the run has no reranker; name one in the profile, or go without").format(run=self.run_dir)
            )
        return self.settings["reranker"]

    def normal(self, text: str) -> str:
        """A text in the form of the run's texts: normalised, personal data masked."""
        return self._normalizer(text)

    def _encode(self, texts: list[str], prompt: str) -> np.ndarray:
        return self.encoder.encode(texts, prompt=prompt, progress=False)

    def _normal(self, texts: Sequence[str], name: str) -> list[str]:
        """The texts in the form of the run's.

        Raises:
            InputError: naming the first that is no text, or empty in that form: a score of nothing means nothing.
        """
        normal = []
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(
                    _("{name}[{place}] is {text!r:.80}, no text; give a str").format(name=name, place=place, text=text)
                )
            normal.append(self.normal(text))
            if not normal[-1]:
                raise InputError(
                    _("{name}[{place}] is empty ({text!r:.80}): there is nothing to score; leave it out").format(
                        name=name, place=place, text=text
                    )
                )
        return normal


def corpus(texts: pd.DataFrame) -> pd.DataFrame:
    """What is searched: the documents, or all texts where there are none; ordered by id."""
    documents = texts[texts["kind"] == "document"]
    return (documents if len(documents) else texts).sort_values("text_id", ignore_index=True)


def prompts_for(prompts: Prompts, searched: pd.DataFrame) -> tuple[str, str]:
    """What is put before a query, and before the texts that it searches: all of them are documents, or none."""
    kind = "document" if (searched["kind"] == "document").all() else "query"
    before_query, before_text = prompts.before(np.array(["query", kind]), np.array([kind, "query"]))
    return before_query, before_text


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) float64 inner products of the rows of two (n, d) arrays of unit rows."""
    return np.einsum("ij,ij->i", left, right, dtype=np.float64)


def _paired(queries: str | Sequence[str], documents: str | Sequence[str]) -> tuple[list[str], list[str]]:
    left, right = _listed(queries, "queries"), _listed(documents, "documents")
    if isinstance(queries, str):
        left *= len(right)
    elif isinstance(documents, str):
        right *= len(left)
    if len(left) != len(right):
        raise InputError(
            _("{queries} queries and {documents} documents: pairs need as many of each").format(
                queries=len(left), documents=len(right)
            )
        )
    return left, right


def _listed(texts: str | Sequence[str], name: str) -> list[str]:
    """A text, or a list of them, as a list."""
    if not isinstance(texts, Iterable):  # a text is one, too
        raise InputError(_("{name} is {texts!r:.80}; give a text, or a list of texts").format(name=name, texts=texts))
    return [texts] if isinstance(texts, str) else list(texts)
