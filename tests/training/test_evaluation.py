import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bgetune.data.text import text_id
from bgetune.errors import InputError
from bgetune.models.prompts import Prompts
from bgetune.training import evaluation
from bgetune.training.evaluation import can_be_evaluated, dev_metrics, dev_pairs, graded_pairs, log_table, sample

ANGLES = {"q": 0.0, "p": 0.2, "n": 0.5, "far": 1.5, "q2": 3.0, "p2": 2.2}


def encode(texts):
    return np.array([[np.cos(ANGLES[text]), np.sin(ANGLES[text])] for text in texts])


def pairs(*rows):
    return pd.DataFrame(rows, columns=["query", "text", "label", "kind"])


def test_measures_by_hand():
    rows = pairs(
        ("q", "p", 1, "positive"),
        ("q2", "p2", 1, "positive"),
        ("q", "n", 0, "hard_negative"),
        ("q", "far", 0, "labelled"),
        ("q", "p2", 1, "labelled"),
        ("p", "far", 0, "random"),
    )
    found = dev_metrics(rows, encode)
    labels, cosines = [1, 1, 0, 0, 1], np.cos([0.2, 0.8, 0.5, 1.5, 2.2])
    assert found["auc"] == pytest.approx(roc_auc_score(labels, cosines))
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, cosines))
    assert found["labelled_auc"] == 0
    assert found["share_0.6_0.9"] == pytest.approx(2 / 5)
    assert found["mean_squared_cosine_random"] == pytest.approx(np.cos(1.3) ** 2)
    assert found["mean_positive"] == pytest.approx(np.cos([0.2, 0.8, 2.2]).mean())
    assert found["mean_negative"] == pytest.approx(np.cos([0.5, 1.5]).mean())
    assert found["mrr@10"] == 1


def test_reciprocal_rank_counts_what_stands_before_the_first_positive():
    rows = pairs(
        ("q", "far", 1, "positive"),
        ("q2", "p2", 1, "positive"),
        ("q", "n", 0, "hard_negative"),
        ("q", "p", 0, "random"),
    )
    assert dev_metrics(rows, encode)["mrr@10"] == pytest.approx((1 / 3 + 1) / 2)


def test_vectors_that_are_not_finite():
    with pytest.raises(InputError, match="lower learning_rate"):
        dev_metrics(
            pairs(("q", "p", 1, "positive"), ("q", "n", 0, "hard_negative")), lambda texts: np.full((3, 2), np.nan)
        )


def test_can_be_evaluated():
    assert can_be_evaluated(pairs(("q", "p", 1, "positive"), ("q", "n", 0, "labelled")))
    assert not can_be_evaluated(pairs(("q", "p", 1, "positive"), ("q", "n", 0, "random")))
    assert not can_be_evaluated(pairs())


def test_pairs_of_the_dev_split_with_the_instruction_where_a_query_meets_a_document():
    known = {"问": "query", "答": "document", "又问": "query", "别": "document"}
    ids = {text: text_id(text) for text in known}
    texts = pd.DataFrame(
        [(ids[text], text, kind, 1) for text, kind in known.items()], columns=["text_id", "text", "kind", "count"]
    )
    heldout = pd.DataFrame(
        [
            ("问", "答", 1, "positive", "dev"),
            ("问", "又问", 1, "positive", "dev"),
            ("问", "别", 0, "hard_negative", "test"),
        ],
        columns=["query_id", "text_id", "label", "kind", "split"],
    ).replace(ids)
    graded = pd.DataFrame(
        [
            ("答", "别", 0.25, 0, "graded", "dev"),
            ("又问", "别", 0.5, 1, "graded", "dev"),
            ("问", "别", 0.75, 1, "graded", "train"),
        ],
        columns=["a_id", "b_id", "grade", "label", "origin", "split"],
    ).replace(ids)
    assert dev_pairs(heldout, graded, texts, Prompts("为：")).to_numpy().tolist() == [
        ["为：问", "答", 1, "positive"],
        ["问", "又问", 1, "positive"],
        ["答", "别", 0, "labelled"],
        ["为：又问", "别", 1, "labelled"],
    ]
    assert graded_pairs(graded, texts, Prompts("为：")).to_numpy().tolist() == [["为：问", "别", 0.75]]


def test_sample_bounds_every_kind():
    rows = pairs(*[("q", str(i), 1, "positive") for i in range(9)], *[("q", str(i), 0, "random") for i in range(3)])
    drawn = sample(rows, 4, 0)
    assert drawn["kind"].value_counts().to_dict() == {"positive": 4, "random": 3}
    assert drawn.equals(sample(rows, 4, 0))
    assert not drawn.equals(sample(rows, 4, 1))
    assert sample(pairs(), 4, 0).empty


def test_log_has_one_row_a_step():
    table = log_table(
        [
            {"step": 0, "epoch": 0.0, "auc": 0.5},
            {"step": 2, "epoch": 1.0, "loss": 3, "grad_norm": 1},
            {"step": 2, "epoch": 1.0, "auc": 0.6},
        ]
    )
    assert table.columns.tolist() == ["step", "epoch", "loss", "auc"]
    assert table["step"].tolist() == [0, 2]
    assert table["auc"].tolist() == [0.5, 0.6]


def test_drift_costs_a_checkpoint_its_place():
    before = {"mean_squared_cosine_random": 0.1, "crowded_share": 0.8, "auc": 0.6}
    tight = {"mean_squared_cosine_random": 0.11, "crowded_share": 0.5, "auc": 0.805}
    loose = {"mean_squared_cosine_random": 0.09, "crowded_share": 0.5, "auc": 0.8}
    crowded = {"mean_squared_cosine_random": 0.09, "crowded_share": 0.9, "auc": 0.8}
    assert [evaluation.has_drifted(found, before) for found in (tight, loose, crowded)] == [True, False, True]
    assert not evaluation.has_drifted({"auc": 0.9}, before)
    chosen = [
        max((tight, loose), key=lambda f: evaluation.selection_score(f, before, "auc", penalty))
        for penalty in (0.01, 0.001)
    ]
    assert chosen == [loose, tight]


def test_the_crowded_band_is_where_the_scores_lay_before():
    rows = pairs(
        ("q", "p", 1, "positive"),
        ("q", "n", 0, "hard_negative"),
        ("q2", "far", 0, "labelled"),
        ("p", "far", 0, "random"),
    )
    low, high = evaluation.crowded_band(rows, encode)
    assert (low, high) == pytest.approx(np.quantile(np.cos([0.2, 0.5, 1.5]), [0.1, 0.9]))
    assert dev_metrics(rows, encode, (low, high))["crowded_share"] == pytest.approx(1 / 3)
    assert "crowded_share" not in dev_metrics(rows, encode)
