import shutil

import numpy as np
import pytest

from bgetune.augment.backtranslate import Translator, back_translate
from bgetune.augment.decoding import Decoding
from bgetune.config.augmentation import Pivot
from bgetune.errors import InputError

from .conftest import SENTENCES, make_m2m100, make_marian

SAMPLING = Decoding("sampling", candidates=3, top_p=0.95)


def loads_a_model(translator: Translator) -> bool:
    return "_loaded" in vars(translator)


def test_samples_do_not_depend_on_batches_or_order(marian):
    together = Translator(marian, cache=None, batch_tokens=4096).translate(SENTENCES, SAMPLING, progress=False)
    alone = Translator(marian, cache=None, batch_tokens=1).translate(SENTENCES[::-1], SAMPLING, progress=False)[::-1]
    assert together == alone
    assert len({text for group in together for text in group}) > len(SENTENCES)


def test_more_candidates_keep_the_first_ones(marian):
    three = Translator(marian, cache=None).translate(SENTENCES[:4], SAMPLING, progress=False)
    five = Translator(marian, cache=None).translate(SENTENCES[:4], Decoding("sampling", 5, top_p=0.95), progress=False)
    assert [group[:3] for group in five] == three


def test_seed_decides(marian):
    def first(seed):
        decoding = Decoding("sampling", 2, seed=seed)
        return Translator(marian, cache=None).translate(SENTENCES[:3], decoding, progress=False)

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_narrow_nucleus_is_greedy(marian):
    sampled = Translator(marian, cache=None).translate(SENTENCES, Decoding("sampling", 2, top_p=1e-6), progress=False)
    greedy = Translator(marian, cache=None).translate(SENTENCES, Decoding("beam", num_beams=1), progress=False)
    assert sampled == [[one, one] for [one] in greedy]


def test_second_run_loads_no_model(marian):
    first = Translator(marian)
    expected = first.translate(SENTENCES, SAMPLING, progress=False)
    second = Translator(marian)
    assert second.translate([*SENTENCES, SENTENCES[0]], SAMPLING, progress=False) == [*expected, expected[0]]
    assert loads_a_model(first)
    assert not loads_a_model(second)


def test_a_killed_run_continues(marian, monkeypatch):
    expected = Translator(marian, cache=None).translate(SENTENCES, SAMPLING, progress=False)
    killed = Translator(marian, batch_tokens=60)
    generate, batches = killed._generate, []

    def dies_at_the_third_batch(features, texts, steps, decoding):
        batches.append(len(texts))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return generate(features, texts, steps, decoding)

    monkeypatch.setattr(killed, "_generate", dies_at_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        killed.translate(SENTENCES, SAMPLING, progress=False)
    again = Translator(marian)
    generate_again, later = again._generate, []
    monkeypatch.setattr(
        again, "_generate", lambda f, texts, *rest: later.extend(texts) or generate_again(f, texts, *rest)
    )
    assert again.translate(SENTENCES, SAMPLING, progress=False) == expected
    assert len(later) == len(SENTENCES) - sum(batches[:2])


def test_the_cache_knows_weights_and_settings(marian, tmp_path):
    Translator(marian).translate(SENTENCES[:2], SAMPLING, progress=False)
    copy = shutil.copytree(marian, tmp_path / "another name")
    same = Translator(copy)
    same.translate(SENTENCES[:2], SAMPLING, progress=False)
    assert not loads_a_model(same)
    other_settings = Translator(marian)
    other_settings.translate(SENTENCES[:2], Decoding("sampling", 3, top_p=0.5), progress=False)
    assert loads_a_model(other_settings)
    retrained = shutil.copytree(make_marian(tmp_path / "retrained", seed=9), copy, dirs_exist_ok=True)
    other_weights = Translator(retrained)
    other_weights.translate(SENTENCES[:2], SAMPLING, progress=False)
    assert loads_a_model(other_weights)


def test_beams_are_distinct(marian):
    [found] = Translator(marian, cache=None).translate(SENTENCES[:1], Decoding("beam", 3, num_beams=2), progress=False)
    finished = [text for text in found if text]
    assert len(found) == 3
    assert len(set(finished)) == len(finished)


def test_what_never_ends_is_empty(marian, monkeypatch):
    import torch

    translator = Translator(marian, cache=None)
    _, model = translator._loaded
    model.final_logits_bias[0, 0] = -torch.inf
    assert translator.translate(SENTENCES[:3], SAMPLING, progress=False) == [["", "", ""]] * 3


def test_marian_of_several_targets_wants_a_known_code(tmp_path):
    folder = make_marian(tmp_path / "several", codes=("cmn_Hans", "cmn_Hant"))
    translator = Translator(folder, target_code="cmn_Hans", cache=None)
    assert translator._prefix == ">>cmn_Hans<< "
    tokens = translator._loaded[0](translator._prefix + SENTENCES[0])["input_ids"]
    assert tokens[0] == translator._loaded[0].convert_tokens_to_ids(">>cmn_Hans<<")
    with pytest.raises(InputError, match="no language zho_Hans"):
        Translator(folder, target_code="zho_Hans", cache=None).translate(SENTENCES[:1], progress=False)


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    return make_m2m100(tmp_path_factory.mktemp("m2m100"))


def test_multilingual_models_are_told_both_languages(m2m100):
    translator = Translator(m2m100, source_code="zh", target_code="en", cache=None)
    tokenizer, model = translator._loaded
    seen = {}
    original = model.generate

    def spy(**options):
        seen.update(options, ids=original(**options))
        return seen["ids"]

    model.generate = spy
    translator.translate(SENTENCES[:2], progress=False)
    assert seen["input_ids"][0, 0] == tokenizer.get_lang_id("zh")
    assert (seen["ids"][:, 1] == tokenizer.get_lang_id("en")).all()
    translator.translate(SENTENCES[:2], SAMPLING, progress=False)
    assert (seen["ids"][:, 1] == tokenizer.get_lang_id("en")).all()


@pytest.mark.parametrize("codes", [(None, None), ("zh", None), ("zh", "klingon")])
def test_multilingual_models_want_codes_they_know(m2m100, codes):
    with pytest.raises(InputError, match="text_code and pivot_code"):
        Translator(m2m100, source_code=codes[0], target_code=codes[1], cache=None).translate(["你好"], progress=False)


def test_a_folder_that_is_no_translator_is_named(tmp_path):
    with pytest.raises(InputError, match="pivots"):
        Translator(tmp_path / "nothing")


def test_several_pivots_there_and_back(marian, marian_back):
    pivots = [
        Pivot(language="en", to_pivot=str(marian), from_pivot=str(marian_back)),
        Pivot(language="de", to_pivot=str(marian_back), from_pivot=str(marian)),
    ]
    found = back_translate(SENTENCES[:5], pivots, SAMPLING, progress=False)
    assert list(found["via"].unique()) == ["en", "de"]
    assert not found.duplicated(["origin", "via", "paraphrase"]).any()
    # as many as were drawn, but for texts whose pivot text never ended
    drawn = found.groupby(["origin", "via"])["support"].sum()
    ended = found.groupby(["origin", "via"])["pivot_text"].first() != ""
    assert (drawn[ended] == SAMPLING.candidates).all()
    there = Translator(marian, cache=None).translate(SENTENCES[:5], Decoding("beam", num_beams=4), progress=False)
    assert found[found["via"] == "en"].groupby("origin")["pivot_text"].first().tolist() == [text for [text] in there]


def test_log_probabilities_are_those_of_the_model(marian):
    import torch

    translator = Translator(marian)
    tokenizer, model = translator._loaded
    pairs = [(SENTENCES[0], SENTENCES[5]), (SENTENCES[3], "how"), (SENTENCES[4], SENTENCES[7])]
    found = translator.log_probabilities(pairs, progress=False)
    for (source, target), scores in zip(pairs, found, strict=True):
        inputs = tokenizer(source, text_target=target, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**inputs).logits.log_softmax(dim=2)[0].gather(1, inputs["labels"][0][:, None])[:, 0]
        assert scores == pytest.approx(expected.numpy(), abs=2e-4)
    again = Translator(marian)
    assert [list(row) for row in again.log_probabilities(pairs, progress=False)] == [list(row) for row in found]
    assert not loads_a_model(again)


def test_agreement_is_the_loss_of_the_word_that_suffers_most(marian, marian_back):
    pivot = Pivot(to_pivot=str(marian), from_pivot=str(marian_back))
    table = back_translate(SENTENCES, [pivot], SAMPLING, progress=False)
    whole = table[(table["pivot_text"] != "") & (table["paraphrase"] != "")]
    row = whole.iloc[0]
    text = SENTENCES[row["origin"]]
    forth, back = Translator(marian, cache=None), Translator(marian_back, cache=None)
    [given_text, given_paraphrase] = forth.log_probabilities(
        [(text, row["pivot_text"]), (row["paraphrase"], row["pivot_text"])], progress=False
    )
    worst = min(0.0, *(given_paraphrase - given_text))
    assert row["agreement"] == pytest.approx(np.exp(worst), rel=1e-3)
    [likely] = back.log_probabilities([(row["pivot_text"], row["paraphrase"])], progress=False)
    assert row["fluency"] == pytest.approx(np.exp(likely.mean()), rel=1e-3)
    assert whole["agreement"].between(0, 1).all()
    assert (table.loc[table["paraphrase"] == "", ["agreement", "fluency"]] == 0).all(axis=None)


def test_no_pivots_no_rows():
    assert back_translate(SENTENCES, [], SAMPLING).empty
    assert back_translate([], [], SAMPLING).columns.tolist() == [
        *("origin", "via", "pivot_text", "paraphrase", "support", "fluency", "agreement")
    ]
