"""TensorBoard's files, read back by TensorBoard."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.training import events
from bgetune.training.sentence_transformers import train
from bgetune.training.settings import TrainingSettings


def options(base, **changes):
    values = {"epochs": 2, "batch_size": 16, "learning_rate": 5e-3, "max_length": 24, "device": "cpu", "positives": 1}
    parameters = Train(model=str(base), **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def read(folder, name):
    """Step -> value, as TensorBoard shows it."""
    files = EventAccumulator(str(folder))
    files.Reload()
    return {event.step: event.value for event in files.Scalars(name)}


def test_the_curves_are_those_of_the_log_also_after_a_break(base, groups, cluster_of, dev_pairs, tmp_path):
    def breaks(log):
        if log["step"].max() == 9:
            raise KeyboardInterrupt

    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "of another training").write_text("")
    arguments = (base, groups, cluster_of, options(base, eval_steps=3), tmp_path / "c")
    folder = {"pairs": dev_pairs, "tensorboard_dir": tmp_path / "events"}
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, **folder, on_evaluation=breaks)
    trained = train(*arguments, **folder)
    log = trained.log.set_index("step")
    assert read(tmp_path / "events", "eval/average_precision") == pytest.approx(
        log["average_precision"].dropna().to_dict(), abs=1e-6
    )
    assert read(tmp_path / "events", "train/loss") == pytest.approx(log["loss"].dropna().to_dict(), abs=1e-4)
    assert [file.name[:17] for file in sorted((tmp_path / "events").iterdir())] == ["events.out.tfeven"] * 2


def test_a_finished_log_becomes_an_event_file(base, groups, cluster_of, dev_pairs, tmp_path):
    log = train(base, groups, cluster_of, options(base, epochs=1), tmp_path / "c", pairs=dev_pairs).log
    events.write(tmp_path / "events", log)
    assert read(tmp_path / "events", "eval/auc") == pytest.approx(log.set_index("step")["auc"].dropna().to_dict())
    assert len(read(tmp_path / "events", "train/learning_rate")) == log["learning_rate"].notna().sum()


def test_without_the_package_one_message_says_how_to_get_it(base, groups, cluster_of, tmp_path, monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        events.require()
    with pytest.raises(InputError, match="pip install tensorboard"):
        train(base, groups, cluster_of, options(base), tmp_path, tensorboard_dir=tmp_path / "events")
