"""Back-translation: paraphrases by translating a text into a pivot language and back.

The forward translation is the model's most likely one (beam search), because its errors cannot be repaired by the
translation back. The translation back is sampled several times, which makes the paraphrases differ. Different pivots
lose different information, so several of them give more varied paraphrases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bgetune.augment import memo
from bgetune.augment.decoding import Decoding, beam_search, sample
from bgetune.augment.remote import Limits
from bgetune.augment.services import ServiceTranslator
from bgetune.config.augmentation import Pivot
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.tokens import token_batches, token_budget, tokenize

if TYPE_CHECKING:
    import torch


class Translator:
    """One direction of any sequence-to-sequence translation model: MarianMT, NLLB, M2M100, mBART.

    Texts are translated in batches of similar length. After every batch, translations are cached on disk under a hash
    of the model's weights, the settings and the text. The model is loaded when the first text is not in the cache.

    The random numbers of a sample are derived from the seed, the text and the number of the sample, so they do not
    depend on the other texts of the batch. Rounding does: sums in batches of another shape are rounded differently,
    which rarely changes a token. The same texts give the same translations on one machine.

    Args:
        location: a folder, a hub name, or ``demo://...``.
        source_code: language of the texts as a multilingual model calls it (``zho_Hans``, ``zh``).
        target_code: language to translate to. For Marian models of several targets, the code in ``>>...<<``.
        device: ``auto``, ``cpu``, ``cuda``...
        batch_tokens: maximum number of rows times tokens of the longest text of a batch. None: by the device.
        cache: file of the cache (see `bgetune.augment.memo`). None: no cache.
        parameter: named in error messages.

    Raises:
        InputError: if the model cannot be loaded, or needs a language code that is missing or unknown to it.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        source_code: str | None = None,
        target_code: str | None = None,
        device: str = "auto",
        batch_tokens: int | None = None,
        cache: Path | str | None = "translations",
        parameter: str = "pivots",
    ):
        self.folder = hub.fetch(location, parameter)
        self.source_code = source_code
        self.target_code = target_code
        self.device = device
        self.batch_tokens = batch_tokens
        self._parameter = f"{parameter}: {location}"
        self._memo = None if cache is None else memo.Memo(cache)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and configuration."""
        return hub.fingerprint(self.folder)

    def translate(
        self, texts: Sequence[str], decoding: Decoding = Decoding(), progress: bool = True, label: str = ""
    ) -> list[list[str]]:
        """Translate texts.

        Args:
            texts: n texts; repeated ones are translated once.
            decoding: how translations are chosen.
            progress: whether to show a progress bar.
            label: of the progress bar.

        Returns:
            n lists of `decoding.candidates` translations; "" for a translation that did not end (a loop).
        """
        distinct = list(dict.fromkeys(texts))
        numbers = range(decoding.candidates)
        keys = {text: [self._key(text, decoding, number) for number in numbers] for text in distinct}
        known = self._memo.find(key for group in keys.values() for key in group) if self._memo else {}
        missing = [text for text in distinct if any(key not in known for key in keys[text])]
        with tqdm(
            total=len(missing), desc=label or _("translating"), unit=_("text"), disable=not (progress and missing)
        ) as bar:
            for batch, translations in self._batches(missing, decoding):
                fresh = {
                    key: translation
                    for text, group in zip(batch, translations, strict=True)
                    for key, translation in zip(keys[text], group, strict=True)
                }
                known |= fresh
                if self._memo:
                    self._memo.add(fresh)
                bar.update(len(batch))
        return [[known[key] for key in keys[text]] for text in texts]

    def log_probabilities(
        self, pairs: Sequence[tuple[str, str]], progress: bool = True, label: str = ""
    ) -> list[np.ndarray]:
        """Log probabilities of given translations.

        Args:
            pairs: n pairs (text, translation).
            progress: whether to show a progress bar.
            label: of the progress bar.

        Returns:
            n arrays: log probability of every token of the translation, end token included, given the text and the
            tokens before it.
        """
        distinct = list(dict.fromkeys(pairs))
        codes = f"{self.source_code}>{self.target_code}"
        keys = {pair: memo.key(self.fingerprint, codes, "log p", *pair) for pair in distinct}
        known = self._memo.find(keys.values()) if self._memo else {}
        missing = [pair for pair in distinct if keys[pair] not in known]
        with tqdm(
            total=len(missing), desc=label or _("scoring"), unit=_("pair"), disable=not (progress and missing)
        ) as bar:
            for batch, scores in self._forced_batches(missing):
                fresh = {keys[pair]: score for pair, score in zip(batch, scores, strict=True)}
                known |= fresh
                if self._memo:
                    self._memo.add(fresh)
                bar.update(len(batch))
        return [np.array(known[keys[pair]]) for pair in pairs]

    def _forced_batches(
        self, pairs: list[tuple[str, str]]
    ) -> Iterator[tuple[list[tuple[str, str]], list[list[float]]]]:
        """Yield batches of pairs with the log probabilities of the tokens of their translations."""
        if not pairs:
            return
        import torch

        tokenizer, model = self._loaded
        pairs = sorted(pairs, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
        sources = tokenize(tokenizer, [self._prefix + text for text, _ in pairs], max_length=self._longest)
        if hasattr(tokenizer, "tgt_lang"):
            tokenizer.tgt_lang = self.target_code
        wanted = tokenize(tokenizer, [text for _, text in pairs], max_length=self._longest, target=True)
        lengths = wanted.lengths
        # a score for every token of the vocabulary at every position: more memory than for translating
        budget = (self.batch_tokens or token_budget(self.device)) // 4
        for rows in token_batches(np.maximum(sources.lengths, lengths), budget):
            labels = torch.full((len(rows), int(lengths[rows].max())), tokenizer.pad_token_id)
            for place, row in enumerate(rows):
                labels[place, : lengths[row]] = torch.tensor(wanted.columns["input_ids"][row])
            labels = labels.to(model.device)
            with torch.inference_mode():
                logits = model(**sources.features(rows, model.device), labels=labels).logits.float()
                chosen = logits.gather(2, labels[:, :, None]).squeeze(2) - logits.logsumexp(dim=2)
            scores = [chosen[place, : lengths[row]].cpu().numpy().round(4).tolist() for place, row in enumerate(rows)]
            yield [pairs[row] for row in rows], scores

    @property
    def _longest(self) -> int:
        """Maximum number of tokens of a text that the model can read or write."""
        tokenizer, model = self._loaded
        return min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))

    def _key(self, text: str, decoding: Decoding, number: int) -> str:
        """The key of a translation in the cache; `number` counts the candidates."""
        codes = f"{self.source_code}>{self.target_code}"
        return memo.key(self.fingerprint, codes, decoding.settings, str(number), text)

    def _batches(self, texts: list[str], decoding: Decoding) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Yield batches of texts with their translations."""
        if not texts:
            return
        import torch

        tokenizer, model = self._loaded
        longest = self._longest
        # the same order for the same set of texts
        texts = sorted(texts, key=lambda text: (len(text), text))
        tokens = tokenize(tokenizer, [self._prefix + text for text in texts], max_length=longest)
        width = decoding.candidates if decoding.method == "sampling" else max(decoding.num_beams, decoding.candidates)
        budget = (self.batch_tokens or token_budget(self.device)) // width
        for rows in token_batches(tokens.lengths, budget):
            batch = [texts[row] for row in rows]
            limits = np.minimum(2 * tokens.lengths[rows] + 16, longest - 2)
            with torch.inference_mode():
                ids = self._generate(tokens.features(rows, model.device), batch, int(limits.max()) + 1, decoding)
            flat = _decode(tokenizer, ids, np.repeat(limits, decoding.candidates))
            grouped = [flat[i : i + decoding.candidates] for i in range(0, len(flat), decoding.candidates)]
            yield batch, grouped

    def _generate(self, features: dict[str, torch.Tensor], texts: list[str], steps: int, decoding: Decoding) -> Any:
        """(texts * candidates, <= 1 + steps) token ids."""
        import torch

        _tokenizer, model = self._loaded
        options = {"max_new_tokens": steps, "do_sample": False, "max_length": None, **self._forced, **features}
        count = decoding.candidates
        if decoding.method == "beam":
            beams = max(decoding.num_beams, count)
            return model.generate(custom_generate=beam_search, num_beams=beams, num_return_sequences=count, **options)
        draws = np.stack([_draws(text, number, steps, decoding) for text in texts for number in range(count)])
        return model.generate(
            custom_generate=sample,
            num_beams=1,
            draws=torch.from_numpy(draws).to(model.device),
            nucleus=decoding.top_p,
            heat=decoding.temperature,
            **options,
        )

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The tokenizer and the model."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        safe = {"local_files_only": True, "trust_remote_code": False}
        with hub.loading(self.folder, self._parameter):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, **safe)
            model = AutoModelForSeq2SeqLM.from_pretrained(self.folder, use_safetensors=True, dtype="float32", **safe)
        if hasattr(tokenizer, "src_lang"):
            self._language_token(tokenizer, self.source_code)
            tokenizer.src_lang = self.source_code
        return tokenizer, model.to(hub.torch_device(self.device)).eval()

    @property
    def _prefix(self) -> str:
        """The prefix of a text that tells a Marian model of several targets the target language."""
        tokenizer, _model = self._loaded
        known = getattr(tokenizer, "supported_language_codes", None)
        if not known or self.target_code is None:
            return ""
        if f">>{self.target_code}<<" not in known:
            raise InputError(
                _("{parameter}: no language {code}; it knows {known}").format(
                    parameter=self._parameter, code=self.target_code, known=", ".join(known[:20])
                )
            )
        return f">>{self.target_code}<< "

    @cached_property
    def _forced(self) -> dict[str, int]:
        """Options of `generate` that tell a multilingual model the target language: the first token of the output."""
        tokenizer, _model = self._loaded
        if not hasattr(tokenizer, "src_lang"):
            return {}
        return {"forced_bos_token_id": self._language_token(tokenizer, self.target_code)}

    def _language_token(self, tokenizer: Any, code: str | None) -> int:
        """The token id of a language code."""
        # "en" may also be an ordinary token, so only special tokens count
        marked = {
            *tokenizer.get_added_vocab(),
            *tokenizer.all_special_tokens,
            *getattr(tokenizer, "lang_token_to_id", ()),
        }
        for form in (f"__{code}__", code):
            if code is not None and form in marked:
                return tokenizer.convert_tokens_to_ids(form)
        raise InputError(
            _(
                "{parameter} is multilingual and knows no language {code}; set text_code and pivot_code, such "
                "as zho_Hans and eng_Latn for NLLB, zh and en for M2M100"
            ).format(parameter=self._parameter, code=code)
        )


def back_translate(
    texts: Sequence[str],
    pivots: Sequence[Pivot],
    decoding: Decoding,
    *,
    device: str = "auto",
    cache: Path | str | None = "translations",
    progress: bool = True,
) -> pd.DataFrame:
    """Paraphrase texts by translating them into pivot languages and back. One model is in memory at a time.

    Texts are sent to the `service` of a pivot, if it has one; texts that it does not translate give "".

    Args:
        texts: n texts.
        pivots: the pivot languages and their translators.
        decoding: of the translation back. The forward translation is the best of `decoding.num_beams` beams.
        device: of the models: ``auto``, ``cpu``, ``cuda``...
        cache: file of the cache (see `bgetune.augment.memo`). None: no cache.
        progress: whether to show progress bars.

    Returns:
        One row for each text, pivot and distinct paraphrase: origin (position in texts), via (language of the pivot),
        pivot_text, paraphrase ("" for a translation that did not end), support (how often it was drawn), and two scores
        of the models, as parallel texts are filtered (dual conditional cross-entropy, arXiv 1809.00197). They are NaN
        for services.

        fluency, in (0, 1]: geometric mean of the token probabilities of the paraphrase under the model that translates
        back.

        agreement, in (0, 1]: the pivot text is scored as a translation of the paraphrase instead of the text; this is
        the smallest ratio of the probabilities of one of its tokens. A paraphrase with 登录密码 for 支付密码 makes
        "payment" very unlikely; a mean over the tokens would hide this.
    """
    best = Decoding("beam", num_beams=decoding.num_beams)
    frames = []
    for pivot in pivots:
        forward, backward = _translators(pivot, device, cache)
        found = forward().translate(texts, best, progress, _("to {language}").format(language=pivot.language))
        pivot_texts = [next(iter(translations), "") for translations in found]
        translator = backward()
        distinct = [text for text in dict.fromkeys(pivot_texts) if text]
        answers = translator.translate(
            distinct, decoding, progress, _("from {language}").format(language=pivot.language)
        )
        returned = dict(zip(distinct, answers, strict=True))
        rows = [
            (origin, pivot.language, text, paraphrase)
            for origin, text in enumerate(pivot_texts)
            for paraphrase in returned.get(text) or [""]
        ]
        table = pd.DataFrame(rows, columns=["origin", "via", "pivot_text", "paraphrase"])
        table = table.groupby(list(table.columns), sort=False, as_index=False).agg(support=("origin", "size"))
        if isinstance(translator, Translator):
            table["fluency"] = _fluency(table, translator, progress)
            del translator  # one model in memory
            scorer = forward()
            assert isinstance(scorer, Translator)  # of one pivot, both are models or both are services
            table["agreement"] = _agreement(table, texts, scorer, progress)
            del scorer
        else:
            table["fluency"] = table["agreement"] = np.nan
        frames.append(table)
    columns = ["origin", "via", "pivot_text", "paraphrase", "support", "fluency", "agreement"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: [] for name in columns})


def _translators(
    pivot: Pivot, device: str, cache: Path | str | None
) -> tuple[Callable[[], Translator | ServiceTranslator], Callable[[], Translator | ServiceTranslator]]:
    """Functions that make the forward and the backward translator; a model is in memory as long as its translator."""
    text, other = pivot.text_code, pivot.pivot_code
    if pivot.service and text and other:  # `Pivot` requires both codes
        translator = partial(ServiceTranslator, pivot.service, limits=Limits(pivot.service), cache=cache)
        return partial(translator, text, other), partial(translator, other, text)
    model = partial(Translator, device=device, cache=cache)
    return (
        partial(model, pivot.to_pivot, source_code=text, target_code=other),
        partial(model, pivot.from_pivot, source_code=other, target_code=text),
    )


def _fluency(table: pd.DataFrame, backward: Translator, progress: bool) -> list[float]:
    """The fluency of each row of `back_translate`; 0 for rows without a text."""
    pairs = list(zip(table["pivot_text"], table["paraphrase"], strict=True))
    whole = [pair for pair in pairs if all(pair)]
    scores = dict(zip(whole, backward.log_probabilities(whole, progress, _("judging")), strict=True))
    return [float(np.exp(scores[pair].mean())) if pair in scores else 0.0 for pair in pairs]


def _agreement(table: pd.DataFrame, texts: Sequence[str], forward: Translator, progress: bool) -> list[float]:
    """The agreement of each row of `back_translate`; 0 for rows without a text."""
    rows = list(zip(table["origin"], table["paraphrase"], table["pivot_text"], strict=True))
    pairs = [pair for origin, text, pivot in rows for pair in ((texts[origin], pivot), (text, pivot)) if text and pivot]
    scores = dict(zip(pairs, forward.log_probabilities(pairs, progress, _("comparing")), strict=True))
    return [
        float(np.exp((scores[text, pivot] - scores[texts[origin], pivot]).min(initial=0.0))) if text and pivot else 0.0
        for origin, text, pivot in rows
    ]


def _draws(text: str, number: int, steps: int, decoding: Decoding) -> np.ndarray:
    """(steps,) uniform random numbers of one sample of one text."""
    entropy = int(memo.key(str(decoding.seed), str(number), text), 16)
    return np.random.default_rng(entropy).random(steps)


def _decode(tokenizer: Any, ids: torch.Tensor, limits: np.ndarray) -> list[str]:
    """The texts of rows of token ids.

    Args:
        ids: (n, steps) token ids, the decoder's start token first.
        limits: (n,) maximum number of tokens before the end token. (Marian models are forced to end at the last step,
            which is beyond all limits.)

    Returns:
        n texts; "" for rows without an end token within the limit.
    """
    ids = ids[:, 1:].cpu()
    ends = (ids == tokenizer.eos_token_id).int()
    finished = ends.any(dim=1).numpy() & (ends.argmax(dim=1).numpy() < limits)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() if done else "" for text, done in zip(texts, finished, strict=True)]
