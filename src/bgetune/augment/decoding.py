"""Two loops for `model.generate(custom_generate=...)`, which compute nothing twice and nothing that is finished.

`generate` carries every row of a batch on until the last one ends. Here a text leaves the batch when it is done, beams
share what the decoder needs of their text, and samples that said the same so far are one row until they part. What
comes out is the same, but for rounding: a batch of another shape adds up in another order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

NONE = -1e9
"""The score of what is not there."""

TOP_K = 50
"""Sampling looks at no more tokens than these (the default of transformers too)."""


@dataclass(frozen=True)
class Decoding:
    """How a translator chooses among what it could say.

    Attributes:
        method: ``beam`` search, or nucleus ``sampling`` (arXiv 1904.09751).
        candidates: translations of one text; distinct with beams, possibly equal with sampling.
        num_beams: of beam search; at least as many as candidates are used.
        top_p: of sampling: the smallest set of tokens with this much probability is drawn from.
        temperature: of sampling.
        seed: of sampling.
    """

    method: Literal["sampling", "beam"] = "beam"
    candidates: int = 1
    num_beams: int = 4
    top_p: float = 0.9
    temperature: float = 1.0
    seed: int = 42

    @property
    def settings(self) -> str:
        """What a translation depends on. More samples of the same settings leave the first ones as they were."""
        if self.method == "beam":
            return json.dumps(["beam", max(self.num_beams, self.candidates), self.candidates])
        return json.dumps(["sampling", self.top_p, self.temperature, self.seed, TOP_K])


def beam_search(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    **inputs: Any,
) -> torch.Tensor:
    """The sequences that `generate` finds with `num_beams`; each text leaves when no beam of it can improve.

    Args:
        input_ids: (texts * num_beams, start) what the decoder starts from, equal for the beams of a text.
        stopping_criteria: not asked: a sequence ends with an end token or at `max_length`.

    Returns:
        (texts * num_return_sequences, <= max_length) token ids, the best of each text first.
    """
    import torch

    settings = generation_config
    width, longest, start = settings.num_beams, settings.max_length, input_ids.shape[1]
    decoder = _Decoder(model, inputs, every=width)
    ids = input_ids[::width]
    device, count = ids.device, len(ids)
    ends = torch.tensor(settings.eos_token_id, device=device).reshape(-1)
    scores = torch.zeros((count, 1), device=device)
    best = torch.full((count, width), NONE, device=device)
    found = torch.full((count, width, longest), settings.pad_token_id, device=device)
    open_texts = torch.arange(count, device=device)
    for length in range(start + 1, longest + 1):
        log_p = logits_processor(ids, decoder.step(ids).log_softmax(dim=1))
        texts, beams, words = len(open_texts), scores.shape[1], log_p.shape[1]
        total = (log_p.view(texts, beams, words) + scores[:, :, None]).flatten(1)
        # an end for every beam, and still enough to go on with
        top, place = total.topk(min((1 + max(1, len(ends))) * width, total.shape[1]))
        token, row = place % words, place // words + beams * torch.arange(texts, device=device)[:, None]
        done = torch.isin(token, ends) | (length == longest)
        ended = done[:, :width]
        if ended.any():
            ranked = torch.where(ended, top[:, :width] / (length - start) ** settings.length_penalty, NONE)
            sequences = torch.full((texts, width, longest), settings.pad_token_id, device=device)
            sequences[:, :, :length] = torch.cat([ids[row[:, :width]], token[:, :width, None]], dim=2)
            ranked, order = torch.cat([best[open_texts], ranked], dim=1).topk(width)
            best[open_texts] = ranked
            sequences = torch.cat([found[open_texts], sequences], dim=1)
            found[open_texts] = sequences.take_along_dim(order[:, :, None], dim=1)
        scores, order = torch.where(done, top + NONE, top).topk(width)
        row, token = row.gather(1, order), token.gather(1, order)
        # the heuristic of transformers: what is best now would have to beat the worst that is kept
        reach = (
            longest - start if settings.early_stopping == "never" and settings.length_penalty > 0 else length - start
        )
        worst = best[open_texts].amin(dim=1)
        full = worst > NONE / 2
        on = ~full if settings.early_stopping is True else scores[:, 0] / reach**settings.length_penalty > worst
        if not on.any():
            break
        open_texts, scores, row, token = open_texts[on], scores[on], row[on], token[on]
        parents = row.flatten()
        decoder.select(parents, same_texts=beams == width and bool(on.all()))
        ids = torch.cat([ids[parents], token.reshape(-1, 1)], dim=1)
    return found[:, : settings.num_return_sequences].flatten(0, 1)


def sample(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: GenerationConfig,
    draws: torch.Tensor,
    nucleus: float,
    heat: float,
    **inputs: Any,
) -> torch.Tensor:
    """Nucleus sampling (arXiv 1904.09751) with given random numbers, the same number of samples of each text.

    Args:
        input_ids: (texts, start) what the decoder starts from.
        draws: (texts * samples, max_length - start) numbers in [0, 1), a row a sample.
        nucleus: the smallest set of tokens with this much probability is drawn from.
        heat: the temperature.

    Returns:
        (texts * samples, <= max_length) token ids.
    """
    import torch

    start, longest = input_ids.shape[1], generation_config.max_length
    device, count = input_ids.device, len(draws)
    decoder = _Decoder(model, inputs)
    ends = torch.tensor(generation_config.eos_token_id, device=device).reshape(-1)
    found = torch.full((count, longest), generation_config.pad_token_id, device=device)
    found[:, :start] = input_ids.repeat_interleave(count // len(input_ids), dim=0)
    ids = input_ids
    alive = torch.arange(count, device=device)  # samples without an end
    row = torch.arange(len(ids), device=device).repeat_interleave(count // len(ids))  # where each is computed
    for length in range(start, longest):
        scores = logits_processor(ids, decoder.step(ids))
        token = draw(scores, row, draws[alive, length - start], nucleus, heat)
        found[alive, length] = token
        on = ~torch.isin(token, ends)
        if not on.any():
            break
        alive = alive[on]
        words = scores.shape[1]
        distinct, row = torch.unique(row[on] * words + token[on], return_inverse=True)
        parents = distinct // words
        decoder.select(parents, same_texts=torch.equal(parents, torch.arange(len(ids), device=device)))
        ids = torch.cat([ids[parents], distinct[:, None] % words], dim=1)
    return found


def draw(scores: torch.Tensor, row: torch.Tensor, draws: torch.Tensor, nucleus: float, heat: float) -> torch.Tensor:
    """The token that a number in [0, 1) falls on in the nucleus of a row of scores (inverse transform sampling).

    Args:
        scores: (rows, vocabulary) logits.
        row: (n,) whose nucleus each number falls into.
        draws: (n,) the numbers.

    Returns:
        (n,) tokens.
    """
    scaled = scores.float() / heat
    top, tokens = scaled.topk(min(TOP_K, scores.shape[1]), dim=1)
    mass = (top - scaled.logsumexp(dim=1, keepdim=True)).double().exp().cumsum(dim=1)
    last = (mass < nucleus).sum(dim=1).clamp(max=mass.shape[1] - 1)
    inside = mass.gather(1, last[:, None]).squeeze(1)
    rank = (mass[row] <= (draws * inside[row])[:, None]).sum(dim=1).clamp(max=last[row])
    return tokens[row].gather(1, rank[:, None]).squeeze(1)


class _Decoder:
    """The decoder and what it keeps of every row: its text's encoding and the keys and values of its own words.

    Args:
        model: any encoder-decoder of transformers with a dynamic cache.
        inputs: as `generate` prepares them: `encoder_outputs`, `attention_mask`, `past_key_values`.
        every: only each so manieth row is taken: the first of the beams of a text.
    """

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Any], every: int = 1):
        self._model = model
        self._encoded = inputs["encoder_outputs"].last_hidden_state[::every]
        self._mask = inputs["attention_mask"][::every]
        self._cache = inputs["past_key_values"]
        self._old = False

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) logits of the next token."""
        answer = self._model(
            encoder_outputs=(self._encoded,),
            attention_mask=self._mask,
            decoder_input_ids=ids[:, -1:] if self._old else ids,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache, self._old = answer.past_key_values, True
        return answer.logits[:, -1].float()

    def select(self, rows: torch.Tensor, same_texts: bool) -> None:
        """Go on with these rows; `same_texts`: each stands where one of its text stood, so only its words move."""
        self._cache.self_attention_cache.reorder_cache(rows)
        if not same_texts:
            self._cache.cross_attention_cache.reorder_cache(rows)
            self._encoded, self._mask = self._encoded[rows], self._mask[rows]
