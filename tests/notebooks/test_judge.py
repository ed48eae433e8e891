"""A language model's second opinion in notebooks 01 and 03."""

import json

import cells
import matplotlib
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from augment.server import KEY, completion, running

from bgetune.models.reranker import Reranker

pytestmark = pytest.mark.slow

matplotlib.use("Agg")


def words(number):
    return "".join(np.random.default_rng(number).choice(list(tiny.CHARACTERS[:25]), 8))


@pytest.mark.parametrize("verdict", ["same", "different", "unsure"])
def test_what_the_reranker_confirms_needs_a_second_opinion(tmp_path, monkeypatch, verdict):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(Reranker, "score", lambda self, pairs, *, progress=True: np.full(len(pairs), 0.95, np.float32))
    tiny.save_sentence_transformer(tmp_path / "encoder")
    tiny.save_bert(tmp_path / "reranker", seed=1, labels=1)
    rows = [{"text_a": words(i), "text_b": words(i) + "办"} for i in range(40)]
    pd.DataFrame(rows).to_csv(tmp_path / "qa.csv", index=False)
    server = running(lambda text, turn: (200, completion(json.dumps({"verdict": verdict}))))
    values = {
        "model": str(tmp_path / "encoder"),
        "reranker": str(tmp_path / "reranker"),
        "judge": {"base_url": f"{server.url}/v1", "model": "test", "key_variable": "TEST_KEY", "max_requests": 9999},
        "max_length": 32,
        "language": "en",
        "01_positives": {"sources": {"qa": [{"path": str(tmp_path / "qa.csv")}]}, "recall_similarity": 0.5},
    }
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values), "utf-8")
    found = {
        stage[:2]: cells.run(stage, tmp_path / "profile.yaml", tmp_path)
        for stage in ("01_positives", "02_backtranslate", "03_hard_negatives")
    }
    server.shutdown()
    server.server_close()
    joined = (found["01"]["edges"]["source"] == "recall").sum()
    assert len(found["01"]["found"]) > 0
    assert (joined > 0) == (verdict == "same")
    missed, review = found["03"]["missed"], found["03"]["table"]
    if verdict != "same":
        assert len(found["03"]["found"]) > 0
        assert len(missed) == 0
    if verdict == "different":
        assert review.empty
    if verdict == "unsure":
        assert set(review["reason"]) == {"the language model is not sure"}
