"""The miniature of a strong reranker: a BERT cross-encoder; the sigmoid of its logit is P(both texts mean the same).

It represents the general competence of a published reranker, so it is trained with the world's known meanings: pairs of
sentences, answers and articles labelled by their meaning, near-misses among them. None of these texts is in the world's
tables. Its scores are good, not perfect.

Such a model would need far more pairs to learn comparing from scratch than a demo has time for. It is trained in two
stages: first its first layer to recognise object, action, aspect and circumstance of each text, then all of it to
compare, starting from attention heads that subtract the two texts.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from bgetune_demo import nn
from bgetune_demo.language import answers, article, compose, stream
from bgetune_demo.lexicon import Lexicon, Meaning, load, near_misses
from bgetune_demo.world import World, corpus, make, qa

if TYPE_CHECKING:
    import torch
    from transformers import BertForSequenceClassification

WIDTH, BATCH = 128, 64
READ_RATE, RATE = 4e-3, 2e-3
SLOTS = ("object", "action", "aspect", "circumstance")
#: Shares of the training pairs: with slots changed at random; of the others, of the same meaning; then near-misses.
MIXED, SAME, NEAR = 0.5, 0.45, 0.4
DOCUMENTS = 0.15  #: share of the texts that are an answer or an article


def train(world: World, item: str, folder: Path, progress: bool) -> None:
    """Write a folder that ``CrossEncoder(folder)`` and ``AutoModelForSequenceClassification`` load to ``folder``."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
    from transformers import BertForSequenceClassification

    lexicon, rng = load(world.services), stream(world.seed, item)
    pairs = _pairs(lexicon, rng, BATCH * world.reranker_steps)
    tokens, taken = nn.tokenizer(), _taken(world)
    texts = [[_text(lexicon, meaning, rng, taken) for meaning in side] for side in zip(*pairs, strict=True)]
    inputs = nn.encode(tokens, *texts)
    values = {slot: sorted({getattr(meaning, slot) for pair in pairs for meaning in pair}) for slot in SLOTS}
    first, second = (
        torch.tensor([[values[slot].index(getattr(meaning, slot)) for slot in SLOTS] for meaning in side])
        for side in zip(*pairs, strict=True)
    )
    with nn.repeatable(world.seed):
        # batches of similar length: an article would make all others of its batch as long as itself
        order = inputs["attention_mask"].sum(dim=1).argsort(stable=True).view(-1, BATCH)
        batches = order[torch.randperm(len(order))]
        model = BertForSequenceClassification(nn.bert_config(len(tokens), layers=2, width=WIDTH, num_labels=1))
        _compare_from_the_start(model)
        readers = torch.nn.ModuleList([torch.nn.Linear(WIDTH, len(values[slot])) for slot in SLOTS])
        differences = torch.nn.Linear(WIDTH, len(SLOTS))
        whole = torch.nn.ModuleList([model, readers, differences])

        def reading(batch: dict[str, torch.Tensor], states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            """Cross-entropy of the slots, predicted from the mean of a text's states; the mean of both texts."""
            right = batch["token_type_ids"] * batch["attention_mask"]
            totals = []
            for side, slots in ((batch["attention_mask"] - right, first), (right, second)):
                mean = (states * side[..., None]).sum(dim=1) / side.sum(dim=1, keepdim=True)
                losses = [cross_entropy(reader(mean), slots[index, n]) for n, reader in enumerate(readers)]
                totals.append(sum(losses[1:], start=losses[0]))
            return (totals[0] + totals[1]) / 2

        def read(step: int) -> torch.Tensor:
            index = batches[-1 - step]
            batch = nn.rows(inputs, index)
            mask = (1.0 - batch["attention_mask"][:, None, None, :]) * -1e9
            embedded = model.bert.embeddings(batch["input_ids"], token_type_ids=batch["token_type_ids"])
            return reading(batch, model.bert.encoder.layer[0](embedded, mask), index)

        def compare(step: int) -> torch.Tensor:
            index = batches[step]
            batch = nn.rows(inputs, index)
            out = model.bert(**batch, output_hidden_states=True)
            differ = first[index] != second[index]
            same = (~differ.any(dim=1)).float()
            return (
                binary_cross_entropy_with_logits(model.classifier(out.pooler_output)[:, 0], same)
                + binary_cross_entropy_with_logits(differences(out.pooler_output), differ.float())
                + 0.4 * reading(batch, out.hidden_states[1], index) / len(SLOTS)
            )

        label = f"demo reranker ({world.name})"
        nn.fit(whole, read, world.reranker_steps * 3 // 5, READ_RATE, f"{label} reads", progress)
        nn.fit(whole, compare, world.reranker_steps, RATE, f"{label} compares", progress)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def _compare_from_the_start(model: BertForSequenceClassification) -> None:
    """Initialise the attention heads of the last layer in pairs: one reads the first text, the other one the second,
    and their outputs cancel where the texts agree. All weights stay trainable.

    The factor 3 makes a difference large against the rest of the state that it is added to; without it, training takes
    many times the steps.
    """
    import torch

    with torch.no_grad():
        side = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0)
        model.bert.embeddings.token_type_embeddings.weight[:] = torch.stack([1.8 * side, -1.8 * side])
        attention = model.bert.encoder.layer[-1].attention
        query, key, value = attention.self.query, attention.self.key, attention.self.value
        out, size = attention.output.dense.weight, attention.self.attention_head_size
        for head in range(0, WIDTH, 2 * size):
            one, twin = slice(head, head + size), slice(head + size, head + 2 * size)
            look = torch.nn.functional.normalize(torch.randn(size), dim=0)
            for part, sign in ((one, 1.0), (twin, -1.0)):
                query.weight[part] *= 0.3
                query.bias[part] = 3.0 * look
                key.weight[part] = 0.3 * key.weight[part] + sign * torch.outer(look, side)
            value.weight[one] *= 3.0
            out[:, one] *= 3.0
            value.weight[twin], out[:, twin] = value.weight[one], -out[:, one]


def _taken(world: World) -> set[str]:
    """The texts of the world's tables: none of them is trained on."""
    tables = make(world)
    for table in (corpus, qa):
        table(tables)
    return set(tables.meaning)


def _text(lexicon: Lexicon, meaning: Meaning, rng: random.Random, taken: set[str]) -> str:
    """A sentence, answer or article of ``meaning`` that is not in ``taken``."""
    while True:
        text = compose(lexicon, meaning, rng).zh
        if rng.random() < DOCUMENTS:
            text = rng.choice(answers(lexicon, meaning, rng.randint(2, 9)))
            if rng.random() < 0.5:
                text = article(compose(lexicon, meaning, rng, formal=True).zh, text)
        if text not in taken:
            return text


def _pairs(lexicon: Lexicon, rng: random.Random, count: int) -> list[tuple[Meaning, Meaning]]:
    """Pairs of meanings to compare, about two fifths of them the same."""
    meanings = lexicon.meanings
    close: dict[Meaning, list[Meaning]] = {meaning: [] for meaning in meanings}
    narrower = [(a, b) for a in meanings for b in meanings if a.narrows(b)]
    for a, b in near_misses(meanings) + narrower:
        close[a].append(b)
        close[b].append(a)
    homes = {meaning.object: meaning.service for meaning in meanings}
    mates = {name: [other for other in homes if homes[other] == home] for name, home in homes.items()}
    actions = sorted({meaning.action for meaning in meanings})
    aspects, circumstances = list(lexicon.aspects), ["", *lexicon.circumstances]

    def mixed(a: Meaning) -> Meaning:
        """``a`` with some slots drawn anew, so that every slot differs alone in some pairs."""
        return Meaning(
            a.service,
            rng.choice(mates[a.object]) if rng.random() < 0.4 else a.object,
            rng.choice(actions) if rng.random() < 0.35 else a.action,
            rng.choice(aspects) if rng.random() < 0.4 else a.aspect,
            rng.choice(circumstances) if rng.random() < 0.15 else a.circumstance,
        )

    def other(a: Meaning) -> Meaning:
        draw = rng.random()
        if draw < MIXED:
            return mixed(a)
        draw = (draw - MIXED) / (1 - MIXED)
        if draw < SAME:
            return a
        return rng.choice(close[a]) if draw < SAME + NEAR and close[a] else rng.choice(meanings)

    return [(a, other(a)) for a in rng.choices(meanings, k=count)]
