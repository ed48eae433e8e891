"""The miniature of BGE: a BERT encoder with CLS pooling and unit vectors, whose scores bunch as those of BGE do.

It is pre-trained by contrastive learning at a low temperature, as BGE was, on sentences that the world never contains
(`bgetune_demo.language.elsewhere`): with the world's words, but none of its meanings and no labels. Half of the
positives are two sentences about the same object and action, the others a sentence and a copy with masked words. At a
low temperature, small differences are enough for the right order, so that all scores stay high; the aspect of a
question is never learned. Nothing is done to the scores afterwards: the similarity drift is learned, and fine-tuning
corrects it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bgetune_demo import nn
from bgetune_demo.language import elsewhere, sentences, stream
from bgetune_demo.lexicon import load
from bgetune_demo.world import World

if TYPE_CHECKING:
    import torch
    from transformers import BertModel, BertTokenizer

LAYERS, WIDTH = 2, 128
BATCH, RATE, TEMPERATURE = 64, 1e-3, 0.017
MASKED_COPIES, MASKED = 0.5, 0.3  #: share of the positives that are masked copies, share of tokens masked in them
MEANINGS, SENTENCES = 3000, 3  #: at most this many meanings, so many sentences of each


def train(world: World, item: str, folder: Path, progress: bool) -> None:
    """Train the encoder, and write it to ``folder`` as sentence-transformers does."""
    import torch
    from transformers import BertModel

    lexicon, rng = load(world.services), stream(world.seed, item)
    meanings = elsewhere(lexicon)
    meanings = rng.sample(meanings, min(MEANINGS, len(meanings)))
    texts = [(m, s.zh) for m in meanings for s in sentences(lexicon, m, SENTENCES, rng)]
    tokens = nn.tokenizer()
    inputs = nn.encode(tokens, [text for _, text in texts])
    topics: dict[tuple[str, str], list[int]] = {}
    for number, (meaning, _) in enumerate(texts):
        topics.setdefault((meaning.object, meaning.action), []).append(number)
    topic = {number: name for name, members in topics.items() for number in members}
    names = {name: number for number, name in enumerate(topics)}

    with nn.repeatable(world.seed):
        model = BertModel(nn.bert_config(len(tokens), LAYERS, WIDTH))  # the pooler stays unused: BGE has one too
        copies = int(BATCH * MASKED_COPIES)

        def loss(step: int) -> torch.Tensor:
            first = [rng.randrange(len(texts)) for _ in range(BATCH)]
            second = first[:copies] + [rng.choice(topics[topic[number]]) for number in first[copies:]]
            batch = nn.rows(inputs, torch.tensor(first + second))
            ids = batch["input_ids"]
            masked = (torch.rand(ids.shape) < MASKED) & (ids >= len(nn.SPECIALS))
            masked[:BATCH] = masked[BATCH + copies :] = False
            batch["input_ids"] = ids.masked_fill(masked, tokens.mask_token_id)
            vectors = torch.nn.functional.normalize(model(**batch).last_hidden_state[:, 0], dim=-1)
            scores = vectors[:BATCH] @ vectors[BATCH:].T / TEMPERATURE
            # another sentence of the same topic is no negative, except for a masked copy, whose positive is itself
            about = torch.tensor([names[topic[number]] for number in first])
            same = about[:, None] == about
            same[:copies] = False
            same.fill_diagonal_(False)
            return torch.nn.functional.cross_entropy(scores.masked_fill(same, -1e4), torch.arange(BATCH))

        nn.fit(model, loss, world.encoder_steps, RATE, f"demo encoder ({world.name})", progress)
    _save(model, tokens, folder)


def _save(model: BertModel, tokens: BertTokenizer, folder: Path) -> None:
    """Write the folder that ``SentenceTransformer(folder)`` and ``FlagModel(folder)`` load."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    bert = Transformer(str(folder), max_seq_length=nn.MAX_TOKENS)
    pooling = Pooling(bert.get_embedding_dimension(), pooling_mode="cls")
    SentenceTransformer(modules=[bert, pooling, Normalize()], device="cpu").save(str(folder), create_model_card=False)
