"""Real trainings of a very small reranker."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoTokenizer, BertForSequenceClassification

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models.reranker import Reranker
from bgetune.training import reranking, reranking_flagembedding, reranking_save, train_reranker
from bgetune.training.groups import Group, blocks
from bgetune.training.reranking_batches import RANDOM, RerankerCollator
from bgetune.training.sampler import ClusterBatchSampler
from bgetune.training.settings import RerankerSettings

PAIRS = [("怎么查询密码", "如何查询我的密码"), ("如何修改我的订单", "我想修改密码"), ("密", "我想取消贷款" * 30)]


@pytest.fixture(scope="module")
def cross_encoder(base, tmp_path_factory):
    """A function: the folder of an untrained cross-encoder with some outputs."""

    def make(outputs=1):
        folder = tmp_path_factory.mktemp("reranker")
        torch.manual_seed(0)
        model = BertForSequenceClassification.from_pretrained(base.parent / "bert", num_labels=outputs)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(base.parent / "bert").save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def reranker(cross_encoder):
    return cross_encoder()


def parameters(reranker, **changes):
    chosen = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3} | changes
    ours = {f"reranker_{name}": chosen.pop(name) for name in ("loss", *chosen) if name in OWN and name in chosen}
    values = {"max_length": 24, "device": "cpu", "negatives": 3, "precision": "float32"}
    return Train(model="x/y", reranker=str(reranker), tune_reranker=True, **(values | ours | chosen))


OWN = ("loss", "epochs", "batch_size", "learning_rate")


def options(reranker, **changes):
    return RerankerSettings.of(parameters(reranker, **changes))


def weights(tuned):
    return {name: tensor.clone() for name, tensor in tuned.model.state_dict().items()}


def test_settings_are_the_reranker_s_own_where_there_are_some(reranker):
    chosen = options(reranker, loss="lambda", epochs=4, learning_rate=3e-5, warmup=0.2)
    assert (chosen.loss, chosen.epochs, chosen.learning_rate, chosen.warmup) == ("lambda", 4, 3e-5, 0.2)
    assert chosen.batch_size == 16  # not the encoder's 64


def collator(groups, cluster_of, negatives=3, loss="binary", epochs=3):
    return RerankerCollator(None, 24, groups, cluster_of, epochs=epochs, seed=1, negatives=negatives, loss=loss)


def test_no_known_positive_is_ever_a_negative_and_every_query_sees_random_texts(groups, cluster_of):
    short = [Group(g.query, g.positives, g.negatives[: i % 4]) for i, g in enumerate(groups)]
    made = collator(short, cluster_of)
    sampler = ClusterBatchSampler(blocks(short, cluster_of), 16, seed=1, renumber=True)
    seen = set()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in sampler:
            for item, ranking in zip(batch, made.rankings(batch), strict=True):
                group = short[item % len(short)]
                negatives = ranking.texts[1:]
                assert ranking.labels == [1] + [0] * len(negatives)
                assert ranking.texts[0] in group.positives
                assert cluster_of[group.query] not in {cluster_of[text] for text in negatives}
                random = [text for text in negatives if text not in group.negatives]
                assert len(random) == max(RANDOM, 3 - len(group.negatives))
                assert len(set(negatives)) == len(negatives) == len(random) + len(group.negatives)
                seen.add((group.query, ranking.texts[0]))
    assert len(seen) == sum(len(group.positives) for group in short), "a positive was never shown in three epochs"


def test_the_texts_of_a_batch_depend_on_its_items_alone(groups, cluster_of):
    batch = [5, 130, 260]
    assert collator(groups, cluster_of).rankings(batch) == collator(groups, cluster_of).rankings(batch)
    assert collator(groups, cluster_of).rankings(batch) != collator(groups, cluster_of).rankings([5, 130, 262])


def test_learns_and_keeps_the_checkpoint_that_is_best_on_dev(reranker, groups, cluster_of, dev_pairs, tmp_path):
    seen = []
    chosen = options(reranker, epochs=3, learning_rate=3e-3)
    tuned = reranking.train(reranker, groups, cluster_of, chosen, tmp_path, pairs=dev_pairs, on_evaluation=seen.append)
    log = tuned.log.set_index("step")
    losses = log["loss"].dropna()
    assert losses.iloc[-3:].mean() < losses.iloc[:3].mean()
    assert tuned.best_step == log["average_precision"].iloc[1:].idxmax()
    assert seen[-1]["step"].max() == log.index.max() == 24  # 120 groups in batches of 16 are 8, three times
    # the model is that checkpoint, and step 0 the reranker before
    for step, location in ((tuned.best_step, tuned.model), (0, reranking.load(reranker, chosen))):
        found = reranking.PairEvaluator(dev_pairs).measure(location)
        assert found["average_precision"] == pytest.approx(log.loc[step, "average_precision"], abs=1e-6)
        assert 0 < found["mean_negative"] < 1


@pytest.mark.parametrize("loss", ["binary", "listnet", "lambda"])
def test_groups_and_graded_pairs_train_together(reranker, groups, cluster_of, tmp_path, loss):
    graded = pd.DataFrame(
        [(group.query, group.positives[0], 1.0) for group in groups[:32]], columns=["query", "text", "grade"]
    )
    chosen = options(reranker, loss=loss, epochs=1)
    trained = reranking.train(reranker, groups[:32], cluster_of, chosen, tmp_path / "a", graded=graded)
    assert trained.best_step == trained.log["step"].max() == 4  # without dev pairs the last state
    assert np.isfinite(trained.log["loss"].dropna()).all()
    alone = options(reranker, loss=loss, epochs=1, graded_loss="none")
    trained = reranking.train(reranker, groups[:32], cluster_of, alone, tmp_path / "b", graded=graded)
    assert trained.log["step"].max() == 2  # 32 groups


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"gradient_checkpointing": True}])
def test_options_train(reranker, groups, cluster_of, tmp_path, changes):
    if changes.get("precision") == "bfloat16" and not torch.backends.mkldnn.is_available():
        pytest.skip("no bfloat16 here")
    chosen = options(reranker, epochs=1, **changes)
    trained = reranking.train(reranker, groups[:32], cluster_of, chosen, tmp_path)
    assert np.isfinite(trained.log["loss"].dropna()).all()
    assert {tensor.dtype for tensor in trained.model.parameters()} == {torch.float32}
    before = reranking.logits(reranking.load(reranker, chosen), PAIRS)
    assert np.abs(reranking.logits(trained.model, PAIRS) - before).max() > 1e-4


class Stopped(Exception):
    pass


def test_a_stopped_training_ends_with_the_weights_of_an_unbroken_one(reranker, groups, cluster_of, dev_pairs, tmp_path):
    chosen = options(reranker, epochs=3)  # 24 steps, a checkpoint every third

    def stop(log):
        steps.append(int(log["step"].max()))
        if steps[-1] == 12:
            raise Stopped

    steps = []
    with pytest.raises(Stopped):
        reranking.train(reranker, groups, cluster_of, chosen, tmp_path / "broken", pairs=dev_pairs, on_evaluation=stop)
    again = []
    continued = reranking.train(
        reranker, groups, cluster_of, chosen, tmp_path / "broken", pairs=dev_pairs, on_evaluation=again.append
    )
    assert again[0]["step"].max() == 12  # from the checkpoint of step 9 on
    whole = reranking.train(reranker, groups, cluster_of, chosen, tmp_path / "whole", pairs=dev_pairs)
    first, second = weights(whole), weights(continued)
    assert all(torch.equal(first[name], second[name]) for name in first)
    columns = ["step", "loss", "average_precision"]
    pd.testing.assert_frame_equal(whole.log[columns], continued.log[columns], atol=1e-6)
    other = reranking.train(reranker, groups, cluster_of, options(reranker, seed=7), tmp_path / "other")
    assert not all(torch.equal(first[name], tensor) for name, tensor in weights(other).items())


def test_a_reranker_with_several_outputs_is_refused(cross_encoder, groups, cluster_of, tmp_path):
    folder = cross_encoder(2)
    with pytest.raises(InputError, match=r"has 2 outputs, and tune_reranker trains rerankers with one"):
        reranking.train(folder, groups, cluster_of, options(folder), tmp_path)


def test_loss_that_is_not_finite_names_the_batch(reranker, groups, cluster_of, tmp_path):
    chosen = options(reranker, learning_rate=1.0, weight_decay=1e30)
    with pytest.raises(InputError, match=r"reranker's loss is nan in step \d+, epoch \d, in a batch of \d+ groups"):
        reranking.train(reranker, groups, cluster_of, chosen, tmp_path)


# --- FlagEmbedding's trainer ------------------------------------------------------------------------------------------


def test_the_official_command_takes_its_values_from_the_parameters(reranker, tmp_path):
    chosen = options(reranker, backend="flagembedding", max_length=33, negatives=5)
    line = reranking_flagembedding.command(tmp_path, tmp_path / "t.jsonl", tmp_path, chosen, steps=10)
    given = dict(zip(line[3::2], line[4::2], strict=True))
    assert given["--train_group_size"] == "6"
    assert int(given["--query_max_len"]) + int(given["--passage_max_len"]) == 33
    assert given["--learning_rate"] == "0.001"
    assert given["--num_train_epochs"] == "2"


def test_the_official_trainer_leaves_a_reranker_for_every_reader(
    reranker, groups, cluster_of, dev_pairs, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    short = [Group(g.query, g.positives, g.negatives[: i % 3]) for i, g in enumerate(groups[:64])]
    chosen = parameters(reranker, backend="flagembedding", epochs=2, batch_size=32)
    settings = RerankerSettings.of(chosen)
    tuned = train_reranker(reranker, short, cluster_of, settings, tmp_path / "c", pairs=dev_pairs)
    log = tuned.log.set_index("step")
    assert log.index.max() == 4  # 64 groups in batches of 32, twice
    assert tuned.best_step == log["average_precision"].iloc[1:].idxmax()
    tuned.write(tmp_path / "model", chosen.model_dump(), counts={}, run_name="shop")
    ours = Reranker(tmp_path / "model", max_length=24, device="cpu", cache_dir=None).score(PAIRS)
    np.testing.assert_allclose(1 / (1 + np.exp(-reranking.logits(tuned.model, PAIRS))), ours, atol=1e-6)
    base = Reranker(reranker, max_length=24, device="cpu", cache_dir=None).score(PAIRS)
    assert np.abs(ours - base).max() > 1e-4


# --- what is saved ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(reranker, groups, cluster_of, dev_pairs, tmp_path_factory):
    """The folder of a tuned reranker, and its measures."""
    folder = tmp_path_factory.mktemp("tuned")
    chosen = parameters(reranker, epochs=1)
    settings = RerankerSettings.of(chosen)
    tuned = reranking.train(reranker, groups, cluster_of, settings, folder / "checkpoints", pairs=dev_pairs)
    told = {"counts": {"groups": len(groups)}, "run_name": "<i>shop</i>", "judged": "Judged by generated pairs."}
    result = tuned.write(folder / "model", chosen.model_dump(), **told)
    return folder / "model", result, tuned


def test_every_reader_gives_the_same_scores(saved):
    from FlagEmbedding import FlagReranker
    from sentence_transformers import CrossEncoder

    folder, _result, tuned = saved
    ours = Reranker(folder, max_length=24, device="cpu", cache_dir=None).score(PAIRS)
    short = PAIRS[:2]
    np.testing.assert_allclose(CrossEncoder(str(folder), device="cpu").predict(PAIRS), ours, atol=1e-6)
    flag = FlagReranker(str(folder), max_length=24, normalize=True, use_fp16=False, devices="cpu")
    np.testing.assert_allclose(flag.compute_score(short), ours[:2], atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-reranking.logits(tuned.model, PAIRS))), ours, atol=1e-6)
    assert np.ptp(ours) > 1e-4


def test_the_folder_holds_safetensors_and_no_pickle(saved):
    names = {file.name for file in saved[0].rglob("*")}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_shorter_weights_leave_the_reranker_alone(saved, tmp_path):
    from safetensors.torch import load_file

    model = saved[2].model
    before = reranking.logits(model, PAIRS)
    reranking_save.save(model, tmp_path, "bfloat16")
    np.testing.assert_array_equal(reranking.logits(model, PAIRS), before)
    assert {weight.dtype for weight in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}


def test_the_calls_of_the_card_give_our_scores_and_it_tells_no_places(saved):
    folder, result, tuned = saved
    card = (folder / "README.md").read_text("utf-8")
    ours = Reranker(folder, max_length=24, device="cpu", cache_dir=None).score(PAIRS[:1])
    blocks_of_code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks_of_code) == 2
    for block in blocks_of_code:
        names = {}
        exec(block.replace("path/to/this/folder", str(folder)).replace('[("...", "...")]', repr(PAIRS[:1])), names)
        np.testing.assert_allclose(names["scores"], ours, atol=1e-6)
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "text-ranking"
    assert "base_model" not in front
    before, after = result.loc["average_precision"]
    assert f"| average_precision | {before:.4f} | {after:.4f} |" in card
    assert after == tuned.log.set_index("step").loc[tuned.best_step, "average_precision"]
    assert "**Judged by generated pairs.**\n\n| measure |" in card
    assert "| reranker_epochs | 1 |" in card
    assert "| negatives | 3 |" in card
    assert "| batch_size |" not in card  # the encoder's
    assert "<i>" not in card
    assert str(folder.parent) not in card
