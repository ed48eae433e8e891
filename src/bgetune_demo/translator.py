"""Two miniature Marian translators, Chinese to English and back, trained on the world's parallel sentences.

Sentences, words and their translations come from ``parallel.csv``. A Chinese wording has one usual translation, and an
English one several, so that back-translation returns a paraphrase, and sometimes an error that the gate must reject.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bgetune_demo import nn
from bgetune_demo.world import World, make, parallel

if TYPE_CHECKING:
    import torch
    from transformers import MarianMTModel, MarianTokenizer

# one layer learns the translation of words in a third of the time that two take, and is as good here
LAYERS, WIDTH = 1, 128
TOKENS, RATE, SMOOTHING = 384, 3e-3, 0.05
PIECES = {"zh": 1000, "en": 500}
MAX_PIECES = 64


def train(world: World, item: str, folder: Path, progress: bool) -> None:
    """Write the translator ``item`` ("zh-en" or "en-zh"), model and tokenizer, to ``folder``."""
    import torch

    source, target = item.split("-")
    table = parallel(make(world))
    tokens = _tokenizer(folder, source, list(table[source]), target, list(table[target]))
    inputs = dict(tokens(list(table[source]), padding=True, return_tensors="pt"))
    wanted = dict(tokens(text_target=list(table[target]), padding=True, return_tensors="pt"))
    lengths = torch.maximum(inputs["attention_mask"].sum(dim=1), wanted["attention_mask"].sum(dim=1))
    batches = _batches(lengths.numpy(), world.seed)
    with nn.repeatable(world.seed):
        model = _model(tokens)

        def loss(step: int) -> torch.Tensor:
            chosen = next(batches)
            labels = nn.rows(wanted, chosen)["input_ids"]
            logits = model(**nn.rows(inputs, chosen), decoder_input_ids=_shifted(labels, model)).logits
            return torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=tokens.pad_token_id, label_smoothing=SMOOTHING
            )

        nn.fit(model, loss, world.translator_steps, RATE, f"demo translator {item} ({world.name})", progress)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _batches(lengths: np.ndarray, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of row numbers: about TOKENS tokens of similar length each, shuffled again after each pass."""
    import torch

    rng = np.random.default_rng(seed)
    while True:
        order = np.lexsort((rng.random(len(lengths)), lengths))
        cuts = np.flatnonzero(np.diff(lengths[order].cumsum() // TOKENS)) + 1
        batches = np.split(order, cuts)
        for number in rng.permutation(len(batches)):
            yield torch.from_numpy(batches[number])


def _shifted(labels: torch.Tensor, model: MarianMTModel) -> torch.Tensor:
    """The decoder's input: the start token, then every label but the last."""
    shifted = labels.roll(1, dims=1)
    shifted[:, 0] = model.config.decoder_start_token_id
    return shifted


def _tokenizer(folder: Path, source: str, sources: list[str], target: str, targets: list[str]) -> MarianTokenizer:
    """A Marian tokenizer of two SentencePiece models, one per language, with one vocabulary for both.

    Byte-pair encoding merges what is frequent, so that the few words of this world become pieces. The unigram model
    prefers pieces that several words share, and would spell most words in letters.
    """
    import sentencepiece
    from transformers import MarianTokenizer

    pieces = ["</s>", "<unk>"]
    for language, texts, name in ((source, sources, "source.spm"), (target, targets, "target.spm")):
        trained = BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=trained,
            model_type="bpe",
            vocab_size=PIECES[language],
            hard_vocab_limit=False,
            character_coverage=1.0,
            num_threads=1,
            minloglevel=2,
        )
        (folder / name).write_bytes(trained.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
        pieces += [model.id_to_piece(number) for number in range(model.get_piece_size())]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return MarianTokenizer(
        source_spm=str(folder / "source.spm"),
        target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"),
        source_lang=source,
        target_lang=target,
        model_max_length=MAX_PIECES,
    )


def _model(tokens: MarianTokenizer) -> MarianMTModel:
    """An untrained Marian model, configured as the published ones are but small."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=len(tokens),
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=WIDTH // 32,
        decoder_attention_heads=WIDTH // 32,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_position_embeddings=2 * MAX_PIECES,
        activation_function="swish",
        scale_embedding=True,
        dropout=0.0,
        init_std=0.05,  # wide models start at 0.02; see bert_config
        pad_token_id=tokens.pad_token_id,
        eos_token_id=tokens.eos_token_id,
        decoder_start_token_id=tokens.pad_token_id,
        forced_eos_token_id=tokens.eos_token_id,
    )
    model = MarianMTModel(config)
    model.generation_config.update(
        max_length=MAX_PIECES,
        num_beams=4,
        bad_words_ids=[[tokens.pad_token_id]],
        decoder_start_token_id=tokens.pad_token_id,
        forced_eos_token_id=tokens.eos_token_id,
    )
    return model
