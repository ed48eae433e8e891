import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer

from bgetune.config.sources import GeneralSource
from bgetune.config.stages import Train
from bgetune.data.sources import check_source
from bgetune.errors import InputError
from bgetune.training import forgetting
from bgetune.training.sentence_transformers import train
from bgetune.training.settings import TrainingSettings
from bgetune.training.trainer import encoder_of, load


@pytest.fixture
def source(tmp_path):
    rows = [
        ("  查询 订单 ", "查询Ａ订单", 1),
        ("取消贷款", "取消 贷款", 1),
        ("绑定密码", "冻结账单", 0),
        ("密码", "订单", 0),
    ]
    pd.DataFrame(rows * 3, columns=["left", "right", "same"]).to_csv(tmp_path / "general.csv", index=False)
    names = {"a_column": "left", "b_column": "right", "label_column": "same"}
    return GeneralSource(path=str(tmp_path / "general.csv"), **names)


@pytest.fixture(scope="module")
def tuned(base, groups, cluster_of, tmp_path_factory):
    parameters = Train(model=str(base), learning_rate=5e-3, max_length=24, device="cpu", positives=1)
    return train(
        base, groups, cluster_of, TrainingSettings.of(parameters, epochs=1), tmp_path_factory.mktemp("c")
    ).model


def test_general_pairs_are_read_normalised_and_drawn_by_the_seed(source):
    pairs = forgetting.read_general(source, most=100, seed=1)
    assert pairs.loc[0, ["a", "b", "label"]].tolist() == ["查询订单", "查询a订单", 1.0]
    assert len(pairs) == 12
    few, again, other = (forgetting.read_general(source, most=6, seed=seed) for seed in (1, 1, 2))
    assert len(few) == 6
    pd.testing.assert_frame_equal(few, again)
    assert not few.equals(other)


def test_pairs_of_one_label_are_refused(source, tmp_path):
    (tmp_path / "one.csv").write_text("left,right,same\na,b,1\nc,d,1\n")
    one = source.model_copy(update={"path": str(tmp_path / "one.csv")})
    with pytest.raises(InputError, match=r"general: .*one\.csv: all 2 pairs have one label in same"):
        forgetting.read_general(one, most=10, seed=1)


def test_a_wrong_source_is_found_before_the_first_notebook(source):
    check_source(source, "04_train.general")
    with pytest.raises(InputError, match=r"04_train\.general: .*no column sane; .*did you mean same\?"):
        check_source(source.model_copy(update={"label_column": "sane"}), "04_train.general")
    with pytest.raises(InputError, match=r"04_train\.general: .*nowhere\.csv"):
        check_source(GeneralSource(path="nowhere.csv"), "04_train.general")


def vectors(angles):
    """Unit vectors in a plane, by the text that stands for an angle in degrees."""
    return lambda texts: np.array([[np.cos(np.radians(float(t))), np.sin(np.radians(float(t)))] for t in texts])


def test_labels_are_judged_by_auc_and_grades_by_rank_correlation():
    angles = [("0", "10", 1), ("0", "60", 1), ("0", "30", 0), ("0", "90", 0)]
    labelled = pd.DataFrame(angles, columns=["a", "b", "label"])
    found = forgetting.general_scores(labelled, vectors(angles))
    assert found["general_auc"] == pytest.approx(3 / 4)
    assert found["general_mean_positive"] == pytest.approx((np.cos(np.radians(10)) + 0.5) / 2)
    assert found["general_mean_negative"] == pytest.approx(np.cos(np.radians(30)) / 2)
    graded = labelled.assign(label=[4, 1, 3, 0])
    found = forgetting.general_scores(graded, vectors(angles))
    assert found["general_spearman"] == pytest.approx(1.0)
    assert forgetting.general_scores(graded.assign(label=[0, 3, 1, 4]), vectors(angles))["general_spearman"] == -1.0
    assert set(found) <= set(forgetting.METRICS)


def test_merged_weights_lie_between_those_of_the_two_models(base, tuned):
    before = SentenceTransformer(str(base), device="cpu")
    merged = forgetting.merge(before, tuned, 0.25).state_dict()
    for name, tensor in tuned.state_dict().items():
        torch.testing.assert_close(merged[name], 0.25 * tensor + 0.75 * before.state_dict()[name])
    assert any(not torch.equal(tensor, before.state_dict()[name]) for name, tensor in tuned.state_dict().items())
    torch.testing.assert_close(forgetting.merge(before, tuned, 1.0).state_dict(), tuned.state_dict())


def test_versions_end_with_the_one_to_save(base, tuned, dev_pairs):
    reading = {"max_length": 24, "device": "cpu"}
    assert list(forgetting.versions(tuned, base, merge_weight=1, **reading)) == ["before", "tuned"]
    models = forgetting.versions(tuned, base, merge_weight=0.5, **reading)
    general = dev_pairs[dev_pairs["kind"] != "random"].rename(columns={"query": "a", "text": "b"})
    result = forgetting.compare(models, dev_pairs, general)
    assert list(result) == ["before", "tuned", "merged"]
    assert {"auc", "mrr@10", "general_auc", "general_mean_positive"} <= set(result.index)
    # the general pairs are the dev pairs here
    np.testing.assert_allclose(result.loc["general_auc"], result.loc["auc"])
    assert len({round(value, 6) for value in result.loc["mean_positive"]}) == 3
    before = forgetting.general_scores(general, encoder_of(load(base, **reading), 64))
    assert result.loc["general_mean_negative", "before"] == pytest.approx(before["general_mean_negative"], abs=1e-6)


def test_dev_pairs_that_cannot_be_judged_leave_general_ones(base, dev_pairs):
    models = {"before": SentenceTransformer(str(base), device="cpu")}
    positives = dev_pairs[dev_pairs["label"] == 1]
    assert forgetting.compare(models, positives, None).empty
    general = dev_pairs.rename(columns={"query": "a", "text": "b"})
    assert "general_auc" in forgetting.compare(models, positives, general).index


@pytest.mark.parametrize("measure", ["general_auc", "general_spearman"])
def test_forgetting_is_said_aloud_with_the_remedy(measure):
    rows = itertools.product([measure], [(0.9, 0.85, 0.871), (0.9, 0.95, 0.889)])
    fallen, kept = (pd.DataFrame([values], [name], ["before", "tuned", "merged"]) for name, values in rows)
    values = {"merge_weight": 0.7, "learning_rate": 5e-5, "epochs": 3}
    warning = forgetting.advice(fallen, **values)
    assert "Warning" in warning
    assert "from 0.900 to 0.871" in warning
    assert "`merge_weight` (now 0.7)" in warning
    assert "Warning" not in forgetting.advice(kept, **values)
    assert "Not measured" in forgetting.advice(fallen.rename({measure: "auc"}), **values)
