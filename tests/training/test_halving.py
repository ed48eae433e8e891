import math

import pytest

from bgetune.config.stages import Train
from bgetune.errors import Diverged, InputError
from bgetune.training import TrainingSettings, halving


def settings(base, **changes):
    values = {"epochs": 4, "batch_size": 16, "max_length": 24, "device": "cpu", "positives": 1}
    parameters = Train(model=str(base), **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def test_each_round_halves_the_rates_and_doubles_the_training():
    assert halving.rounds(1) == []
    assert halving.rounds(2) == [(2, 1 / 8)]
    assert halving.rounds(3) == [(3, 1 / 8), (2, 1 / 4)]
    assert halving.rounds(9) == [(9, 1 / 8), (5, 1 / 4), (3, 1 / 2), (2, 1 / 2)]


def test_the_rate_that_learns_is_chosen_and_what_is_done_is_not_done_again(
    base, groups, cluster_of, dev_pairs, tmp_path, monkeypatch
):
    asked = []

    def train(base, groups, cluster_of, settings, folder, **options):
        asked.append((settings.learning_rate, len(groups), settings.epochs))
        return halving_train(base, groups, cluster_of, settings, folder, **options)

    halving_train = halving.train
    monkeypatch.setattr(halving, "train", train)
    given = (base, groups, cluster_of, settings(base, learning_rate=1e-7), [5e-3, 1e-6], tmp_path)
    chosen, tried = halving.choose_learning_rate(*given, pairs=dev_pairs)
    assert chosen == settings(base, learning_rate=5e-3)
    assert tried["round"].tolist() == [1, 1, 1, 2, 2]
    assert tried["learning_rate"].iloc[-1] == tried["learning_rate"].iloc[2] == 5e-3
    last = tried[tried["round"] == 2]["average_precision"]
    assert last.is_monotonic_increasing
    assert [(count, epochs) for _, count, epochs in asked] == [(60, 1)] * 3 + [(120, 1)] * 2
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # no checkpoint is left

    asked.clear()
    assert halving.choose_learning_rate(*given, pairs=dev_pairs)[1].equals(tried)
    assert not asked


def test_a_rate_that_diverges_loses(base, groups, cluster_of, dev_pairs, tmp_path, monkeypatch):
    real = halving.train

    def train(base, groups, cluster_of, settings, folder, **options):
        if settings.learning_rate > 1e-2:
            raise Diverged("too high")
        return real(base, groups, cluster_of, settings, folder, **options)

    monkeypatch.setattr(halving, "train", train)
    given = (base, groups, cluster_of, settings(base, learning_rate=0.5))
    chosen, tried = halving.choose_learning_rate(*given, [1e-3], tmp_path, pairs=dev_pairs)
    assert chosen.learning_rate == 1e-3
    assert tried["learning_rate"].tolist() == [0.5, 1e-3]
    assert math.isnan(tried["average_precision"].iloc[0])
    with pytest.raises(Diverged, match="learning_rates: training diverges with each of them; give lower ones"):
        halving.choose_learning_rate(*given, [0.6], tmp_path, pairs=dev_pairs)


def test_without_dev_pairs_there_is_nothing_to_choose_by(base, groups, cluster_of, dev_pairs, tmp_path):
    for pairs in (None, dev_pairs[dev_pairs["label"] == 1]):
        with pytest.raises(InputError, match="learning_rates: there are no dev pairs of both labels to choose by"):
            halving.choose_learning_rate(base, groups, cluster_of, settings(base), [1e-3, 1e-4], tmp_path, pairs=pairs)
    chosen, tried = halving.choose_learning_rate(base, groups, cluster_of, settings(base), [], tmp_path, pairs=None)
    assert chosen == settings(base)
    assert tried.empty
