import numpy as np
import pytest
import yaml
from scipy.stats import ks_1samp

from bgetune.config.stages.calibrate import Calibrate
from bgetune.errors import InputError
from bgetune.metrics import calibrators
from bgetune.scoring import monitor, reference


def traffic(count, seed=0, share=0.5, shift=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(int)
    return np.clip(0.6 + 0.15 * labels + spread * 0.06 * rng.normal(size=count) + shift, -1, 1), labels


@pytest.fixture(scope="module")
def known():
    return reference.reference(*traffic(3000))


def test_psi_agrees_with_its_definition():
    known, new = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    assert monitor.psi(known, new) == pytest.approx(0.1 * np.log(0.5 / 0.4) + 0.1 * np.log(0.4 / 0.3), abs=1e-12)
    assert monitor.psi(known, known) == 0
    assert np.isfinite(monitor.psi(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_bands_hold_what_chance_does(known):
    outside = {"psi": 0, "ks": 0}
    for seed in range(200):
        found = monitor.compare(reference.reference(*traffic(3000, seed=1000 + seed)), traffic(400, seed=seed)[0])
        outside["psi"] += found.psi > found.psi_band
        outside["ks"] += found.ks > found.ks_band
    assert outside["psi"] <= 8  # 2 of 200 expected
    assert outside["ks"] <= 8


def test_distances_are_those_of_scipy(known):
    scores, _ = traffic(500, seed=3, shift=0.05)
    found = monitor.compare(known, scores)

    def cdf(points):
        grid = np.linspace(0, 1, len(known["positive"]["quantiles"]))
        parts = [np.interp(points, known[name]["quantiles"], grid, left=0, right=1) for name in known]
        sizes = [known[name]["pairs"] for name in known]
        return np.average(parts, axis=0, weights=sizes)

    assert found.ks == pytest.approx(ks_1samp(scores, cdf).statistic, abs=1e-9)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (traffic(1000, seed=5), "stable"),
        (traffic(1000, seed=5, share=0.1), "recalibrate"),
        (traffic(1000, seed=5, shift=-0.3), "retrain"),
        (traffic(1000, seed=5, spread=1.9), "recalibrate"),
        (traffic(50, seed=5), "too few pairs"),
    ],
)
def test_verdicts_without_labels(known, new, verdict):
    assert monitor.compare(known, new[0]).verdict == verdict


def test_a_move_that_is_certain_and_small_is_no_alarm(known):
    """With many pairs chance explains next to nothing: then the usual limit decides, not the band."""
    found = monitor.compare(known, traffic(60_000, seed=5, shift=-0.02)[0])
    assert found.psi_band < found.psi < monitor.SMALL
    assert found.verdict == "stable"


def test_a_moved_balance_is_recognised(known):
    found = monitor.compare(known, traffic(2000, seed=7, share=0.15)[0])
    assert found.prior == pytest.approx(0.15, abs=0.03)
    assert found.psi > 0.1 > found.psi_after_prior
    assert f"prior: {found.prior:.2g}" in found.advice
    assert "with 15." in monitor.describe(found) or "with 14." in monitor.describe(found)


@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 1.0])
def test_an_advised_prior_can_be_followed_and_ends_the_alarm(known, share):
    new = traffic(4000, seed=7, share=share)[0]
    found = monitor.compare(known, new)
    assert found.verdict == "recalibrate"
    advised = Calibrate(**yaml.safe_load(found.advice[found.advice.index("prior: ") :])).prior
    assert advised == pytest.approx(share, abs=0.015)
    followed = monitor.compare(known, new, prior=advised)
    assert followed.verdict == "stable", followed.advice
    assert monitor.compare(known, traffic(4000, seed=8)[0], prior=0.05).verdict == "recalibrate"


def test_the_band_of_another_balance_holds_what_chance_does():
    """Few of the known positives count for much where half of the new pairs are positive."""
    outside = 0
    for seed in range(200):
        scores, labels = traffic(1000, seed=1000 + seed, share=0.1)
        found = monitor.compare(reference.reference(scores, labels), traffic(1000, seed=seed)[0], prior=0.5)
        outside += found.psi > found.psi_band
    assert outside <= 8  # 2 of 200 expected


def test_pairs_of_a_reference_without_labels_count_once(known):
    """Alarms where nothing moved: 1 % of cases is what the bands promise."""
    alarms = 0
    for seed in range(300):
        earlier = reference.unlabelled(traffic(100, seed=1000 + seed)[0])
        alarms += monitor.compare(earlier, traffic(100, seed=seed)[0]).verdict != "stable"
    assert alarms <= 15
    earlier = reference.unlabelled(traffic(1000)[0])
    moved = monitor.compare(earlier, traffic(1000, seed=5, share=0.1)[0])
    assert moved.verdict in ("recalibrate", "retrain")
    assert "--label" in moved.advice
    assert moved.prior is None
    assert "positives" not in monitor.describe(moved)
    assert "positives" not in monitor.page(moved, "run", "pairs")


def test_verdicts_with_labels(known):
    calibrator = calibrators.fit("platt", *traffic(3000))
    good = traffic(1500, seed=1)
    ask = {"known_auc": 0.93}

    def verdict(scores, labels, shift=0.0):
        return monitor.compare(
            known, scores, labels=labels, probabilities=calibrator.predict(scores + shift), **ask
        ).verdict

    assert verdict(*good) == "stable"
    moved = traffic(1500, seed=1, shift=-0.1)  # ranks as well as ever, scores too low
    assert verdict(*moved) == "recalibrate"
    worse = traffic(1500, seed=1, spread=2.5)
    assert verdict(*worse) == "retrain"


@pytest.mark.parametrize("label", [0, 1])
def test_labels_of_one_kind_still_tell_wrong_probabilities(known, label):
    scores, labels = traffic(500, share=label)
    wrong = monitor.compare(known, scores, labels=labels, probabilities=np.full(500, 0.9 - 0.8 * label))
    assert wrong.verdict == "recalibrate"
    assert wrong.ece == pytest.approx(0.9, abs=0.01)
    assert wrong.auc is None
    assert "all pairs have the same label" in wrong.advice
    assert "no AUC, for all are the same; calibration error 0.900" in monitor.describe(wrong)
    right = monitor.compare(known, scores, labels=labels, probabilities=np.full(500, 0.01 + 0.98 * label))
    assert right.verdict == "stable"
    assert "all pairs have the same label" in right.advice
    assert monitor.compare(known, scores[:1], labels=labels[:1], probabilities=np.ones(1)).verdict == "too few pairs"


def test_a_worse_ranking_is_told_with_the_auc_it_had(known):
    scores, labels = traffic(1500, seed=1, spread=2.5)
    ask = {"labels": labels, "probabilities": np.full(1500, 0.5), "known_auc": 0.96}
    found = monitor.compare(known, scores, known_auc_low=0.93, **ask)
    assert found.verdict == "retrain"
    assert "was 0.960" in found.advice
    assert monitor.compare(known, scores, known_auc_low=0.5, **ask).verdict != "retrain"


def test_the_reference_fits_into_json(known):
    assert known["positive"]["pairs"] + known["negative"]["pairs"] == 3000
    assert all(isinstance(value, float) for value in known["positive"]["quantiles"])
    assert len(known["positive"]["quantiles"]) == 501
    with pytest.raises(InputError, match="no new pairs"):
        monitor.compare(known, np.array([]))
