"""Tiny translators with random weights: wrong in every word, right in every mechanism."""

from pathlib import Path

import pytest

SENTENCES = [
    "怎么修改登录密码",
    "如何更改支付密码",
    "提前还款要收手续费吗",
    "订单取消不了怎么办",
    "退款几天到账",
    "how do i change my login password",
    "how can i modify the payment password",
    "is there a fee for early repayment",
    "what to do when i fail to cancel the order",
    "how many days does the refund take",
]


def make_marian(folder: Path, seed: int = 0, codes: tuple[str, ...] = ()) -> Path:
    """A MarianMT folder (2 layers of width 32, a sentencepiece vocabulary of its own sentences)."""
    import json

    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True)
    corpus = folder / "corpus"
    corpus.write_text("\n".join(SENTENCES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "source"),
        vocab_size=120,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    corpus.unlink()
    (folder / "source.vocab").unlink()
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = ["</s>", "<unk>", *(f">>{code}<<" for code in codes)]
    words += [pieces.id_to_piece(i) for i in range(len(pieces)) if pieces.id_to_piece(i) not in ("<s>", *words)]
    vocabulary = {word: number for number, word in enumerate([*words, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), model_max_length=48
    )
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=0,
        init_std=0.2,
    )
    torch.manual_seed(seed)
    model = MarianMTModel(config).eval()
    model.final_logits_bias[0, 0] = 4.0  # else it would hardly ever end
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_m2m100(folder: Path) -> Path:
    """A tiny M2M100, whose target language is the first token it must say."""
    import json

    import sentencepiece
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus"
    corpus.write_text("\n".join(SENTENCES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spm"), vocab_size=120, hard_vocab_limit=False, minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    words = ["<s>", "<pad>", "</s>", "<unk>"]
    words += [pieces.id_to_piece(i) for i in range(len(pieces)) if pieces.id_to_piece(i) not in words]
    (folder / "words.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    tokenizer = M2M100Tokenizer(str(folder / "words.json"), str(folder / "spm.model"), model_max_length=48)
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=200,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        decoder_start_token_id=2,
        init_std=0.4,
    )
    model = M2M100ForConditionalGeneration(config)
    for file in folder.iterdir():
        file.unlink()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def marian(tmp_path_factory) -> Path:
    return make_marian(tmp_path_factory.mktemp("marian") / "zh-en")


@pytest.fixture(scope="session")
def marian_back(tmp_path_factory) -> Path:
    return make_marian(tmp_path_factory.mktemp("marian") / "en-zh", seed=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Every test has caches of its own."""
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
