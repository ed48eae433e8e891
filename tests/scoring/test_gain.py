import numpy as np
import pandas as pd
import pytest

from bgetune.data import tables
from bgetune.metrics import calibrators
from bgetune.scoring import gain, thresholds


@pytest.fixture
def pairs():
    """A base model that tells nothing apart, and a tuned one that nearly does."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 300)
    return pd.DataFrame(
        {
            "query_id": [f"{n:016x}" for n in range(600)],
            "text_id": [f"{n:016x}" for n in range(600, 1200)],
            "label": labels,
            "before": rng.uniform(0.7, 0.9, 600),
            "after": labels * 0.4 + rng.normal(0.3, 0.1, 600),
            "cluster_id": np.repeat(np.arange(300), 2),
        }
    )


def recalls(pairs, precisions=(0.9, 0.95)):
    guarantees = {
        name: [thresholds.precision_guarantee(pairs[name], pairs["label"], wanted) for wanted in precisions]
        for name in ("before", "after")
    }
    scores = {name: pairs[name].to_numpy() for name in guarantees}
    return gain.recall_at_guarantees(guarantees, scores, pairs["label"], pairs["cluster_id"], count=100)


def test_recall_at_a_guarantee_before_and_after(pairs):
    table = recalls(pairs)
    assert table["precision"].tolist() == [0.9, 0.95]
    assert table[["before", "before_low", "before_high"]].isna().all(axis=None), "no threshold guarantees it"
    assert (table["after"] > 0.8).all()
    assert (table["difference"] == table["after"]).all(), "without a threshold nothing is found"
    assert (table["difference_low"] > 0.7).all()
    assert (table["after_low"] <= table["after"]).all()
    assert (table["after"] <= table["after_high"]).all()


def test_of_equal_models_the_difference_is_none_at_all(pairs):
    table = recalls(pairs.assign(before=pairs["after"]))
    assert not table[["difference", "difference_low", "difference_high"]].to_numpy().any()


def test_mistakes_are_the_farthest_on_the_wrong_side(pairs):
    texts = pd.DataFrame({"text_id": [*pairs["query_id"], *pairs["text_id"]]})
    texts["text"] = [f"text {number}" for number in range(len(texts))]
    calibrator = calibrators.fit("platt", pairs["after"], pairs["label"])
    found = tables.check("mistakes", gain.mistakes(pairs, texts, 0.5, calibrator, count=3))
    assert found["side"].tolist() == ["missed"] * 3 + ["accepted"] * 3
    same = pairs["label"] == 1
    assert found["after"].tolist() == [*pairs.loc[same, "after"].nsmallest(3), *pairs.loc[~same, "after"].nlargest(3)]
    row = pairs.loc[pairs["after"] == found["after"][0]].iloc[0]
    assert found["query"][0] == f"text {row.name}"
    assert found["before"][0] == row["before"]
    assert found["probability"].between(0, 1).all()


def test_a_perfect_model_makes_no_mistakes(pairs):
    pairs["after"] = pairs["label"] * 1.0
    calibrator = calibrators.fit("min_max", pairs["after"], pairs["label"])
    found = gain.mistakes(pairs, pd.DataFrame({"text_id": [], "text": []}), 0.5, calibrator)
    assert len(tables.check("mistakes", found)) == 0
