"""LoRA in real trainings of a very small model."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from bgetune.config.stages import Train
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import Prompts
from bgetune.training import checkpoints, lora
from bgetune.training.save import save
from bgetune.training.sentence_transformers import train
from bgetune.training.settings import TrainingSettings
from bgetune.training.trainer import load


def options(base, **changes):
    values = {"epochs": 2, "batch_size": 16, "learning_rate": 2e-2, "max_length": 24, "device": "cpu", "positives": 1}
    parameters = Train(model=str(base), lora_rank=4, **(values | changes))
    return TrainingSettings.of(parameters, epochs=parameters.epochs)


def test_every_linear_layer_but_the_pooler_gets_an_addition(base):
    model = load(base, max_length=24, device="cpu")
    before = model.encode(["查询订单"])
    lora.add(model, rank=4, seed=1)
    trained = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 6 * 2  # layers, linear layers, matrices
    assert not [name for name in trained if "pooler" in name or "lora_" not in name]
    assert all(4 in shape for shape in trained.values())
    np.testing.assert_array_equal(model.encode(["查询订单"]), before)  # it starts as it was


def test_learns_and_leaves_a_plain_model_for_every_reader(base, groups, cluster_of, dev_pairs, readers, tmp_path):
    trained = train(base, groups, cluster_of, options(base, epochs=6), tmp_path / "c", pairs=dev_pairs)
    log = trained.log.set_index("step")
    assert log.loc[trained.best_step, "average_precision"] > log.loc[0, "average_precision"] + 0.1
    plain = SentenceTransformer(str(base), device="cpu")
    assert trained.model.state_dict().keys() == plain.state_dict().keys()

    # what is saved is the best checkpoint: its additions on the weights of before, which peft merges by itself
    folder = next((tmp_path / "c").iterdir()) / f"checkpoint-{trained.best_step}"
    assert not (folder / "model.safetensors").exists()
    peft = SentenceTransformer(str(folder), device="cpu")
    texts = ["怎么查询密码", "如何修改我的订单"]
    save(trained.model, tmp_path / "model", Prompts("请问"))
    found = readers(tmp_path / "model")
    np.testing.assert_allclose(
        Encoder(tmp_path / "model", device="cpu", cache_dir=None).encode(texts), peft.encode(texts), atol=1e-5
    )
    assert np.abs(peft.encode(texts) - plain.encode(texts)).max() > 0.01
    for reader, (documents, queries) in found.items():
        np.testing.assert_allclose(documents, found["bgetune"][0], atol=1e-5, err_msg=reader)
        np.testing.assert_allclose(queries, found["bgetune"][1], atol=1e-5, err_msg=reader)


def test_a_broken_training_continues_to_the_weights_of_an_unbroken_one(base, groups, cluster_of, dev_pairs, tmp_path):
    chosen = options(base, epochs=3, eval_steps=5)  # 24 steps

    def breaks(log):
        if log["step"].max() == 15:
            raise KeyboardInterrupt

    whole = train(base, groups, cluster_of, chosen, tmp_path / "a", pairs=dev_pairs)
    with pytest.raises(KeyboardInterrupt):
        train(base, groups, cluster_of, chosen, tmp_path / "b", pairs=dev_pairs, on_evaluation=breaks)
    assert checkpoints.latest(next((tmp_path / "b").iterdir())).name == "checkpoint-10"
    steps = []
    continued = train(
        base,
        groups,
        cluster_of,
        chosen,
        tmp_path / "b",
        pairs=dev_pairs,
        on_evaluation=lambda log: steps.append(log["step"].max()),
    )
    assert steps[0] == 15
    first, second = whole.model.state_dict(), continued.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert continued.best_step == whole.best_step


@pytest.mark.parametrize(
    "changes", [{"gradient_checkpointing": True}, {"mini_batch_size": 8}, {"precision": "bfloat16"}]
)
def test_goes_with_the_other_options(base, groups, cluster_of, tmp_path, changes):
    trained = train(base, groups[:48], cluster_of, options(base, epochs=1, **changes), tmp_path)
    before = load(base, max_length=24, device="cpu").state_dict()
    moved = [name for name, tensor in trained.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(moved) == 12  # the weights of the linear layers
    assert np.isfinite(trained.log["loss"].dropna()).all()
