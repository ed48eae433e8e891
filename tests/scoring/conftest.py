"""A finished run with tiny models: what `Scorer` and the command lines read."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny

from bgetune import runs
from bgetune.data.text import Normalizer, normalize, text_id
from bgetune.metrics import calibrators
from bgetune.metrics.calibrators import Combination
from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker
from bgetune.scoring import thresholds
from bgetune.scoring.scorer import cosines
from bgetune.scoring.settings import make_settings


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Texts, labelled pairs and a run folder; the labels follow the tiny model's similarities, with noise."""
    folder = tmp_path_factory.mktemp("scoring")
    model = tiny.save_sentence_transformer(folder / "model")
    reranker = tiny.save_bert(folder / "reranker", seed=1, labels=1)
    rng = np.random.default_rng(0)
    letters = list(dict.fromkeys(tiny.CHARACTERS))
    written = sorted({normalize("".join(rng.choice(letters, rng.integers(2, 12)))) for _ in range(260)} - {""})
    texts = pd.DataFrame({"text_id": [text_id(text) for text in written], "text": written})
    texts["kind"] = np.where(np.arange(len(texts)) % 3 == 0, "document", "query")
    texts["count"] = rng.integers(1, 20, len(texts))

    encoder = Encoder(model, cache_dir=None)
    vectors = encoder.encode(written, progress=False)
    left, right = rng.integers(0, len(texts), (2, 900))
    left, right = left[left != right], right[left != right]
    similarities = cosines(vectors[left], vectors[right])
    noise = rng.normal(0, 0.4 * similarities.std(), len(left))
    labels = (similarities + noise > np.median(similarities)).astype(int)

    profile = folder / "profile.yaml"
    profile.write_text(f"name: tiny\nmodel: {model}\nreranker: {reranker}\n", encoding="utf-8")
    arguments = {"profile": str(profile), "run_dir": str(folder / "run")}
    stage = runs.start("01_positives", arguments)
    stage.write("texts", texts)
    stage.finish()
    stage = runs.start("04_train", arguments)
    with stage.writing("model") as target:
        model.rename(target)
    stage.finish()

    stage = runs.start("05_calibrate", arguments)
    calibrator = calibrators.fit("platt", similarities, labels)
    cross = Reranker(reranker, max_length=32, cache_dir=None)
    combination = Combination(0.5, 1.0, 0.0)
    reranked = cross.score([(written[a], written[b]) for a, b in zip(left, right, strict=True)], progress=False)
    both = combination.predict(calibrator.predict(similarities), reranked)
    settings = make_settings(
        encoder=Encoder(stage.path("model"), cache_dir=None),
        normalizer=Normalizer(("phone",)),
        calibrator=calibrator,
        thresholds=thresholds.choose(similarities, labels, precisions=[0.8, 0.9999], recalls=[0.9]),
        dev=(similarities, labels),
        test={"auc": 0.9, "auc_interval": [0.88, 0.92]},
        data={"prior": None},
        reranker=cross,
        combination=combination,
        decisions={"both": thresholds.choose(both, labels, precisions=[0.8, 0.9999])},
    )
    with stage.writing("scoring.json") as file:
        file.write_text(json.dumps(settings), encoding="utf-8")
    stage.finish()
    return SimpleNamespace(
        run=stage.run_dir, texts=texts, left=left, right=right, similarities=similarities, labels=labels, folder=folder
    )


@pytest.fixture
def scorer(world, tmp_path, monkeypatch):
    """The run's scorer, with a cache of its own."""
    from bgetune.scoring import Scorer

    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    return Scorer.load(world.run, device="cpu")
