"""Two decoding loops for `model.generate(custom_generate=...)` that save computation: beam search and sampling.

The loops of transformers compute every row of a batch until the last one ends. Here, a text leaves the batch when it is
finished, the beams of a text share its encoding, and samples with equal tokens so far are computed as one row. The
result is the same, except for rounding: sums in batches of another shape are rounded differently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

NONE = -1e9
"""Score of a missing beam."""

TOP_K = 50
"""Maximum number of tokens that sampling chooses from (as the default of transformers)."""


@dataclass(frozen=True)
class Decoding:
    """Decoding parameters of a translator.

    Attributes:
        method: ``beam`` search, or nucleus ``sampling`` (arXiv 1904.09751).
        candidates: number of translations of a text; distinct with beam search, possibly equal with sampling.
        num_beams: number of beams of beam search; at least `candidates` are used.
        top_p: of sampling: tokens are drawn from the smallest set with this probability.
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
        """The parameters that a translation depends on, for cache keys. More samples do not change the first ones."""
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
    """Beam search with the results of `generate`; a text leaves the batch when none of its beams can improve.

    Args:
        input_ids: (texts * num_beams, start) int64: first tokens of the decoder, equal for the beams of a text.
        stopping_criteria: not used: a sequence ends with an end token or at `max_length`.

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
        log_p = logits_processor(cast("torch.LongTensor", ids), decoder.step(ids).log_softmax(dim=1))
        texts, beams, words = len(open_texts), scores.shape[1], log_p.shape[1]
        total = (log_p.view(texts, beams, words) + scores[:, :, None]).flatten(1)
        # enough candidates to continue even if every beam ends
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
        # the heuristic of transformers: the best open beam must be able to beat the worst finished one
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
        input_ids: (texts, start) int64: first tokens of the decoder.
        draws: (texts * samples, max_length - start) float64: random numbers in [0, 1), one row for each sample.
        nucleus: top_p: tokens are drawn from the smallest set with this probability.
        heat: the temperature. (`generate` does not pass on arguments named `top_p` and `temperature`.)

    Returns:
        (texts * samples, <= max_length) int64 token ids.
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
    row = torch.arange(len(ids), device=device).repeat_interleave(
        count // len(ids)
    )  # row of `ids` that holds each sample's tokens
    for length in range(start, longest):
        scores = logits_processor(cast("torch.LongTensor", ids), decoder.step(ids))
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
    """Draw a token from the nucleus of a row of scores for each random number (inverse transform sampling).

    Args:
        scores: (rows, vocabulary) logits.
        row: (n,) int64: the row to draw from.
        draws: (n,) float64: random numbers in [0, 1).
        nucleus, heat: see `sample`.

    Returns:
        (n,) int64 token ids.
    """
    scaled = scores.float() / heat
    top, tokens = scaled.topk(min(TOP_K, scores.shape[1]), dim=1)
    mass = (top - scaled.logsumexp(dim=1, keepdim=True)).double().exp().cumsum(dim=1)
    last = (mass < nucleus).sum(dim=1).clamp(max=mass.shape[1] - 1)
    inside = mass.gather(1, last[:, None]).squeeze(1)
    rank = (mass[row] <= (draws * inside[row])[:, None]).sum(dim=1).clamp(max=last[row])
    return tokens[row].gather(1, rank[:, None]).squeeze(1)


class _Decoder:
    """The decoder of a model, with the state of every row: the encoding of its text, and keys and values of its tokens.

    Args:
        model: any encoder-decoder of transformers with a dynamic cache.
        inputs: as `generate` prepares them: `encoder_outputs`, `attention_mask`, `past_key_values`.
        every: number of rows of a text in `inputs` (its beams), of which the first is kept.
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
        """Continue with these rows. `same_texts`: row i belongs to the same text as before, so its encoding stays."""
        self._cache.self_attention_cache.reorder_cache(rows)
        if not same_texts:
            self._cache.cross_attention_cache.reorder_cache(rows)
            self._encoded, self._mask = self._encoded[rows], self._mask[rows]
