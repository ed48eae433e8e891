"""The warm-up on unlabelled texts, with real trainings of a very small model."""

import numpy as np
import pandas as pd
import pytest
import torch

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models.prompts import Prompts
from bgetune.training import checkpoints, denoising, save
from bgetune.training.sentence_transformers import train
from bgetune.training.settings import TrainingSettings
from bgetune.training.trainer import load


def options(base, **changes):
    values = {
        "batch_size": 16,
        "learning_rate": 5e-3,
        "max_length": 24,
        "device": "cpu",
        "precision": "float32",
    }
    return TrainingSettings.of(Train(model=str(base), **(values | changes)), epochs=1)


@pytest.fixture(scope="module")
def asked(groups):
    return [group.query for group in groups]


def read(folder):
    return load(folder, max_length=24, device="cpu")


def vectors(folder, texts):
    return read(folder).encode(texts, normalize_embeddings=True)


# --- data ---------------------------------------------------------------------------------------------------------


def test_corpus_leaves_out_what_is_held_out(world):
    texts, clusters, _ = world
    held_out = clusters["cluster_id"].isin(clusters["cluster_id"].unique()[:2])
    clusters = clusters.assign(split=np.where(held_out, "test", "train"))[1:]  # the first text is in no cluster
    found = denoising.corpus(texts, clusters, None, 0)
    assert found == texts["text"].tolist()[:1] + texts["text"].tolist()[8:]


def test_corpus_draws_by_the_seed(world):
    texts, clusters, _ = world
    first, again, other = (denoising.corpus(texts, clusters, 20, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 20
    assert set(first) <= set(texts["text"])


def test_most_tokens_are_deleted_and_the_others_keep_their_order():
    ids = torch.tensor([[2, *range(10, 210), 3], [2, 10, 3] + [0] * 199])
    features = {"input_ids": ids, "attention_mask": (ids > 0).long(), "token_type_ids": torch.zeros_like(ids)}
    part = denoising.delete_tokens(features, ids < 10, 0, [np.random.default_rng([0, row]) for row in range(2)])
    long = part["input_ids"][0]
    assert part["attention_mask"][0].all()  # as short as the longest row
    assert long[[0, -1]].tolist() == [2, 3]
    assert (long[1:-1].diff() > 0).all()
    assert 0.3 < (len(long) - 2) / 200 < 0.5
    assert part["input_ids"][1].tolist() == [2, 10, 3] + [0] * (len(long) - 3)  # one token always stays
    assert part["attention_mask"][1].sum() == 3
    assert part["token_type_ids"].shape == part["input_ids"].shape


def test_what_is_deleted_follows_from_the_item_and_differs_between_passes(base, asked):
    model = read(base)
    batch = denoising.Collator(model, asked, 7)
    first, again, later = (batch([{"item": item}]) for item in (3, 3, 3 + len(asked)))
    assert torch.equal(first["part_input_ids"], again["part_input_ids"])
    assert torch.equal(first["whole_input_ids"], later["whole_input_ids"])
    tries = [batch([{"item": 3 + turn * len(asked)}])["part_input_ids"].tolist() for turn in range(8)]
    assert len({str(ids) for ids in tries}) > 1
    assert model.tokenizer.decode(first["whole_input_ids"][0], skip_special_tokens=True).replace(" ", "") == asked[3]


# --- training -----------------------------------------------------------------------------------------------------


def test_learns_to_rebuild_and_the_training_starts_from_it(base, groups, cluster_of, asked, tmp_path):
    warmed = denoising.warm_up(base, asked, options(base), tmp_path / "warm", epochs=8)
    losses = warmed.log["loss"]
    assert losses.iloc[-5:].mean() < 0.6 * losses.iloc[:5].mean()
    assert warmed.log["step"].max() == 60  # 8 passes over 120 texts in batches of 16
    assert not np.allclose(vectors(warmed.folder, asked), vectors(base, asked), atol=0.1)
    trained = train(warmed.folder, groups, cluster_of, options(base), tmp_path / "trained")
    assert trained.log["loss"].notna().any()


def test_all_readers_load_the_model(base, asked, readers, tmp_path):
    warmed = denoising.warm_up(base, asked, options(base), tmp_path, epochs=1)
    save.save(read(warmed.folder), tmp_path / "model", Prompts("请问"))
    found = readers(tmp_path / "model")
    for documents, queries in found.values():
        np.testing.assert_allclose(documents, found["bgetune"][0], atol=1e-5)
        np.testing.assert_allclose(queries, found["bgetune"][1], atol=1e-5)


def test_a_broken_warm_up_continues_to_the_weights_of_an_unbroken_one(base, asked, tmp_path, monkeypatch):
    chosen = options(base, eval_steps=4)  # 15 steps
    whole = denoising.warm_up(base, asked, chosen, tmp_path / "whole", epochs=2)
    compute = denoising.Trainer.compute_loss

    def breaks(trainer, *args, **kwargs):
        if trainer.state.global_step == 10:
            raise KeyboardInterrupt
        return compute(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(denoising.Trainer, "compute_loss", breaks)
        with pytest.raises(KeyboardInterrupt):
            denoising.warm_up(base, asked, chosen, tmp_path / "broken", epochs=2)
    assert checkpoints.latest(next((tmp_path / "broken").iterdir())).name == "checkpoint-8"
    steps = []

    def noted(trainer, *args, **kwargs):
        steps.append(trainer.state.global_step)
        return compute(trainer, *args, **kwargs)

    monkeypatch.setattr(denoising.Trainer, "compute_loss", noted)
    continued = denoising.warm_up(base, asked, chosen, tmp_path / "broken", epochs=2)
    assert steps == list(range(8, 15))
    np.testing.assert_array_equal(vectors(whole.folder, asked), vectors(continued.folder, asked))
    pd.testing.assert_frame_equal(whole.log, continued.log)
    denoising.warm_up(base, asked, chosen, tmp_path / "broken", epochs=2)
    assert len(steps) == 7  # what is done is not done again


def test_the_same_seed_gives_the_same_model_and_another_one_another(base, asked, tmp_path):
    first, again, other = (
        vectors(denoising.warm_up(base, asked, options(base, seed=seed), tmp_path / name, epochs=2).folder, asked)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_computes_in_bfloat16_and_leaves_a_model_in_float32(base, asked, tmp_path):
    warmed = denoising.warm_up(base, asked, options(base, precision="bfloat16"), tmp_path, epochs=2)
    assert {p.dtype for p in read(warmed.folder).parameters()} == {torch.float32}


def test_mini_batches_add_up_to_the_steps_of_whole_ones(base, asked, tmp_path, monkeypatch):
    sizes = []
    delete = denoising.delete_tokens

    def noted(features, *args):
        sizes.append(len(features["input_ids"]))
        return delete(features, *args)

    monkeypatch.setattr(denoising, "delete_tokens", noted)
    warmed = denoising.warm_up(base, asked, options(base, mini_batch_size=6), tmp_path, epochs=2)
    assert warmed.log["step"].max() == 14  # 240 texts, three times 6 a step
    assert set(sizes) == {6}
    assert len(sizes) == 40


# --- bad input ----------------------------------------------------------------------------------------------------


def test_no_text(base, tmp_path):
    with pytest.raises(InputError, match="denoising_epochs: there is no text to warm up on"):
        denoising.warm_up(base, [], options(base), tmp_path, epochs=2)


def test_a_loss_that_is_not_finite(base, asked, tmp_path):
    with pytest.raises(InputError, match=r"denoising_epochs: the loss is nan in step \d+ .* lower learning_rate"):
        denoising.warm_up(base, asked, options(base, learning_rate=1.0, weight_decay=1e30), tmp_path, epochs=2)


def test_a_model_without_a_decoder(base, asked, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    tokenizer = AutoTokenizer.from_pretrained(str(base))
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path / "distil")
    tokenizer.save_pretrained(tmp_path / "distil")
    model = SentenceTransformer(
        modules=[modules.Transformer(str(tmp_path / "distil")), modules.Pooling(32, "cls")], device="cpu"
    )
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    with pytest.raises(InputError, match=r"cannot be its own decoder, as BERT and XLM-R can .* set it to 0"):
        denoising.warm_up(tmp_path / "model", asked, options(base), tmp_path / "warm", epochs=2)
