"""The scorer of production: similarities of the tuned model as probabilities, matches that keep a promise, search."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from bgetune.data.text import Normalizer
from bgetune.errors import InputError
from bgetune.metrics import calibrators
from bgetune.models.encoder import Encoder
from bgetune.paths import ROOT
from bgetune.runs.manifest import artifact_path
from bgetune.scoring import reference

if TYPE_CHECKING:
    from bgetune.models.reranker import Reranker
    from bgetune.scoring.thresholds import Thresholds

VERSION = 1
"""Of the form of `scoring.json`."""


@dataclass(frozen=True)
class Hit:
    """A text that a search found.

    Attributes:
        text_id, text: of the corpus.
        similarity: cosine with the query.
        probability: calibrated, of "the same meaning".
        reranker: the cross-encoder's score in [0, 1], where it was asked.
    """

    text_id: str
    text: str
    similarity: float
    probability: float
    reranker: float | None = None


class Scorer:
    """Scores pairs of texts, and searches the corpus of a run.

    Safe to share between threads: the fitted numbers never change, and the models take one batch at a time.

    Attributes:
        settings: the content of `scoring.json`.
        encoder: the tuned model. It caches no vector on disk: what users ask is nobody's to keep.

    Example:
        >>> scorer = Scorer.load("runs/demo")
        >>> scorer.score(["忘记支付密码"], ["支付密码怎么找回"])
        array([0.97])
        >>> scorer.is_match("忘记支付密码", ["支付密码怎么找回", "怎么修改登录密码"], precision=0.95)
        array([ True, False])
        >>> scorer.search("忘记支付密码", k=3, rerank=True)[0].text
        '支付密码怎么找回'
    """

    def __init__(self, settings: dict[str, Any], encoder: Encoder, run_dir: Path):
        if settings.get("version") != VERSION:
            raise InputError(f"{run_dir}: scoring.json is of another version of bgetune; run 05_calibrate again")
        if encoder.fingerprint != settings["model"]["fingerprint"]:
            raise InputError(
                f"{run_dir}: scoring.json was made for other weights than those in {encoder.folder}, and its "
                f"thresholds would be wrong for them; run 05_calibrate again (./run_all.sh --from 05)"
            )
        self.settings = settings
        self.encoder = encoder
        self.run_dir = run_dir
        self._calibrator = calibrators.from_dict(settings["calibration"])
        form = settings["normalization"]
        self._normalizer = Normalizer(tuple(form["mask"]), form["opencc"])
        self._corpus: tuple[pd.DataFrame, np.ndarray] | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str = "auto") -> Self:
        """The scorer of a finished run.

        Args:
            run_dir: its folder, relative to the working directory or the repository.
            device: ``auto``, ``cpu``, ``cuda``...

        Raises:
            InputError: if the run is not finished, or its `scoring.json` was made for other weights.
        """
        folder = Path(run_dir) if Path(run_dir).is_dir() else ROOT / run_dir
        file = artifact_path(folder, "scoring.json")
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
            model = settings["model"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged; run 05_calibrate again") from None
        encoder = Encoder(
            artifact_path(folder, "model"),
            query_instruction=model["query_instruction"],
            max_length=model["max_length"],
            device=device,
            cache_dir=None,
        )
        return cls(settings, encoder, folder)

    def score(self, queries: str | Sequence[str], documents: str | Sequence[str], **options: bool) -> np.ndarray:
        """The probability that the texts of each pair mean the same.

        Args:
            queries, documents: n texts each; a single text is paired with every text of the other side.
            options: of `similarity`.

        Returns:
            (n,) float64 in [0, 1].
        """
        return self.calibrate(self.similarity(queries, documents, **options))

    def is_match(
        self,
        queries: str | Sequence[str],
        documents: str | Sequence[str],
        precision: float | None = 0.95,
        **options: bool,
    ) -> np.ndarray:
        """Which pairs to accept so that at least the given share of them is right.

        Args:
            precision: one of the profile's `precisions`; None takes the threshold with the best F1, which promises
                nothing.

        Returns:
            (n,) bool.

        Raises:
            InputError: if this precision was not promised; says why, and which were.
        """
        return self.similarity(queries, documents, **options) >= self.threshold(precision)

    def threshold(self, precision: float | None = None) -> float:
        """The similarity from which on a precision is promised; None: with the best F1 on the calibration pairs.

        Raises:
            InputError: if it was not promised.
        """
        if precision is None:
            return self.settings["thresholds"]["best_f1"]["threshold"]
        promises = self.settings["thresholds"]["precision"]
        for promise in promises:
            if np.isclose(promise["precision"], precision, rtol=0, atol=1e-9) and promise["threshold"] is not None:
                return promise["threshold"]
        kept = [f"{promise['precision']:g}" for promise in promises if promise["threshold"] is not None]
        why = [promise["note"] for promise in promises if np.isclose(promise["precision"], precision)]
        raise InputError(
            f"{self.run_dir}: precision {precision:g} was not promised"
            + (f" ({why[0]})" if why else "; name it in `precisions` of 05_calibrate")
            + f"; promised: {', '.join(kept) or 'none'}"
        )

    def similarity(
        self, queries: str | Sequence[str], documents: str | Sequence[str], *, instruction: bool = True
    ) -> np.ndarray:
        """(n,) float64 cosines of pairs.

        Args:
            instruction: put the model's query instruction before the queries, as for documents; False compares queries
                with queries. Without an instruction in the profile both are the same.
        """
        queries, documents = _paired(queries, documents)
        if not queries:
            return np.empty(0)
        if instruction and self.encoder.query_instruction:
            left = self._encode(queries, query=True)
            right = self._encode(documents)
        else:
            both = self._encode([*queries, *documents])
            left, right = both[: len(queries)], both[len(queries) :]
        return cosines(left, right)

    def calibrate(self, similarities: np.ndarray) -> np.ndarray:
        """(n,) float64 probabilities of cosines that were computed elsewhere, by an index for example."""
        return self._calibrator.predict(similarities)

    def search(self, query: str, k: int = 10, *, rerank: bool = False) -> list[Hit]:
        """The texts of the run's corpus that are nearest to a query.

        Args:
            rerank: order the k texts by the bi-encoder and the cross-encoder together. Probabilities stay those of the
                pair, so that thresholds keep their meaning.

        Returns:
            At most k hits, best first.

        Raises:
            InputError: if there is no reranker in the run, or it is another one than at calibration.
        """
        from bgetune.models.index import search

        texts, vectors = self._searchable()
        text = self._normal(query)
        similarities, positions = search(self._encode([query], query=True), vectors, min(k, len(texts)))
        found = positions[0][positions[0] >= 0]
        similar = similarities[0][: len(found)].astype(np.float64)
        probability = self.calibrate(similar)
        cross = [None] * len(found)
        order = np.arange(len(found))
        if rerank and len(found):
            candidates = texts["text"].iloc[found]
            cross = self._reranker.score([(text, candidate) for candidate in candidates], progress=False)
            order = np.argsort(-self._combination.predict(probability, cross), kind="stable")
        rows = texts.iloc[found]
        return [
            Hit(
                rows["text_id"].iloc[i],
                rows["text"].iloc[i],
                float(similar[i]),
                float(probability[i]),
                None if cross[i] is None else float(cross[i]),
            )
            for i in order
        ]

    def _searchable(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The corpus and its vectors, made by the first search."""
        with self._lock:
            if self._corpus is None:
                texts = corpus(pd.read_parquet(artifact_path(self.run_dir, "texts")))
                # the corpus is the run's own: its vectors are in the cache that the notebook filled
                encoder = Encoder(self.encoder.folder, max_length=self.encoder.max_length, device=self.encoder.device)
                self._corpus = texts, encoder.encode(texts["text"].tolist(), progress=False)
            return self._corpus

    @cached_property
    def _reranker(self):
        from bgetune.models.reranker import Reranker

        made_with = self.settings["reranker"]
        if made_with is None:
            raise InputError(f"{self.run_dir}: the run has no reranker; name one in the profile, or search without")
        reranker = Reranker(
            made_with["location"], max_length=made_with["max_length"], device=self.encoder.device, cache_dir=None
        )
        if reranker.fingerprint != made_with["fingerprint"]:
            raise InputError(f"{made_with['location']} is not the reranker of {self.run_dir}; run 05_calibrate again")
        return reranker

    @cached_property
    def _combination(self) -> calibrators.Combination:
        return calibrators.Combination(**self.settings["reranker"]["combination"])

    def _encode(self, texts: Sequence[str], query: bool = False) -> np.ndarray:
        return self.encoder.encode([self._normal(text) for text in texts], query=query, progress=False)

    def _normal(self, text: str) -> str:
        return self._normalizer(text)


def make_settings(
    *,
    encoder: Encoder,
    normalizer: Normalizer,
    calibrator: calibrators.Calibrator,
    thresholds: Thresholds,
    dev: tuple[np.ndarray, np.ndarray],
    test: dict[str, Any],
    data: dict[str, Any],
    reranker: Reranker | None = None,
    combination: calibrators.Combination | None = None,
) -> dict[str, Any]:
    """The content of `scoring.json`: everything `Scorer` needs, and what tells a reader where it comes from.

    Args:
        encoder: the tuned model; its fingerprint is what the file is bound to.
        normalizer: of the run: new texts are brought into the same form.
        dev: similarities and labels of the calibration pairs, kept as quantiles for monitoring.
        test: measures of the test pairs; ``auc_interval`` is read by the monitoring.
        data: what the calibration pairs are: source, numbers, balance, prior.
    """
    reranking = None
    if reranker is not None and combination is not None:
        reranking = {
            "location": reranker.location,
            "fingerprint": reranker.fingerprint,
            "max_length": reranker.max_length,
            "combination": asdict(combination),
        }
    return {
        "version": VERSION,
        "model": {
            "fingerprint": encoder.fingerprint,
            "max_length": encoder.max_length,
            "query_instruction": encoder.query_instruction,
        },
        "normalization": asdict(normalizer),
        "calibration": calibrator.to_dict(),
        "thresholds": thresholds.to_dict(),
        "reranker": reranking,
        "data": data,
        "test": test,
        "reference": reference.reference(*dev),
        "versions": {name: metadata.version(name) for name in ("bgetune", "numpy", "scipy", "scikit-learn")},
    }


def corpus(texts: pd.DataFrame) -> pd.DataFrame:
    """What is searched: the documents, or all texts where there are none; ordered by id."""
    documents = texts[texts["kind"] == "document"]
    return (documents if len(documents) else texts).sort_values("text_id", ignore_index=True)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(n,) float64 inner products of the rows of two (n, d) arrays of unit rows."""
    return np.einsum("ij,ij->i", left, right, dtype=np.float64)


def _paired(queries: str | Sequence[str], documents: str | Sequence[str]) -> tuple[list[str], list[str]]:
    single = isinstance(queries, str), isinstance(documents, str)
    queries = [queries] if single[0] else list(queries)
    documents = [documents] if single[1] else list(documents)
    if single[0]:
        queries *= len(documents)
    elif single[1]:
        documents *= len(queries)
    if len(queries) != len(documents):
        raise InputError(f"{len(queries)} queries and {len(documents)} documents: pairs need as many of each")
    return queries, documents
