"""The worlds in which fine-tuning is measured: pairs to train on, a corpus, pairs to judge by, and known meanings."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
BATCH_SIZE, MAX_LENGTH = 64, 64

Pair = tuple[str, str, int]


@dataclass(frozen=True)
class Task:
    """What all contenders get.

    Attributes:
        model: folder of the base model.
        learning_rate: of all contenders.
        train: pairs with label 1 (same meaning) or 0.
        corpus: all texts, those without a known pair among them.
        dev, test: pairs to choose and to judge by.
        meaning: known meanings of texts; empty where only pairs are known.
    """

    model: str
    learning_rate: float
    train: list[Pair]
    corpus: list[str]
    dev: list[Pair]
    test: list[Pair]
    meaning: dict[str, str] = field(default_factory=dict)

    def positives(self) -> list[tuple[str, str]]:
        return [(a, b) for a, b, label in self.train if label and a != b]


def task(name: str, quick: bool = False, seed: int = 0) -> Task:
    """A world by its name, as `bench_separation` describes it. `seed` draws the meanings that the demo holds out."""
    import numpy as np

    from bgetune.paths import locate

    size = "small" if quick else "standard"
    if name == "clinc":
        return _clinc(20 if quick else 60)
    if name == "known":
        return _known(size)
    if name in ("demo", "sparse"):
        model, rate = str(locate(f"demo://{size}/encoder")), 1e-3
        train, judged = _demo(size, seed)
        corpus = _texts(train)
        if name == "sparse":
            positives = [pair for pair in train if pair[2]]
            hidden = set(positives[len(positives) // 5 :])
            train = [pair for pair in train if pair not in hidden]
        return Task(model, rate, train, corpus, judged[0::2], judged[1::2])
    if name == "afqmc":
        rows = _labelled("afqmc_train")
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
        train, judged = rows[:15_000], rows[15_000:25_000]  # as many positives as in the bank set
    else:
        train, judged = _labelled("bank_ccks_extra"), _labelled("bq_dev")
    if quick:
        train, judged = train[:2000], judged[:2000]
    model, rate = str(SHARED / "models" / "zh-mini"), 4e-4
    if name == "e5":
        model, rate, train = os.environ["E5"], 5e-5, train[:3000]
    return Task(model, rate, train, _texts(train), judged[0::2], judged[1::2])


def _texts(pairs: list[Pair]) -> list[str]:
    return sorted({text for pair in pairs for text in pair[:2]})


def _labelled(name: str) -> list[Pair]:
    lines = gzip.decompress((SHARED / "data" / f"{name}.tsv.gz").read_bytes()).decode().splitlines()[1:]
    return [(a.strip(), b.strip(), int(label)) for a, b, label in (line.split("\t") for line in lines)]


def _demo(world: str, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs of one meaning and of two that are easily mistaken, of meanings to train on and of others to judge by."""
    import numpy as np
    import pandas as pd

    from bgetune.paths import locate

    known = pd.read_csv(locate(f"demo://{world}/truth.csv"), dtype=str, keep_default_na=False)
    ways = {meaning: rows["text"].tolist() for meaning, rows in known[known["meaning"] != ""].groupby("meaning")}
    misses = pd.read_csv(locate(f"demo://{world}/near_misses.csv"))
    lots = np.random.default_rng(seed)
    train = set(lots.permutation(sorted(ways))[: int(0.7 * len(ways))])
    near = list(misses[["meaning_a", "meaning_b"]].itertuples(index=False, name=None))
    parts = []
    for inside, count in ((True, 8000), (False, 6000)):
        same = [m for m in sorted(ways) if (m in train) == inside and len(ways[m]) > 1]
        other = [(a, b) for a, b in near if (a in train) == inside == (b in train) and a in ways and b in ways]
        pairs: dict[tuple[str, str], int] = {}
        while len(pairs) < count:
            label = len(pairs) // 2 % 2  # twos, since every other pair is for dev
            meanings = (same[lots.integers(len(same))],) * 2 if label else other[lots.integers(len(other))]
            a, b = (str(lots.choice(ways[meaning])) for meaning in meanings)
            if a != b:
                pairs.setdefault((a, b), label)
        parts.append([(a, b, label) for (a, b), label in pairs.items()])
    return parts[0], parts[1]


def _clinc(intents: int) -> Task:
    """Half of an intent's training texts with three known pairs each, the other half in the corpus alone."""
    import numpy as np

    lines = gzip.decompress((SHARED / "data" / "clinc150.tsv.gz").read_bytes()).decode().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    lots = np.random.default_rng(0)
    chosen = set(lots.permutation(sorted({row[1] for row in rows}))[:intents])
    ways: dict[str, dict[str, list[str]]] = {}
    for text, intent, split in rows:
        if intent in chosen:
            ways.setdefault(split, {}).setdefault(intent, []).append(text)
    train = _half_known(ways["train"], lots)
    dev, test = (_judging(ways[split], lots) for split in ("val", "test"))
    meaning = {text: intent for split in ways.values() for intent, texts in split.items() for text in texts}
    corpus = sorted({text for texts in ways["train"].values() for text in texts})
    return Task(os.environ["MINILM"], 5e-5, train, corpus, dev, test, meaning)


def _known(world: str) -> Task:
    """The demo world with 30 texts a meaning; seven of ten meanings train, the others judge."""
    import numpy as np

    from bgetune.paths import locate
    from bgetune_demo import world as demo

    tables = demo.make(replace(getattr(demo, world.upper()), queries=30))
    lots = np.random.default_rng(0)
    ways = {meaning.id: texts for meaning, texts in tables.queries.items() if len(texts) > 3}
    names = lots.permutation(sorted(ways))
    inside = {name: ways[name] for name in names[: int(0.7 * len(names))]}
    outside = {name: ways[name] for name in names[int(0.7 * len(names)) :]}
    judged = _judging(outside, lots)
    meaning = {text: name for name, texts in ways.items() for text in texts}
    corpus = sorted({text for texts in inside.values() for text in texts})
    model = str(locate(f"demo://{world}/encoder"))
    return Task(model, 1e-3, _half_known(inside, lots), corpus, judged[0::2], judged[1::2], meaning)


def _half_known(ways: dict[str, list[str]], lots) -> list[Pair]:
    pairs = set()
    for name in sorted(ways):
        texts = [str(text) for text in lots.permutation(sorted(set(ways[name])))]
        known = texts[: len(texts) // 2]
        for a in known:
            others = [text for text in known if text != a]
            for b in lots.permutation(others)[:3]:
                pairs.add((*sorted((a, str(b))), 1))
    return sorted(pairs)


def _judging(ways: dict[str, list[str]], lots, most: int = 6000) -> list[Pair]:
    """Pairs of one meaning, and as many of texts of two that share the most characters."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = sorted({(text, name) for name, found in ways.items() for text in found})
    names = np.array([name for _, name in texts])
    rows = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True).fit_transform(
        [t for t, _ in texts]
    )
    shared = (rows @ rows.T).toarray()
    shared[names[:, None] == names[None]] = -1
    near = np.argsort(-shared, axis=1)[:, :3]
    unlike = sorted({tuple(sorted((a, int(b)))) for a, row in enumerate(near) for b in row})
    like = sorted(
        {
            tuple(sorted((int(a), int(b))))
            for name in sorted(ways)
            for a in np.flatnonzero(names == name)
            for b in lots.permutation(np.flatnonzero(names == name))[:4]
            if a != b
        }
    )
    count = min(len(like), len(unlike), most // 2)
    chosen = [(lots.permutation(np.array(pairs))[:count], label) for pairs, label in ((like, 1), (unlike, 0))]
    pairs = [(texts[a][0], texts[b][0], label) for found, label in chosen for a, b in found]
    return [pairs[i] for i in lots.permutation(len(pairs))]
