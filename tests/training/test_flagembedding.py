import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models import layout
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts
from bgetune.training import TrainingSettings, evaluation, flagembedding, train
from bgetune.training.groups import Group
from bgetune.training.save import save


def options(base, **changes):
    values = {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3, "max_length": 24, "device": "cpu", "negatives": 3}
    parameters = Train(model=str(base), backend="flagembedding", **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def test_short_lists_of_negatives_are_filled_from_other_clusters(groups, cluster_of):
    short = [Group(g.query, g.positives, g.negatives[: i % 4], g.prompt) for i, g in enumerate(groups)]
    filled = flagembedding.fill(short, cluster_of, 3, seed=0)
    assert filled == flagembedding.fill(short, cluster_of, 3, seed=0)
    for before, after in zip(short, filled, strict=True):
        assert after.negatives[: len(before.negatives)] == before.negatives
        assert len(set(after.negatives)) == len(after.negatives) == 3
        assert cluster_of[before.query] not in {cluster_of[text] for text in after.negatives}
    assert len({text for group in filled[::4] for text in group.negatives}) > 20


def test_command_takes_its_values_from_the_parameters(base, tmp_path):
    chosen = options(base, scale=25, negatives=5, max_length=48)
    line = flagembedding.command(base, tmp_path / "t.jsonl", tmp_path, chosen, steps=10)
    given = dict(zip(line[3::2], line[4::2], strict=True))
    assert given["--temperature"] == "0.04"
    assert given["--train_group_size"] == "6"
    assert given["--query_max_len"] == given["--passage_max_len"] == "48"
    assert given["--use_cpu"] == "True"
    assert "--overwrite_output_dir" not in line


@pytest.fixture
def pooled(base, tmp_path):
    """A function: the base model with another pooling."""

    def make(pooling):
        model = SentenceTransformer(str(base), device="cpu")
        model[1].pooling_mode = pooling
        model.save_pretrained(str(tmp_path / f"base-{pooling}"), create_model_card=False)
        return tmp_path / f"base-{pooling}"

    return make


@pytest.mark.parametrize(("pooling", "said"), [("cls", "cls"), ("mean", "mean"), ("lasttoken", "last_token")])
def test_pooling_is_the_base_model_s(pooled, tmp_path, pooling, said):
    folder = pooled(pooling)
    line = flagembedding.command(folder, tmp_path / "t.jsonl", tmp_path, options(folder), steps=10)
    assert line[line.index("--sentence_pooling_method") + 1] == said


def test_a_pooling_that_the_trainer_lacks_is_refused_before_it_starts(pooled, groups, cluster_of, tmp_path):
    folder = pooled("max")
    with pytest.raises(InputError, match=r"cls, mean, lasttoken pooling only.* is max"):
        train(folder, groups, cluster_of, options(folder), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_mean_pooling_model_stays_one(pooled, groups, cluster_of, dev_pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = pooled("mean")
    trained = train(folder, groups[:32], cluster_of, options(folder, epochs=1), tmp_path / "c", pairs=dev_pairs)
    save(trained.model, tmp_path / "model")
    assert layout.pooling(tmp_path / "model") == "mean"
    # step 0 and the later looks are of the same kind of model: the last one is what was saved
    saved = Encoder(tmp_path / "model", device="cpu", cache_dir=None)
    judged = evaluation.dev_metrics(dev_pairs, lambda texts: saved.encode(texts, prompt=""))
    assert judged["auc"] == pytest.approx(trained.log["auc"].dropna().iloc[-1], abs=1e-6)


def test_trains_and_leaves_a_model_for_every_reader(
    base, groups, cluster_of, dev_pairs, readers, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    short = [Group(g.query, g.positives, g.negatives[: i % 3], "请问" * (i % 2)) for i, g in enumerate(groups[:64])]
    trained = train(base, short, cluster_of, options(base), tmp_path / "c", pairs=dev_pairs)
    log = trained.log.set_index("step")
    assert log.index.max() == 4
    assert trained.best_step == log["average_precision"].iloc[1:].idxmax()
    assert log["loss"].dropna().iloc[-1] < log["loss"].dropna().iloc[0]
    assert trained.model.max_seq_length == options(base).max_length  # what the saved folder tells other libraries

    save(trained.model, tmp_path / "model", Prompts("请问"))
    found = readers(tmp_path / "model")
    for reader, (documents, queries) in found.items():
        np.testing.assert_allclose(documents, found["bgetune"][0], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(queries, found["bgetune"][1], atol=1e-5, err_msg=reader)

    # a training that is over is not done again; one that was killed in its second epoch is
    folder = next((tmp_path / "c").iterdir())
    weights = folder / "checkpoint-4" / "model.safetensors"
    done, last = weights.stat().st_mtime_ns, load_file(weights)
    train(base, short, cluster_of, options(base), tmp_path / "c", pairs=dev_pairs)
    assert weights.stat().st_mtime_ns == done
    shutil.rmtree(folder / "checkpoint-4")
    train(base, short, cluster_of, options(base), tmp_path / "c", pairs=dev_pairs)
    again = load_file(weights)
    assert all(torch.equal(last[name], again[name]) for name in last)


def test_a_trainer_that_fails_is_quoted(base, groups, cluster_of, tmp_path, monkeypatch):
    program = "import sys; print('out of luck'); sys.exit(3)"
    monkeypatch.setattr(flagembedding, "command", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(InputError, match=r"stopped with status 3; the end of .*flagembedding.log:\nout of luck"):
        train(base, groups, cluster_of, options(base), tmp_path)


def test_loss_that_is_not_finite(base, groups, cluster_of, tmp_path, monkeypatch):
    state = {"global_step": 8, "log_history": [{"step": 8, "epoch": 2.0, "loss": "nan"}]}
    program = (
        "import sys, json, pathlib; folder = pathlib.Path(sys.argv[1]) / 'checkpoint-8'; folder.mkdir(); "
        "(folder / 'trainer_state.json').write_text(sys.argv[2])"
    )
    monkeypatch.setattr(
        flagembedding,
        "command",
        lambda source, data, folder, *_: [sys.executable, "-c", program, str(folder), json.dumps(state)],
    )
    with pytest.raises(InputError, match="not finite"):
        train(base, groups, cluster_of, options(base), tmp_path)
