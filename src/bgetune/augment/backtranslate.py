"""Back-translation: a text goes to a pivot language and comes back as other words for the same.

The way there is the model's most likely translation (beam search), because what it gets wrong no way back repairs. The
way back is sampled, several times, because that is where the paraphrases differ. Several pivots lose and keep different
things.
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
from bgetune.models import hub
from bgetune.models.tokens import token_batches, token_budget, tokenize

if TYPE_CHECKING:
    import torch


class Translator:
    """One direction of any sequence-to-sequence translation model: MarianMT, NLLB, M2M100, mBART.

    Texts are translated longest first, in batches of about one length, and remembered on disk under a hash of the
    model's weights, the settings and the text after every batch. The model is loaded when the first text is not
    remembered.

    A sample is drawn with random numbers of its own, which follow from seed, text and its number among the samples. So
    it does not depend on which texts share its batch, but for rounding: a batch of another shape adds up in another
    order, which now and then turns a token that was on the brink. On one machine the same texts give the same
    translations.

    Args:
        location: a folder, a hub name, or ``demo://...``.
        source_code: language of the texts as a multilingual model calls it (``zho_Hans``, ``zh``).
        target_code: language to translate to. With Marian models of several targets, what stands in ``>>...<<``.
        device: ``auto``, ``cpu``, ``cuda``...
        batch_tokens: rows times longest text of a batch. None: by the device.
        cache: file of the memo, or None for none.

    Raises:
        InputError: if the model cannot be had, or wants a language code that is not given or not known to it.
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
        self, texts: Sequence[str], decoding: Decoding = Decoding(), progress: bool = True, label: str = "translating"
    ) -> list[list[str]]:
        """`decoding.candidates` translations of each text; "" where the model found no end (it went in circles)."""
        distinct = list(dict.fromkeys(texts))
        numbers = range(decoding.candidates)
        keys = {text: [self._key(text, decoding, number) for number in numbers] for text in distinct}
        known = self._memo.find(key for group in keys.values() for key in group) if self._memo else {}
        missing = [text for text in distinct if any(key not in known for key in keys[text])]
        with tqdm(total=len(missing), desc=label, unit="text", disable=not (progress and missing)) as bar:
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
        self, pairs: Sequence[tuple[str, str]], progress: bool = True, label: str = "scoring"
    ) -> list[np.ndarray]:
        """How likely the model finds given translations: log p of every token of the second text, its end included,
        given the first text and the tokens before it."""
        distinct = list(dict.fromkeys(pairs))
        codes = f"{self.source_code}>{self.target_code}"
        keys = {pair: memo.key(self.fingerprint, codes, "log p", *pair) for pair in distinct}
        known = self._memo.find(keys.values()) if self._memo else {}
        missing = [pair for pair in distinct if keys[pair] not in known]
        with tqdm(total=len(missing), desc=label, unit="pair", disable=not (progress and missing)) as bar:
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
        """Batches of pairs with the log probabilities of their second text's tokens, as they are made."""
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
        # a score for every word of the vocabulary at every place: far more memory than translating takes
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
        """Tokens of a text that the model can read or write."""
        tokenizer, model = self._loaded
        return min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))

    def _key(self, text: str, decoding: Decoding, number: int) -> str:
        codes = f"{self.source_code}>{self.target_code}"
        return memo.key(self.fingerprint, codes, decoding.settings, str(number), text)

    def _batches(self, texts: list[str], decoding: Decoding) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Batches of texts with their translations, as they are made."""
        if not texts:
            return
        import torch

        tokenizer, model = self._loaded
        longest = self._longest
        # one order for one set of texts, whatever order they came in
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

        _, model = self._loaded
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
        """What tells a Marian model of several targets where to go."""
        tokenizer, _ = self._loaded
        known = getattr(tokenizer, "supported_language_codes", None)
        if not known or self.target_code is None:
            return ""
        if f">>{self.target_code}<<" not in known:
            raise InputError(f"{self._parameter}: no language {self.target_code}; it knows {', '.join(known[:20])}")
        return f">>{self.target_code}<< "

    @cached_property
    def _forced(self) -> dict[str, int]:
        """What tells a multilingual model where to go: the first token it must say."""
        tokenizer, _ = self._loaded
        if not hasattr(tokenizer, "src_lang"):
            return {}
        return {"forced_bos_token_id": self._language_token(tokenizer, self.target_code)}

    def _language_token(self, tokenizer: Any, code: str | None) -> int:
        # "en" may be an ordinary piece of the vocabulary too, so only what is marked as a language counts
        marked = {
            *tokenizer.get_added_vocab(),
            *tokenizer.all_special_tokens,
            *getattr(tokenizer, "lang_token_to_id", ()),
        }
        for form in (f"__{code}__", code):
            if code is not None and form in marked:
                return tokenizer.convert_tokens_to_ids(form)
        raise InputError(
            f"{self._parameter} is multilingual and knows no language {code}; set text_code and pivot_code, "
            f"such as zho_Hans and eng_Latn for NLLB, zh and en for M2M100"
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
    """Paraphrases of texts by way of other languages; one model is in memory at a time.

    To a pivot's `service` the texts are sent; what it does not translate is "".

    Args:
        texts: n texts.
        pivots: the ways to go.
        decoding: of the way back; the way there is the first of `decoding.num_beams` beams.

    Returns:
        One row a text, pivot and distinct paraphrase: `origin` (position in texts), `via` (the pivot's language),
        `pivot_text`, `paraphrase` ("" for translations without an end), `support` (how often it was drawn), and what
        the two models think of it, which is how parallel texts are filtered too (dual conditional cross-entropy, arXiv
        1809.00197). Services do not tell, so theirs are NaN:

        `fluency` in (0, 1]: the geometric mean of the probabilities that the model back gives the paraphrase's tokens.
        `agreement` in (0, 1]: how likely the pivot text still is as a translation, now of the paraphrase instead of the
        text: the factor by which its word that suffers most lost probability. A paraphrase that says 登录密码 for
        支付密码 makes "payment" very unlikely, whatever else it keeps; a mean over the words would hide that.
    """
    there = Decoding("beam", num_beams=decoding.num_beams)
    frames = []
    for pivot in pivots:
        forth, back = _translators(pivot, device, cache)
        found = forth().translate(texts, there, progress, f"to {pivot.language}")
        pivot_texts = [next(iter(translations), "") for translations in found]
        returning = back()
        distinct = [text for text in dict.fromkeys(pivot_texts) if text]
        answers = returning.translate(distinct, decoding, progress, f"from {pivot.language}")
        returned = dict(zip(distinct, answers, strict=True))
        rows = [
            (origin, pivot.language, text, paraphrase)
            for origin, text in enumerate(pivot_texts)
            for paraphrase in returned.get(text) or [""]
        ]
        table = pd.DataFrame(rows, columns=["origin", "via", "pivot_text", "paraphrase"])
        table = table.groupby(list(table.columns), sort=False, as_index=False).agg(support=("origin", "size"))
        if isinstance(returning, Translator):
            table["fluency"] = _fluency(table, returning, progress)
            del returning
            table["agreement"] = _agreement(table, texts, forth(), progress)
        else:
            table["fluency"] = table["agreement"] = np.nan
        frames.append(table)
    columns = ["origin", "via", "pivot_text", "paraphrase", "support", "fluency", "agreement"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({name: [] for name in columns})


def _translators(
    pivot: Pivot, device: str, cache: Path | str | None
) -> tuple[Callable[[], Translator | ServiceTranslator], Callable[[], Translator | ServiceTranslator]]:
    """What makes the translators there and back. A model is in memory as long as its translator is."""
    codes = [pivot.text_code, pivot.pivot_code]
    if pivot.service:
        make = partial(ServiceTranslator, pivot.service, limits=Limits(pivot.service), cache=cache)
        return partial(make, *codes), partial(make, *codes[::-1])
    make = partial(Translator, device=device, cache=cache)
    return (
        partial(make, pivot.to_pivot, source_code=pivot.text_code, target_code=pivot.pivot_code),
        partial(make, pivot.from_pivot, source_code=pivot.pivot_code, target_code=pivot.text_code),
    )


def _fluency(table: pd.DataFrame, back: Translator, progress: bool) -> list[float]:
    """See `back_translate`."""
    pairs = list(zip(table["pivot_text"], table["paraphrase"], strict=True))
    whole = [pair for pair in pairs if all(pair)]
    scores = dict(zip(whole, back.log_probabilities(whole, progress, "judging"), strict=True))
    return [float(np.exp(scores[pair].mean())) if pair in scores else 0.0 for pair in pairs]


def _agreement(table: pd.DataFrame, texts: Sequence[str], forth: Translator, progress: bool) -> list[float]:
    """See `back_translate`."""
    rows = list(zip(table["origin"], table["paraphrase"], table["pivot_text"], strict=True))
    pairs = [pair for origin, text, pivot in rows for pair in ((texts[origin], pivot), (text, pivot)) if text and pivot]
    scores = dict(zip(pairs, forth.log_probabilities(pairs, progress, "comparing"), strict=True))
    return [
        float(np.exp((scores[text, pivot] - scores[texts[origin], pivot]).min(initial=0.0))) if text and pivot else 0.0
        for origin, text, pivot in rows
    ]


def _draws(text: str, number: int, steps: int, decoding: Decoding) -> np.ndarray:
    """(steps,) uniform random numbers of one sample of one text."""
    entropy = int(memo.key(str(decoding.seed), str(number), text), 16)
    return np.random.default_rng(entropy).random(steps)


def _decode(tokenizer: Any, ids: torch.Tensor, limits: np.ndarray) -> list[str]:
    """Texts of rows of token ids that start with the decoder's start token; "" for rows without an end in time.

    Marian models are made to end at the last step: an end there, beyond every row's limit, is none.
    """
    ids = ids[:, 1:].cpu()
    ends = (ids == tokenizer.eos_token_id).int()
    finished = ends.any(dim=1).numpy() & (ends.argmax(dim=1).numpy() < limits)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() if done else "" for text, done in zip(texts, finished, strict=True)]
