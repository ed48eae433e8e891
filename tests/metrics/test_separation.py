import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from bgetune.errors import InputError
from bgetune.metrics import separation, statistics


def world(count=1200, seed=0, gap=1.5, ties=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.4).astype(int)
    scores = np.clip(0.7 + 0.08 * (gap * labels + rng.normal(size=count)), -1, 1)
    return (scores.round(2) if ties else scores), labels, np.arange(count) // 3


@pytest.mark.parametrize("ties", [False, True])
def test_measures_agree_with_scikit_learn_and_scipy(ties):
    scores, labels, _ = world(ties=ties)
    found = {name: values[0] for name, values in separation.separation(scores, labels, thresholds={"at": 0.75}).items()}
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert found["ks"] == pytest.approx(ks_2samp(scores[labels == 1], scores[labels == 0]).statistic, abs=1e-9)
    assert found["f1_at_0.8"] == pytest.approx(f1_score(labels, scores >= 0.8), abs=1e-9)
    assert found["at"] == pytest.approx(f1_score(labels, scores >= 0.75), abs=1e-9)
    every = [f1_score(labels, scores >= threshold) for threshold in np.unique(scores)]
    assert found["best_f1"] == pytest.approx(max(every), abs=1e-9)
    assert f1_score(labels, scores >= found["best_threshold"]) == pytest.approx(max(every), abs=1e-9)
    assert found["share_0.6_0.9"] == pytest.approx(np.mean((scores >= 0.6) & (scores <= 0.9)))
    positive, negative = scores[labels == 1], scores[labels == 0]
    d_prime = (positive.mean() - negative.mean()) / np.sqrt((positive.var() + negative.var()) / 2)
    assert found["d_prime"] == pytest.approx(d_prime, abs=1e-9)
    assert found["mean_positive"] == pytest.approx(positive.mean())


def test_weights_count_as_repeated_pairs():
    scores, labels, _ = world(300)
    times = np.random.default_rng(1).integers(0, 3, 300)
    weighted = separation.separation(scores, labels, times[None])
    repeated = separation.separation(np.repeat(scores, times), np.repeat(labels, times))
    for name in ("auc", "average_precision", "ks", "best_f1", "best_threshold", "f1_at_0.8", "d_prime"):
        assert weighted[name][0] == pytest.approx(repeated[name][0], abs=1e-9), name


def test_overlap_of_known_distributions():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20_000)
    # two normal distributions 2 standard deviations apart share 2 * Phi(-1) = 0.317
    scores = 0.3 + 0.1 * (rng.normal(size=40_000) + 2 * labels)
    assert separation.separation(scores, labels)["overlap"][0] == pytest.approx(0.317, abs=0.015)
    assert separation.separation(rng.normal(0.5, 0.1, 40_000), labels)["overlap"][0] > 0.97
    assert separation.separation(labels * 0.9, labels)["overlap"][0] < 1e-6


def test_density_adds_up_to_one():
    table = separation.densities({"a": np.random.default_rng(0).normal(0.5, 0.1, 500), "empty": np.array([])})
    assert list(table.columns) == ["a"]
    assert np.trapezoid(table["a"], table.index) == pytest.approx(1, abs=1e-3)


def test_mean_squared_cosine_of_random_vectors_is_one_over_d():
    vectors = np.random.default_rng(0).normal(size=(4000, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors[::2] * vectors[1::2]).sum(1)
    assert separation.mean_squared_cosine(cosines) == pytest.approx(1 / 64, rel=0.1)
    assert separation.mean_squared_cosine(np.ones(5)) == 1


def test_one_kind_only_is_an_error():
    with pytest.raises(InputError, match="both kinds; there are 3 positives of 3"):
        separation.separation(np.ones(3), np.ones(3))


def test_resamples_draw_whole_clusters_and_follow_the_seed():
    clusters = np.array(["a", "a", "b", "c", "c", "c"])
    (weights,) = statistics.resamples(clusters, 200, seed=1)
    assert weights.shape == (200, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()  # as many clusters as there are
    again = np.concatenate(list(statistics.resamples(clusters, 200, seed=1)))
    np.testing.assert_array_equal(weights, again)


def test_intervals_cover_and_see_that_clusters_depend():
    # pairs copied five times carry no more knowledge: the interval of clusters must stay as wide, that of pairs shrinks
    scores, labels, _ = world(200)
    copied, copied_labels = np.repeat(scores, 5), np.repeat(labels, 5)

    def width(scores, labels, clusters):
        drawn = statistics.bootstrap(lambda w: separation.separation(scores, labels, w), clusters, 400, 0)
        return np.subtract(*reversed(statistics.interval(drawn["auc"])))

    alone = width(scores, labels, np.arange(200))
    assert width(copied, copied_labels, np.repeat(np.arange(200), 5)) == pytest.approx(alone, rel=0.15)
    assert width(copied, copied_labels, np.arange(1000)) < 0.6 * alone


def test_blocks_of_resamples_change_nothing(monkeypatch):
    scores, labels, clusters = world(300)
    whole = statistics.bootstrap(lambda w: separation.separation(scores, labels, w), clusters, 50, 3)
    monkeypatch.setattr(statistics, "BLOCK", 1000)
    parts = statistics.bootstrap(lambda w: separation.separation(scores, labels, w), clusters, 50, 3)
    np.testing.assert_allclose(whole["auc"], parts["auc"], atol=1e-12)


def test_report_pairs_the_difference():
    scores, labels, clusters = world()
    better = scores + 0.05 * labels
    table = separation.report(
        {"before": scores, "after": better}, labels, clusters, thresholds={"after": {"f1_at_old": 0.7}}, count=200
    )
    rows = table.set_index(["model", "measure"])
    assert rows.loc[("difference", "auc"), "value"] == pytest.approx(
        rows.loc[("after", "auc"), "value"] - rows.loc[("before", "auc"), "value"]
    )
    # the same pairs in both: the difference is known far better than either
    widths = rows["high"] - rows["low"]
    assert widths[("difference", "auc")] < 0.6 * widths[("before", "auc")]
    assert rows.loc[("difference", "auc"), "low"] > 0
    low, high = separation.crowded_band(scores)
    assert rows.loc[("before", "crowded_share"), "value"] == pytest.approx(0.8, abs=0.01)
    assert rows.loc[("after", "crowded_share"), "value"] == np.mean((better >= low) & (better <= high))
    assert ("after", "f1_at_old") in rows.index
    assert ("difference", "f1_at_old") not in rows.index
    head = separation.headline(table, "after")
    assert head["auc_interval"][0] < head["auc"] < head["auc_interval"][1]
    wide = separation.side_by_side(table)
    assert list(wide.columns) == ["measure", "before", "after", "difference"]
    assert wide.loc[0, "after"].startswith(f"{head['auc']:.3f}")


def test_slices_find_where_a_model_is_bad():
    scores, labels, clusters = world(900)
    where = pd.Categorical(np.where(np.arange(900) < 450, "good", "bad"), ["good", "bad", "tiny"])
    scores[450:] = np.random.default_rng(0).random(450)
    table = separation.by_slice({"m": scores}, labels, clusters, {"kind": where}, count=100).set_index("slice")
    assert list(table.index) == ["good", "bad", "tiny"]
    assert table.loc["good", "m"] > 0.8 > table.loc["bad", "m_high"]
    assert table.loc["tiny", "pairs"] == 0
    assert np.isnan(table.loc["tiny", "m"])
    assert table.loc["good", "positives"] == labels[:450].sum()


def test_drift_of_two_models_and_the_interval_of_the_difference():
    rng = np.random.default_rng(0)
    before = rng.normal(0.6, 0.1, 400)
    random = pd.DataFrame({"before": before, "after": before - 0.5})
    found = separation.orthogonality(random, ["before", "after"], np.arange(400) // 4, count=200)
    key = "mean_squared_cosine_random"
    assert found["before"][key] == pytest.approx((before**2).mean())
    assert found["difference"][key] == pytest.approx(found["after"][key] - found["before"][key])
    low, high = found["difference"][f"{key}_interval"]
    assert low < found["difference"][key] < high < 0
    same = separation.orthogonality(random.assign(after=before), ["before", "after"], np.arange(400), count=50)
    assert same["difference"] == {key: 0.0, f"{key}_interval": [0.0, 0.0]}
    empty = separation.orthogonality(random.head(0), ["before", "after"], [], count=50)
    assert np.isnan(empty["difference"][key])


def test_share_accepted_at_the_fixed_threshold():
    scores = np.array([0.8, 0.81, 0.9, 0.79])
    assert separation.separation(scores, np.array([1, 0, 1, 0]))["accepted_at_0.8"] == [0.75]
