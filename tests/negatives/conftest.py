"""A known world of vectors: every meaning has a direction, its texts lie around it, near-misses share most of it."""

import numpy as np
import pandas as pd
import pytest

from bgetune.data.text import text_id
from bgetune.models.prompts import NO_PROMPTS, Prompts
from bgetune.negatives import mining
from bgetune.negatives.corpus import Corpus
from bgetune.negatives.rules import Rules


class FakeEncoder:
    """Vectors from a table."""

    precision = "float32"

    def __init__(self, vectors: dict[str, np.ndarray], prompts: Prompts = NO_PROMPTS):
        self.vectors = vectors
        self.prompts = prompts

    def encode(self, texts, *, prompt=None, progress=True):
        rows = np.array([self.vectors[text] for text in texts], dtype=np.float32).reshape(len(texts), -1)
        if self.prompts.symmetric if prompt is None else prompt:
            rows = rows + 0.05 * len(self.prompts.symmetric if prompt is None else prompt)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class FakeReranker:
    """Knows the meaning: 0.95 for the same, 0.05 for another, unless told otherwise; remembers what it was asked."""

    def __init__(self, meaning: dict[str, str], scores: dict[tuple[str, str], float] | None = None):
        self.meaning = meaning
        self.scores = scores or {}
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs, *, progress=True):
        self.asked += pairs
        known = [0.95 if self.meaning[a] == self.meaning[b] else 0.05 for a, b in pairs]
        return np.array([self.scores.get(tuple(p), k) for p, k in zip(pairs, known, strict=True)], dtype=np.float32)


class Toy:
    """Twelve meanings of five texts: three are known to be one, two are missed positives."""

    def __init__(self, drift: float = 6.0, seed: int = 0):
        rng = np.random.default_rng(seed)
        common = np.full(16, drift)
        services = rng.normal(size=(3, 16))
        self.vectors, self.meaning, texts, clusters, edges = {}, {}, [], [], []
        for number in range(12):
            centre = services[number % 3] + 0.8 * rng.normal(size=16)
            ids = []
            for variant in range(5):
                text = f"meaning {number} text {variant}"
                self.vectors[text] = common + centre + 0.35 * rng.normal(size=16)
                self.meaning[text] = str(number)
                ids.append(text_id(text))
                texts.append((text_id(text), text, "query", 1))
            split = "train" if number < 8 else "dev" if number < 10 else "test"
            clusters += [(name, ids[0] if place < 3 else name, split) for place, name in enumerate(ids)]
            edges += [(*sorted((ids[0], ids[1])), "given", 2, 1.0), (*sorted((ids[0], ids[2])), "co_click", 2, 0.8)]
        self.texts = pd.DataFrame(texts, columns=["text_id", "text", "kind", "count"])
        self.clusters = pd.DataFrame(clusters, columns=["text_id", "cluster_id", "split"])
        self.edges = pd.DataFrame(edges, columns=["a_id", "b_id", "source", "support", "weight"])
        self.graded = pd.DataFrame(columns=["a_id", "b_id", "grade", "label", "origin", "split"])

    @property
    def meanings(self) -> dict[str, str]:
        return {text_id(text): meaning for text, meaning in self.meaning.items()}

    @property
    def encoder(self) -> FakeEncoder:
        return FakeEncoder(self.vectors)

    @property
    def reranker(self) -> FakeReranker:
        return FakeReranker(self.meaning)

    @property
    def corpus(self) -> Corpus:
        return Corpus.of(self.texts, self.edges, self.clusters, self.graded)

    def label(self, a: str, b: str, grade: float) -> None:
        row = (text_id(a), text_id(b), grade, int(grade == 1), "pairs", "train")
        self.graded = pd.DataFrame([*self.graded.itertuples(index=False), row], columns=self.graded.columns)


class Known:
    """60 meanings of 16 texts, of which a share is known to be one; the others lie in the corpus alone."""

    def __init__(self, share: float = 0.5, noise: float = 0.75, seed: int = 0, kinds: bool = False):
        rng = np.random.default_rng(seed)
        self.vectors, self.meaning, texts, clusters, edges = {}, {}, [], [], []
        topics = rng.normal(size=(12, 24))
        for number in range(60):
            centre = topics[number % 12] + rng.normal(size=24)
            known = max(2, round(share * 16))
            first = text_id(f"meaning {number} text 0")
            for place in range(16):
                text = f"meaning {number} text {place}"
                self.vectors[text] = 3.0 + centre + noise * rng.normal(size=24)
                self.meaning[text] = str(number)
                kind = "document" if kinds and place % 2 else "query"
                texts.append((text_id(text), text, kind, 1))
                clusters.append((text_id(text), first if place < known else text_id(text), "train"))
                if 0 < place < known:
                    edges.append((*sorted((first, text_id(text))), "given", 1, 1.0))
        self.texts = pd.DataFrame(texts, columns=["text_id", "text", "kind", "count"])
        clusters = pd.DataFrame(clusters, columns=["text_id", "cluster_id", "split"])
        edges = pd.DataFrame(edges, columns=["a_id", "b_id", "source", "support", "weight"])
        self.corpus = Corpus.of(self.texts, edges, clusters)
        self.encoder = FakeEncoder(self.vectors)
        self.meanings = {text_id(text): meaning for text, meaning in self.meaning.items()}

    def mine(self, reranker=None, **rules):
        return mining.mine(self.corpus, self.encoder, reranker, **{"rank_max": 60} | rules)

    def reranker(self, scores=None) -> FakeReranker:
        return FakeReranker(self.meaning, scores)


@pytest.fixture
def known_world():
    return Known


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def rules():
    """No window: the toy's similarities lie where they lie."""
    return Rules(window_low=None, margin=0.05, rank_max=40, num_negatives=3)
