"""The loops against the plain ways: transformers' own beam search, and drawing one token of one sample at a time."""

import numpy as np
import pytest

from bgetune import paths
from bgetune.augment.decoding import TOP_K, beam_search, draw, sample

from .conftest import SENTENCES

ZH, EN = SENTENCES[:5], SENTENCES[5:]


def load(folder):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return tokenizer, model


@pytest.fixture(scope="module")
def tiny(marian):
    return load(marian)


@pytest.fixture(scope="module")
def trained():
    """A translator that has learnt something: its beams are close to each other and end at different lengths."""
    return load(paths.locate("demo://small/zh-en"))


@pytest.fixture(scope="module", params=["tiny", "trained"])
def either(request, tiny, trained):
    return {"tiny": tiny, "trained": trained}[request.param]


def inputs(tokenizer, texts):
    return dict(tokenizer(texts, return_tensors="pt", padding=True))


def sequences(ids, tokenizer):
    """Rows without what stands behind their end."""
    rows = []
    for row in ids.tolist():
        end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
        rows.append(row[: end + 1])
    return rows


SETTINGS = [
    {"num_beams": 4},
    {"num_beams": 1},
    {"num_beams": 6, "num_return_sequences": 6},
    {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.0},
    {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0},
    {"num_beams": 4, "num_return_sequences": 4, "length_penalty": -1.0},
    {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True},
    {"num_beams": 3, "num_return_sequences": 3, "early_stopping": "never"},
    {"num_beams": 3, "num_return_sequences": 2, "early_stopping": "never", "length_penalty": -0.5},
    {"num_beams": 4, "max_new_tokens": 3, "num_return_sequences": 4},
    {"num_beams": 4, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_beam_search_is_that_of_transformers(either, settings):
    tokenizer, model = either
    options = {"max_new_tokens": 20, "do_sample": False, **settings}
    given = inputs(tokenizer, SENTENCES)
    expected = sequences(model.generate(**given, **options), tokenizer)
    # with one beam, `generate` searches greedily
    assert sequences(model.generate(**given, **options, custom_generate=beam_search), tokenizer) == expected
    assert len({tuple(row) for row in expected}) > 2


def test_texts_of_a_batch_do_not_change_one_another(trained):
    tokenizer, model = trained
    options = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 20, "custom_generate": beam_search}
    together = sequences(model.generate(**inputs(tokenizer, ZH), **options), tokenizer)
    alone = [row for text in ZH for row in sequences(model.generate(**inputs(tokenizer, [text]), **options), tokenizer)]
    assert together == alone


def test_the_first_token_can_be_forced(tiny):
    tokenizer, model = tiny
    given = inputs(tokenizer, ZH)
    forced = tokenizer.convert_tokens_to_ids("▁how")
    options = {"max_new_tokens": 12, "forced_bos_token_id": forced, "do_sample": False, "num_return_sequences": 2}
    found = model.generate(**given, **options, num_beams=3, custom_generate=beam_search)
    assert (found[:, 1] == forced).all()
    assert sequences(found, tokenizer) == sequences(model.generate(**given, **options, num_beams=3), tokenizer)
    del options["num_return_sequences"]
    draws = numbers(len(ZH), 13)
    found = model.generate(**given, **options, custom_generate=sample, draws=draws, nucleus=0.9, heat=1.0)
    assert (found[:, 1] == forced).all()
    assert len({tuple(row) for row in found[:, 2:].tolist()}) > 1


def numbers(rows, steps):
    import torch

    return torch.from_numpy(np.random.default_rng(5).random((rows, steps)))


def drawn_naively(model, given, draws, nucleus, heat, steps):
    """One sample of one text, token by token and without a cache: inverse transform sampling in a sorted nucleus."""
    import torch

    ids = [model.config.decoder_start_token_id]
    for step in range(steps):
        with torch.inference_mode():
            logits = model(**given, decoder_input_ids=torch.tensor([ids])).logits[0, -1].double().numpy()
        logits[model.config.pad_token_id] = -np.inf
        chances = np.exp(logits / heat - np.logaddexp.reduce(logits / heat))
        order = np.argsort(-chances, kind="stable")[:TOP_K]
        mass = chances[order].cumsum()
        inside = mass[: np.searchsorted(mass, nucleus) + 1]
        token = order[np.searchsorted(inside / inside[-1], draws[step], side="right")]
        if step == steps - 1:
            token = model.config.eos_token_id  # Marian models are made to end
        ids.append(int(token))
        if token == model.config.eos_token_id:
            break
    return ids


@pytest.mark.slow
@pytest.mark.parametrize(("nucleus", "heat"), [(0.9, 1.0), (0.5, 2.0), (1.0, 0.7)])
def test_samples_are_those_of_a_naive_sampler(either, nucleus, heat):
    tokenizer, model = either
    samples, steps = 5, 12
    draws = numbers(len(ZH) * samples, steps)
    given = inputs(tokenizer, ZH)
    found = model.generate(
        **given, max_new_tokens=steps, do_sample=False, num_beams=1,
        custom_generate=sample, draws=draws, nucleus=nucleus, heat=heat,
    )  # fmt: skip
    expected = [
        drawn_naively(model, inputs(tokenizer, [text]), draws[samples * place + number].numpy(), nucleus, heat, steps)
        for place, text in enumerate(ZH)
        for number in range(samples)
    ]
    assert sequences(found, tokenizer) == expected
    assert len({tuple(row) for row in expected}) > len(ZH)


def test_numbers_fall_on_the_nucleus_in_proportion():
    import torch

    chances = np.array([0.5, 0.3, 0.15, 0.05])
    draws = torch.linspace(0, 1, 10_001, dtype=torch.double)[:-1]
    scores = torch.tensor(np.log(chances))[None].float()
    chosen = draw(scores, torch.zeros(len(draws), dtype=torch.long), draws, nucleus=0.9, heat=1.0)
    # the smallest set with 0.9 or more: the first three
    assert np.bincount(chosen, minlength=4) / len(draws) == pytest.approx(
        [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=1e-3
    )
