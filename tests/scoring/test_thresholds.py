import numpy as np
import pytest
from scipy.stats import binomtest, norm

from bgetune.metrics import calibrators, statistics
from bgetune.scoring import thresholds


def normal(count, rng, gap=2.0, share=0.5):
    """Scores of a known distribution: negatives N(0, 1), positives N(gap, 1), divided by 10."""
    labels = (rng.random(count) < share).astype(int)
    return (rng.normal(size=count) + gap * labels) / 10, labels


def true_precision(threshold, gap=2.0, share=0.5):
    right, wrong = share * norm.sf(threshold * 10 - gap), (1 - share) * norm.sf(threshold * 10)
    return right / (right + wrong)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 17), (95, 100), (299, 300)])
def test_clopper_pearson_agrees_with_scipy(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(0.9, "exact")
    low, high = statistics.clopper_pearson(hits, trials, 0.9)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)


def test_fewest_pairs_are_the_fewest():
    assert [thresholds.fewest_pairs(precision) for precision in (0.9, 0.95, 0.99)] == [29, 59, 299]
    for precision in (0.9, 0.95, 0.99):
        count = thresholds.fewest_pairs(precision)
        assert statistics.clopper_pearson(count, count, 0.9)[0] >= precision
        assert statistics.clopper_pearson(count - 1, count - 1, 0.9)[0] < precision


@pytest.mark.parametrize("count", [300, 1500])
def test_the_guarantee_holds_and_the_sample_precision_does_not(count):
    rng = np.random.default_rng(0)
    kept = naive = given = 0
    for _ in range(250):
        scores, labels = normal(count, rng)
        made = thresholds.precision_guarantee(scores, labels, 0.9)
        given += made.threshold is not None
        kept += made.threshold is None or true_precision(made.threshold) >= 0.9
        curve = thresholds.curve(scores, labels)
        naive += true_precision(curve["threshold"][curve["precision"] >= 0.9].min()) >= 0.9
    assert kept >= 0.95 * 250 - 2 * np.sqrt(250 * 0.05 * 0.95)
    assert naive < 0.6 * 250
    assert given > 0.5 * 250  # not kept by never giving any


def test_what_a_guarantee_says_is_true_of_its_pairs():
    scores, labels = normal(3000, np.random.default_rng(1))
    made = thresholds.precision_guarantee(scores, labels, 0.95)
    above = scores >= made.threshold
    assert made.predicted == above.sum()
    assert made.correct == labels[above].sum()
    assert made.recall == pytest.approx(labels[above].sum() / labels.sum())
    assert made.coverage == pytest.approx(above.mean())
    assert made.lower_bound >= 0.95
    # two sequences share the error rate: each bound is at 97.5 %
    assert made.lower_bound == pytest.approx(statistics.clopper_pearson(made.correct, made.predicted, 0.95)[0])


def test_the_first_failure_ends_the_sequence():
    # 200 right, 60 wrong, 2,000 right: below the wrong ones the precision is high again, but by luck of the sequence
    labels = np.repeat([1, 0, 1], [200, 60, 2000])
    scores = np.linspace(1, 0, len(labels))
    made = thresholds.precision_guarantee(scores, labels, 0.9)
    assert 200 <= made.predicted < 230
    assert labels.mean() > 0.97


def test_equal_scores_are_never_parted():
    rng = np.random.default_rng(0)
    scores, labels = normal(2000, rng, gap=3)
    scores = scores.round(2)
    made = thresholds.precision_guarantee(scores, labels, 0.9)
    assert made.predicted == (scores >= made.threshold).sum()
    shuffled = rng.permutation(2000)
    assert thresholds.precision_guarantee(scores[shuffled], labels[shuffled], 0.9) == made


def test_too_few_pairs_are_told_how_many_it_takes():
    rng = np.random.default_rng(0)
    scores, labels = normal(40, rng, gap=3)
    made = thresholds.precision_guarantee(scores, labels, 0.95)
    assert made.threshold is None
    assert made.needed > 40
    assert "too few pairs" in made.note
    # with as many as it takes of the same kind there is a threshold, with far fewer there is none
    enough = normal(4 * made.needed, rng, gap=3)
    assert thresholds.precision_guarantee(*enough, 0.95).threshold is not None
    few = thresholds.precision_guarantee(np.linspace(0, 1, 10), np.ones(10, int), 0.95)
    assert (few.threshold, few.needed) == (None, 59)


@pytest.mark.parametrize(("count", "gap"), [(60, 1.5), (300, 1.5), (1500, 1.5), (6000, 1.2)])
def test_what_is_needed_is_clearly_more_than_there_is(count, gap):
    """A need of 6,001 pairs where there are 6,000 says nothing; and the recall that more pairs would give is said."""
    said = 0
    for seed in range(20):
        made = thresholds.precision_guarantee(*normal(count, np.random.default_rng(seed), gap=gap), 0.95)
        if made.needed and made.needed_recall is not None:
            said += 1
            assert made.needed >= 1.1 * count
            assert 0 < made.needed_recall <= 1
            assert f"find about {made.needed_recall:.0%} of the positives" in made.note
        assert (made.threshold is None) or (made.needed, made.needed_recall) == (None, None)
    assert said


def test_a_model_that_knows_nothing_is_not_helped_by_pairs():
    rng = np.random.default_rng(0)
    made = thresholds.precision_guarantee(rng.random(3000), rng.integers(0, 2, 3000), 0.95)
    assert made.threshold is None
    assert made.needed is None
    assert "more pairs will not help" in made.note


def clustered(count, rng, size=8, gap=2.2):
    """Pairs of a cluster share most of their error: (scores, labels, clusters)."""
    clusters = np.repeat(np.arange(count), rng.geometric(1 / size, count))[:count]
    shared = rng.normal(size=count)[clusters]
    labels = (rng.random(count) < 0.5).astype(int)
    noise = np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.normal(size=count)
    return (noise + gap * labels) / 10, labels, clusters


def test_clusters_that_err_together_count_for_less():
    rng = np.random.default_rng(0)
    kept = {"alone": 0, "clusters": 0}
    for _ in range(150):
        scores, labels, clusters = clustered(1500, rng)
        for name, given in (("alone", None), ("clusters", clusters)):
            made = thresholds.precision_guarantee(scores, labels, 0.9, clusters=given)
            kept[name] += made.threshold is None or true_precision(made.threshold, gap=2.2) >= 0.9
    assert kept["clusters"] >= 0.95 * 150 - 2 * np.sqrt(150 * 0.05 * 0.95)
    assert kept["alone"] < 0.93 * 150


def test_design_effect_of_copied_pairs_is_the_number_of_copies():
    scores, labels = normal(400, np.random.default_rng(0))
    order = np.argsort(-scores)
    scores, labels = np.repeat(scores[order], 4), np.repeat(labels[order], 4).astype(float)
    effect = thresholds.design_effect(scores, labels, np.repeat(np.arange(400), 4))
    assert np.median(effect[400:]) == pytest.approx(4, rel=0.05)
    alone = thresholds.design_effect(scores[::4], labels[::4], np.arange(400))
    np.testing.assert_allclose(alone, 1)


def test_design_effect_is_never_below_one():
    rng = np.random.default_rng(3)
    scores = np.sort(rng.random(400))[::-1]
    labels = (rng.random(400) < scores).astype(int)
    effect = thresholds.design_effect(scores, labels, rng.integers(0, 150, 400))
    assert (effect >= 1).all()
    # no error among the nearest pairs says nothing yet: the clusters err together further down
    together = np.repeat(rng.random(40) < np.linspace(1, 0, 40), 10).astype(int)
    together[:50] = 1
    effect = thresholds.design_effect(scores, together, np.repeat(np.arange(40), 10))
    assert effect[49] > 2


def test_a_prior_asks_for_the_precision_of_production():
    rng = np.random.default_rng(0)
    kept = plain = 0
    for _ in range(150):
        scores, labels = normal(2000, rng, gap=2.6)
        made = thresholds.precision_guarantee(scores, labels, 0.9, prior=0.2)
        kept += made.threshold is None or true_precision(made.threshold, gap=2.6, share=0.2) >= 0.9
        threshold = thresholds.precision_guarantee(scores, labels, 0.9).threshold
        plain += true_precision(threshold, gap=2.6, share=0.2) >= 0.9
    assert kept >= 0.95 * 150 - 2 * np.sqrt(150 * 0.05 * 0.95)
    assert plain < 0.2 * 150
    assert made.lower_bound >= 0.9
    weights = statistics.prior_weights(labels, 0.2)
    assert made.coverage == pytest.approx(np.average(scores >= made.threshold, weights=weights))


def test_recall_is_reached_on_average_and_with_confidence():
    rng = np.random.default_rng(0)
    average, sure = [], []
    for _ in range(400):
        scores, labels = normal(200, rng)
        average.append(norm.sf(thresholds.recall_guarantee(scores, labels, 0.9).threshold * 10 - 2))
        confident = thresholds.recall_guarantee(scores, labels, 0.9, confidence=0.95)
        sure.append(norm.sf(confident.threshold * 10 - 2))
    assert 0.9 <= np.mean(average) < 0.92
    assert np.mean(np.array(average) >= 0.9) < 0.75
    assert np.mean(np.array(sure) >= 0.9) >= 0.93
    few = thresholds.recall_guarantee(np.linspace(0, 1, 9), np.array([1] * 8 + [0]), 0.9)
    assert (few.threshold, few.needed) == (None, 9)
    assert thresholds.recall_guarantee(np.linspace(0, 1, 9), np.ones(9, int), 0.9).threshold == 0


def test_curve_point_and_best_f1_agree():
    scores, labels = normal(500, np.random.default_rng(0))
    curve = thresholds.curve(scores, labels, prior=0.3)
    best = thresholds.best_f1(scores, labels, prior=0.3)
    assert best["f1"] == pytest.approx(curve["f1"].max(), abs=1e-12)
    row = curve.iloc[123]
    point = thresholds.point(scores, labels, row["threshold"], prior=0.3)
    for name in ("precision", "recall", "coverage", "f1"):
        assert point[name] == pytest.approx(row[name], abs=1e-12)
    assert thresholds.point(scores, labels, 9.0)["precision"] == 0
    # on calibrated scores the best threshold is half of the F1 it reaches (arXiv 1402.1892)
    scores, labels = normal(100_000, np.random.default_rng(1))
    probabilities = calibrators.fit("platt", scores, labels).predict(scores)
    best = thresholds.best_f1(probabilities, labels)
    assert best["threshold"] == pytest.approx(best["f1"] / 2, abs=0.03)


def test_the_table_shows_guarantees_beside_test_pairs():
    rng = np.random.default_rng(0)
    scores, labels = normal(2000, rng)
    chosen = thresholds.choose(scores, labels, precisions=[0.9, 0.999], recalls=[0.95])
    assert list(chosen.named) == ["best F1", "recall 95%", "precision 90%"]
    assert chosen.to_dict()["precision"][0]["threshold"] == chosen.named["precision 90%"]
    new, new_labels = normal(2000, rng)
    calibrator = calibrators.fit("platt", scores, labels)
    table = thresholds.guarantee_table(chosen.precisions, new, new_labels, calibrator, None)
    first, second = table.iloc[0], table.iloc[1]
    above = new >= first["cosine"]
    assert first["test_precision"] == pytest.approx(new_labels[above].mean())
    assert first["test_interval"].endswith(f"({above.sum():,} pairs)")
    assert first["probability"] == calibrator.predict(np.array([first["cosine"]]))[0]
    assert np.isnan(second["cosine"])
    assert second["guarantee"]


def test_there_is_no_threshold_where_none_can_be_trusted():
    """Forty pairs, all right above 0.5, would guarantee a precision of a half; but they come from four clusters."""
    labels = np.tile([1, 0], 20)
    scores = 0.3 + 0.4 * labels + np.linspace(0, 0.1, 40)
    wanted = {"precisions": [0.5, 0.999], "recalls": [0.5]}
    assert len(thresholds.choose(scores, labels, **wanted).named) == 3
    few = thresholds.choose(scores, labels, clusters=np.arange(40) // 10, **wanted)
    assert few.named == {}
    assert few.to_dict()["best_f1"] is None
    assert few.precisions[0].note == "too few pairs or clusters in dev to trust a threshold"
    assert few.precisions[1].note.startswith("too few pairs: a test needs")
    assert thresholds.choose(1 - scores, labels, **wanted).named == {}
    platt = calibrators.fit("platt", scores, labels)
    assert thresholds.points({}, scores, labels, platt, None).empty


def test_more_pairs_are_not_asked_for_where_there_are_enough():
    """Wrong labels among the most similar pairs end the test: 501 pairs instead of 500 would change nothing."""
    scores = np.linspace(1, 0, 500)
    labels = np.where(np.arange(500) < 30, np.arange(500) % 3 > 0, np.arange(500) < 250).astype(float)
    made = thresholds.precision_guarantee(scores, labels, 0.9)
    assert (made.threshold, made.needed) == (None, None)
    assert "10 of the first 29 have the label 0" in made.note
    assert "check their labels" in made.note
    assert thresholds.precision_guarantee(scores[30:], labels[30:], 0.9).threshold is not None


def test_where_pairs_are_missing_the_recall_they_would_bring_is_said():
    scores = np.linspace(1, 0, 120)
    labels = np.where(np.arange(120) < 40, np.arange(120) % 20 > 0, np.arange(120) < 60).astype(float)
    made = thresholds.precision_guarantee(scores, labels, 0.95)
    assert made.needed > 120
    assert "would then find about" in made.note
