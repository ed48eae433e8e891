import json

import numpy as np
import pytest
import tiny

from bgetune.config.stages import Train
from bgetune.errors import InputError
from bgetune.models.encoder import Encoder
from bgetune.models.prompts import CONFIG, NO_PROMPTS, Prompts

BGE = "为这个句子生成表示以用于检索相关文章："
E5 = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}


def folder_with(folder, settings):
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("said", "parameters", "expected"),
    [
        ({}, (None, None), NO_PROMPTS),
        ({}, (BGE, None), Prompts(BGE, "", "")),  # queries that search only
        (E5, (None, None), Prompts("query: ", "passage: ", "query: ")),
        (E5, ("", ""), NO_PROMPTS),
        (E5, (None, ""), Prompts("query: ", "", "")),
        ({}, ("query: ", "passage: "), Prompts("query: ", "passage: ", "query: ")),
        # what sentence-transformers 5 and later make of E5's: an empty "document" beside "passage"
        ({"prompts": E5["prompts"] | {"document": ""}}, (None, None), Prompts("query: ", "passage: ", "query: ")),
        ({"prompts": {"query": "q:", "document": "d:", "corpus": "c:"}}, (None, None), Prompts("q:", "d:", "q:")),
        # a default stands before all that no other prompt is named for
        ({"prompts": {"all": "a:"}, "default_prompt_name": "all"}, (None, None), Prompts("a:", "a:", "a:")),
        (
            {"prompts": {"query": "q:", "document": "", "sts": "s:"}, "default_prompt_name": "sts"},
            (None, None),
            Prompts("q:", "", "s:"),
        ),
        ({"prompts": {"query": None}, "default_prompt_name": None}, (None, None), NO_PROMPTS),
    ],
)
def test_parameters_come_before_what_the_model_says(tmp_path, said, parameters, expected):
    assert Prompts.of(folder_with(tmp_path / "model", said), *parameters) == expected
    # a tuned model, saved with them, says the same: with the same parameters and without any
    tuned = folder_with(tmp_path / "tuned", expected.saved())
    assert Prompts.of(tuned, *parameters) == expected
    assert Prompts.of(tuned) == expected


@pytest.mark.parametrize("said", ["[]", '{"prompts": {"query": 3}}', '{"default_prompt_name": "query"}', "{"])
def test_prompts_that_cannot_be_read(tmp_path, said):
    (tmp_path / CONFIG).write_text(said, "utf-8")
    with pytest.raises(InputError, match=f"{CONFIG}: the model's prompts cannot be read"):
        Prompts.of(tmp_path)


def test_the_task_of_a_pair_decides():
    kinds, others = ["query", "document", "query", "document"], ["document", "query", "query", "document"]
    before = Prompts("q:", "d:", "s:").before(kinds, others)
    assert before.tolist() == ["q:", "d:", "s:", "s:"]
    assert (np.array(["a", "b", "c", "d"], dtype=object) + before)[0] == "aq:"


@pytest.mark.parametrize("default", [None, "query"])
def test_no_prompt_is_put_twice(tmp_path, default):
    """A default prompt of the model's own is what sentence-transformers would put before every text by itself."""
    model = tiny.save_sentence_transformer(tmp_path / "model", pooling="mean")
    plain = Encoder(model, cache_dir=None, device="cpu")
    folder_with(model, E5 | {"default_prompt_name": default})
    texts = ["支付密码", "登录"]
    encoder = Encoder.of(Train(model=str(model), device="cpu"), cache_dir=None)
    for prompt in (encoder.prompts.query, encoder.prompts.document, ""):
        expected = plain.encode([prompt + text for text in texts], prompt="")
        np.testing.assert_allclose(encoder.encode(texts, prompt=prompt), expected, atol=1e-6)
        loaded = encoder.model.encode([prompt + text for text in texts], show_progress_bar=False)
        np.testing.assert_allclose(loaded, expected, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode(texts), encoder.encode(texts, prompt="query: "))
