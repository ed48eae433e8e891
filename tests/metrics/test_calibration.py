import json
from functools import partial

import betacal.beta_calibration
import numpy as np
import pytest
from betacal import BetaCalibration
from hypothesis import given, settings, strategies as st
from scipy.special import expit
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bgetune.errors import InputError
from bgetune.metrics import calibration, calibrators, statistics
from bgetune.metrics.calibrators import METHODS, Beta, Combination, Isotonic, MinMax, Platt


def bunched(count, seed=0, share=0.5, gap=0.09):
    """Similarities that bunch as those of a drifted model do: (n,) scores, labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(int)
    return np.clip(0.68 + gap * labels + 0.05 * rng.normal(size=count), -1, 1), labels


@pytest.mark.parametrize("method", METHODS)
def test_ranking_and_auc_stay(method):
    scores, labels = bunched(3000)
    new, new_labels = bunched(3000, seed=1)
    probabilities = calibrators.fit(method, scores, labels).predict(new)
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    if method == "min_max":  # strictly increasing on the range it was fitted on
        inside = (new > scores.min()) & (new < scores.max())
        new, new_labels, probabilities = new[inside], new_labels[inside], probabilities[inside]
    ordered = probabilities[np.argsort(new)]
    assert (np.diff(ordered) > 0).all()
    assert roc_auc_score(new_labels, probabilities) == roc_auc_score(new_labels, new)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(0, 1)), min_size=4, max_size=60),
    st.sampled_from(sorted(METHODS)),
)
def test_never_falls_whatever_the_pairs(rows, method):
    scores, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    try:
        calibrator = METHODS[method]().fit(scores, labels)
    except InputError:
        return
    grid = np.linspace(-1, 1, 401)
    probabilities = calibrator.predict(grid)
    assert np.isfinite(probabilities).all()
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_json_keeps_every_bit(method):
    scores, labels = bunched(500)
    calibrator = calibrators.fit(method, scores, labels)
    again = calibrators.from_dict(json.loads(json.dumps(calibrator.to_dict())))
    np.testing.assert_array_equal(again.predict(scores), calibrator.predict(scores))


@pytest.mark.parametrize("method", calibrators.METHODS)
def test_inverse_gives_the_cosine_of_a_probability(method):
    calibrator = calibrators.fit(method, *bunched(500, seed=4))
    wanted = calibrator.predict(np.array([0.66, 0.7, 0.75, 0.8]))
    np.testing.assert_allclose(calibrator.predict(calibrator.inverse(wanted)), wanted, atol=1e-3)
    assert calibrator.inverse(np.array([2.0])) == 1


def test_beta_agrees_with_betacal(monkeypatch):
    # betacal stops its solver early (tol 1e-4); with its own model solved to the end, both find the same curve
    exact = partial(LogisticRegression, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    monkeypatch.setattr(betacal.beta_calibration, "LogisticRegression", exact)
    rng = np.random.default_rng(3)
    # both coefficients positive; only a; only b
    worlds = [
        (u := rng.random(2000), rng.random(2000) < expit(1.5 * np.log(u) - 0.8 * np.log1p(-u) + 0.3)),
        (u := rng.random(2000), rng.random(2000) < expit(2 * np.log(u) + 0.4 * np.log1p(-u) + 1)),
        (u := rng.random(2000), rng.random(2000) < expit(-0.4 * np.log(u) - 2 * np.log1p(-u) - 1)),
    ]
    zeros = []
    for u, labels in worlds:
        weight = rng.random(len(u)) + 0.5
        ours = Beta().fit(2 * u - 1, labels, weight)
        theirs = BetaCalibration("abm").fit(u.reshape(-1, 1), labels.astype(int), weight)
        np.testing.assert_allclose(ours.predict(2 * u - 1), theirs.predict(u), atol=1e-9)
        zeros.append((ours.a_ == 0, ours.b_ == 0))
    assert zeros == [(False, False), (False, True), (True, False)]


def test_platt_agrees_with_scikit_learn():
    scores, labels = bunched(800)
    slope, intercept = _sigmoid_calibration(scores, labels)
    ours = Platt().fit(scores, labels)
    np.testing.assert_allclose(ours.predict(scores), expit(-(slope * scores + intercept)), atol=1e-4)


def test_platt_finds_the_truth_and_survives_parted_kinds():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.4, 1, 200_000)
    labels = rng.random(len(scores)) < expit(20 * scores - 15)
    found = Platt().fit(scores, labels)
    assert found.slope_ == pytest.approx(20, rel=0.02)
    assert found.intercept_ == pytest.approx(-15, rel=0.02)
    parted = Platt().fit(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])).predict(np.array([0.1, 0.9]))
    np.testing.assert_allclose(parted, [0.25, 0.75], atol=0.03)  # Platt's targets for two pairs of either kind


def test_isotonic_follows_the_steps_of_scikit_learn():
    scores, labels = bunched(5000)
    ours = Isotonic().fit(scores, labels)
    steps = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    grid = np.quantile(scores, np.linspace(0.02, 0.98, 200))
    assert np.abs(ours.predict(grid) - steps.predict(grid)).mean() < 0.02
    assert ours.probabilities_[0] > 0
    assert ours.probabilities_[-1] < 1


def test_a_prior_moves_the_probabilities_to_the_balance_of_production():
    scores, labels = bunched(40_000, share=0.5)
    new, new_labels = bunched(40_000, seed=1, share=0.1)
    plain, adapted = (calibrators.fit("platt", scores, labels, prior).predict(new) for prior in (None, 0.1))
    assert abs(adapted.mean() - new_labels.mean()) < 0.01 < abs(plain.mean() - new_labels.mean())
    assert calibration.calibration_error(adapted, new_labels, count=100).value < 0.02
    weights = statistics.prior_weights(labels, 0.1)
    assert weights.mean() == pytest.approx(1)
    assert np.average(labels, weights=weights) == pytest.approx(0.1)


def test_what_cannot_be_calibrated_is_said():
    scores, labels = bunched(100)
    with pytest.raises(InputError, match="both kinds; 100 of the 100 pairs are positive"):
        Platt().fit(scores, np.ones(100))
    for method in (Platt, Beta, Isotonic):
        with pytest.raises(InputError, match="labels are swapped"):
            method().fit(scores, 1 - labels)
    with pytest.raises(InputError, match=r"all similarities are 0\.5"):
        MinMax().fit(np.full(4, 0.5), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="run 05_calibrate again"):
        calibrators.from_dict({"method": "platt", "slope_": 1.0})
    with pytest.raises(InputError, match="run 05_calibrate again"):
        calibrators.from_dict({"method": "magic"})


# --- measures -----------------------------------------------------------------------------------------------------


def straightforward_ece(probabilities, labels, bins):
    """The definition, written down once more: plug-in and debiased."""
    order = np.argsort(probabilities)
    plug_in = debiased = 0.0
    for rows in np.array_split(order, bins):
        gap = probabilities[rows].mean() - labels[rows].mean()
        noise = labels[rows].mean() * (1 - labels[rows].mean()) / (len(rows) - 1)
        plug_in += len(rows) / len(order) * gap**2
        debiased += len(rows) / len(order) * (gap**2 - noise)
    return np.sqrt(plug_in), np.sqrt(max(debiased, 0))


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_agrees_with_its_definition(bins):
    scores, labels = bunched(1500)
    found = calibration.calibration_error(scores, labels, bins=bins, count=100)
    plug_in, debiased = straightforward_ece(scores, labels, bins)
    assert found.plug_in == pytest.approx(plug_in, abs=1e-9)
    assert found.value == pytest.approx(debiased, abs=1e-9)
    assert found.interval[0] < found.value < found.interval[1]


def test_debiasing_takes_off_what_chance_shows():
    rng = np.random.default_rng(0)
    plug_in, squares, covered = [], [], 0
    for trial in range(60):
        probabilities = rng.random(600)
        labels = (rng.random(600) < probabilities).astype(int)
        found = calibration.calibration_error(probabilities, labels, count=100, seed=trial)
        plug_in.append(found.plug_in)
        squares.append(found.value**2)
        covered += found.interval[0] == 0
    assert np.mean(plug_in) > 0.05  # perfectly calibrated, and it looks wrong
    assert np.sqrt(np.mean(squares)) < 0.03
    assert covered >= 52  # 95 % intervals of 60


def test_the_interval_covers_a_true_error():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(40):
        truth = rng.random(1500) * 0.8
        labels = (rng.random(1500) < truth).astype(int)
        low, high = calibration.calibration_error(truth + 0.1, labels, count=100, seed=trial).interval
        covered += low <= 0.1 <= high
    assert covered >= 34


def test_equal_scores_share_a_bin_and_bins_are_of_equal_mass():
    scores = np.repeat([0.1, 0.2, 0.3, 0.4], [10, 1, 8, 1])
    bins = calibration.equal_mass_bins(scores, bins=4)
    assert len({(score, number) for score, number in zip(scores, bins, strict=True)}) == 4
    assert (np.bincount(calibration.equal_mass_bins(np.random.default_rng(0).random(1000), bins=10)) == 100).all()


def test_brier_parts_add_up():
    scores, labels = bunched(900)
    parts = calibration.brier(scores, labels)
    assert parts["brier"] == pytest.approx(np.mean((scores - labels) ** 2), abs=1e-12)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert total == pytest.approx(parts["brier"], abs=1e-12)
    assert parts["uncertainty"] == pytest.approx(labels.mean() * (1 - labels.mean()), abs=1e-12)
    # scores that are constant within bins have nothing within
    assert calibration.brier(np.where(scores > 0.7, 0.8, 0.3), labels)["within"] == pytest.approx(0, abs=1e-12)


def test_weights_count_as_repeated_pairs():
    scores, labels = bunched(300)
    times = np.where(labels == 1, 1, 3)
    weighted = calibration.brier(scores, labels, times.astype(float), bins=4)
    repeated = calibration.brier(np.repeat(scores, times), np.repeat(labels, times), bins=4)
    assert weighted["brier"] == pytest.approx(repeated["brier"], abs=1e-12)
    assert weighted["reliability"] == pytest.approx(repeated["reliability"], rel=0.05)
    fits = Beta().fit(scores, labels, times), Beta().fit(np.repeat(scores, times), np.repeat(labels, times))
    np.testing.assert_allclose(fits[0].predict(scores), fits[1].predict(scores), atol=1e-9)


def test_the_race_is_won_by_the_curve_that_made_the_data():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.3, 1, 4000)
    labels = (rng.random(4000) < np.where(scores < 0.65, 0.1, 0.9)).astype(int)  # a step: only isotonic follows it
    clusters = rng.integers(0, 800, 4000)
    race = calibration.cross_validate(scores, labels, clusters)
    assert race["method"].iloc[0] == "isotonic"
    few = calibration.cross_validate(scores[:900], labels[:900], clusters[:900])
    assert few["method"].iloc[0] != "isotonic"
    last = few.iloc[-1]
    assert (last["method"], last["offered"], np.isnan(last["log_loss"])) == ("isotonic", False, True)
    assert race.equals(calibration.cross_validate(scores, labels, clusters))


def test_folds_never_part_a_cluster(monkeypatch):
    clusters = np.repeat(np.arange(60), 5)
    labels = np.tile([0, 1, 0, 1, 1], 60)
    seen = []

    class Spy(Platt):
        def fit(self, similarities, labels, sample_weight=None):
            self.clusters = set(similarities)  # each cluster has a similarity of its own
            return self

        def predict(self, similarities):
            assert not self.clusters & set(similarities)
            seen.extend(similarities)
            return np.full(len(similarities), 0.5)

    for module in (calibration, calibrators):
        monkeypatch.setattr(module, "METHODS", {"spy": Spy})
    race = calibration.cross_validate(clusters / 100, labels, clusters)
    assert race["log_loss"].item() == pytest.approx(np.log(2))
    assert sorted(seen) == sorted(clusters / 100)  # every pair is judged once
    with pytest.raises(InputError, match="one cluster"):
        calibration.cross_validate(clusters / 100, labels, np.zeros(len(labels)))


def test_pairs_that_cannot_carry_a_calibration_leave_the_cosine_as_it_is():
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1])
    for wanted in ("auto", "platt"):
        race, maps = calibration.fit_all(scores, labels, np.arange(4), wanted=wanted)
        assert race.loc[race["offered"], "method"].tolist() == ["min_max"]
        chosen = maps[calibration.choose(race, wanted)]
        np.testing.assert_array_equal(chosen.predict(scores), scores)
    own = {"quantiles": (0, 1), "bounds": (0.5, 1.0)}
    _, maps = calibration.fit_all(scores, labels, np.arange(4), min_max=own)
    np.testing.assert_allclose(maps["min_max"].predict(scores), [0.8, 0.6, 0.4, 0.2])


def test_a_map_that_does_not_rise_is_not_offered_where_another_one_does(monkeypatch):
    class Falls(Platt):
        def _fit(self, similarities, labels, weight):
            raise InputError("falls")

    scores = np.linspace(0, 1, 60)
    labels = (scores + 0.3 * np.sin(40 * scores) > 0.5).astype(int)
    for module in (calibration, calibrators):
        monkeypatch.setattr(module, "METHODS", {**METHODS, "beta": Falls})
    race, maps = calibration.fit_all(scores, labels, np.arange(60), wanted="beta")
    assert list(maps) == race.loc[race["offered"], "method"].tolist()
    assert "beta" not in maps
    assert calibration.choose(race, "beta") == calibration.choose(race, "auto") == race["method"].iloc[0]


def test_a_map_that_cannot_be_fitted_to_a_fold_says_the_share_of_positives():
    rng = np.random.default_rng(0)
    scores, labels = rng.random(200), rng.integers(0, 2, 200)
    race = calibration.cross_validate(scores, labels, np.arange(200)).set_index("method")
    assert race.loc[["platt", "beta"], "log_loss"].between(0.68, 0.72).all()


def test_judge_prefers_calibrated_scores():
    scores, labels = bunched(4000)
    new, new_labels = bunched(4000, seed=1)
    clusters = np.arange(4000) // 4
    table = calibration.evaluate(
        {name: calibrators.fit(name, scores, labels).predict(new) for name in METHODS} | {"cosine": new},
        new_labels,
        clusters,
        count=100,
    )
    assert table.loc["platt", "ece"] < 0.03 < table.loc["min_max", "ece"] < table.loc["cosine", "ece"]
    assert table.loc["platt", "brier"] < table.loc["min_max", "brier"] < table.loc["cosine", "brier"]
    assert (table["resolution"].max() - table["resolution"].min()) < 1e-12  # no map changes the ranking


def test_both_models_together_are_better_than_each():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    one, two = (expit(1.2 * (2 * labels - 1) + rng.normal(size=4000) * 2) for _ in range(2))
    combination = Combination.fit(one, two, labels)
    both = combination.predict(one, two)
    assert roc_auc_score(labels, both) > max(roc_auc_score(labels, one), roc_auc_score(labels, two)) + 0.03
    against = Combination.fit(one, 1 - two, labels)
    assert against.reranker == 0
    assert against.similarity > 0


def test_min_max_takes_quantiles_or_bounds_by_hand():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.uniform(0.3, 0.9, 998), -0.9, 1.0]
    labels = (scores > 0.6).astype(int)
    plain, typical, given = (
        calibrators.fit("min_max", scores, labels, min_max=options)
        for options in (None, {"quantiles": [0.01, 0.99]}, {"bounds": [0.2, 0.8]})
    )
    assert (plain.low_, plain.high_) == (-0.9, 1.0)
    assert (typical.low_, typical.high_) == tuple(np.quantile(scores, [0.01, 0.99]))
    assert 0.29 < typical.low_ < 0.32
    np.testing.assert_allclose(given.predict([0.2, 0.5, 0.8, 0.95]), [0, 0.5, 1, 1])
    again = calibrators.from_dict(given.to_dict())
    np.testing.assert_array_equal(again.predict(scores), given.predict(scores))


def test_a_map_that_was_asked_for_is_taken_and_its_cost_said():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, 400)
    labels = (rng.uniform(size=400) < 1 / (1 + np.exp(-12 * (scores - 0.5)))).astype(int)
    race = calibration.cross_validate(scores, labels, np.arange(400), wanted="isotonic")
    assert race["offered"].all()  # isotonic, too, although auto would want more pairs
    assert calibration.choose(race, "isotonic") == "isotonic"
    best = calibration.choose(race, "auto")
    assert best == race["method"].iloc[0]
    said = calibration.cost(race.set_index("method"), "min_max", best)
    losses = race.set_index("method")["log_loss"]
    assert f"log loss {losses['min_max']:.4f} instead of {losses[best]:.4f}" in said
    assert losses["min_max"] > losses[best]
    verdict = calibration.evaluate({"min_max": scores, best: scores**2}, labels, np.arange(400), count=100)
    assert "calibration error" in calibration.cost(verdict, "min_max", best)
    assert calibration.cost(verdict, best, best) == ""
    assert not calibration.cross_validate(scores, labels, np.arange(400)).set_index("method").loc["isotonic", "offered"]


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_mean_probability_is_the_prior(method):
    """Platt's targets are those of the sample: at a low prior they would hold every probability up."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    similarities = rng.normal(0.3 + 0.4 * labels, 0.1)
    for prior in (0.05, 0.01):
        calibrator = calibrators.fit(method, similarities, labels, prior)
        new = rng.random(200_000) < prior
        mean = calibrator.predict(rng.normal(0.3 + 0.4 * new, 0.1)).mean()
        assert mean == pytest.approx(prior, rel=0.35), prior


def test_similarities_that_differ_by_nothing_have_a_probability():
    found = calibrators.fit("isotonic", np.array([0.0, 1.7e-39, 0.0, -1.0, 0.5, 0.5]), np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite(found.predict(np.linspace(-1, 1, 9))).all()
