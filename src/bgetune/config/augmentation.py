"""Who translates and generates, and the gate that paraphrases pass: sections of 02_backtranslate."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bgetune.config.base import SECRET, ModelLocation, Section
from bgetune.locale import _


class Endpoint(Section):
    """A server that texts are sent to, and how it is asked."""

    base_url: str | None = Field(
        None, description="URL of the OpenAI-compatible endpoint, https://.../v1. Null: no request is sent."
    )
    model: str | None = Field(None, description="Name of the model at the endpoint.")
    key_variable: str = Field("OPENAI_API_KEY", description="Name of the environment variable that holds the API key.")
    json_mode: bool = Field(
        True,
        description="Whether to ask for response_format json_object. Set false if the endpoint does not support it.",
    )
    concurrency: int = Field(4, ge=1, le=64, description="Number of requests sent in parallel.")
    max_requests: int = Field(1000, ge=1, description="Maximum number of requests of a notebook, retries included.")
    requests_per_minute: int | None = Field(
        None, ge=1, description="Maximum number of requests a minute. Null: no limit."
    )
    timeout: float = Field(60, gt=0, description="Seconds to wait for an answer.")
    retries: int = Field(3, ge=0, le=10, description="Number of retries after a failed or malformed answer.")

    @field_validator("key_variable")
    @classmethod
    def _a_name(cls, value: str) -> str:
        # what mixes small letters and digits is a key
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*|[A-Za-z_]+", value) or len(value) > 64:
            remedy = _(
                "the name of an environment variable, such as OPENAI_API_KEY, not the key itself; export it there"
            )
            raise PydanticCustomError(SECRET, remedy)
        return value

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                address = urlsplit(value)
                known = address.scheme in ("http", "https") and address.hostname and address.port != 0
            except ValueError:
                known = False
            if not known:
                raise ValueError(_("an address begins with https:// or http:// and a host, such as https://host/v1"))
        return value

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        return _("set it in the environment variable that key_variable names")


class Service(Endpoint):
    """A translation service. Texts are sent to it: they leave this machine."""

    name: Literal["openai", "deepl", "libretranslate", "baidu", "tencent", "google"] = Field(
        "openai",
        description="openai: any OpenAI-compatible endpoint (base_url, model, key_variable), the only one that gives "
        "several candidates. deepl and tencent need pip install 'bgetune[translate]'. The others' keys are taken from "
        "the environment: DEEPL_AUTH_KEY; LIBRETRANSLATE_API_KEY (if it wants one); BAIDU_APPID and BAIDU_APPKEY; "
        "TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY; GOOGLE_API_KEY.",
    )
    base_url: str | None = Field(
        None,
        description="https://.../v1 of openai, http://localhost:5000 of libretranslate. Null: the service's own.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Service:
        if self.name == "openai" and not (self.base_url and self.model):
            raise ValueError(_("openai needs base_url (https://.../v1) and model"))
        if self.name == "libretranslate" and not self.base_url:
            raise ValueError(_("libretranslate needs base_url, such as http://localhost:5000"))
        return self


class Pivot(Section):
    """A language to translate by way of, and who translates: two models (MarianMT, NLLB, M2M100...) or a service."""

    language: str = Field("en", description="Name of the pivot language, for tables and plots.")
    to_pivot: ModelLocation | None = Field(
        None, description="Translation model into the pivot language: a folder, a hub name, or demo://standard/zh-en."
    )
    from_pivot: ModelLocation | None = Field(
        None, description="Translation model back from the pivot language, such as demo://standard/en-zh."
    )
    service: Service | None = Field(
        None,
        description="Translation service instead of the two models. Texts are sent to it: they leave this machine.",
    )
    text_code: str | None = Field(
        None,
        description="Code of the texts' language for a multilingual model or a service: zho_Hans (NLLB), zh "
        "(M2M100, baidu, tencent), ZH-HANS (deepl), zh-CN (google).",
    )
    pivot_code: str | None = Field(
        None, description="Code of the pivot language for the same model or service: eng_Latn, en, EN-US."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Pivot:
        models = [self.to_pivot, self.from_pivot]
        if any(models) == bool(self.service) or (any(models) and not all(models)):
            raise ValueError(_("give either to_pivot and from_pivot (two models) or service"))
        if self.service and not (self.text_code and self.pivot_code):
            raise ValueError(
                _("with service, give text_code and pivot_code, the languages as it calls them: zh and en")
            )
        return self


class Generation(Endpoint):
    """An OpenAI-compatible endpoint that writes queries for documents and paraphrases. Texts are sent to it."""

    queries: int = Field(
        3,
        ge=0,
        le=20,
        description="Number of queries to write for each document without a query, as far as max_requests allows: as "
        "users type them, as questions, with typing errors and words left out. Documents of dev and test get some "
        "only where no log and no person says what they mean; models are judged on these then, and all numbers from "
        "them are marked.",
    )
    near_misses: int = Field(
        2,
        ge=0,
        le=20,
        description="Number of near-misses to write for each of these documents: queries that look as if it answered "
        "them and that it does not answer. They become known negatives of its queries. 0: none.",
    )
    paraphrases: int = Field(0, ge=0, le=20, description="Number of paraphrases to write for each query.")
    prompt_language: Literal["zh", "en"] = Field("zh", description="Language of the prompts.")
    temperature: float = Field(
        0.8, ge=0, le=2, description="Sampling temperature: larger values give more varied texts."
    )

    @model_validator(mode="after")
    def _complete(self) -> Generation:
        if self.base_url and not self.model:
            raise ValueError(_("with base_url, give model, the model's name there"))
        return self


class Judge(Endpoint):
    """An OpenAI-compatible endpoint whose language model gives a second opinion on pairs. Texts are sent to it."""

    prompt_language: Literal["zh", "en"] = Field("zh", description="Language of the prompt.")

    @model_validator(mode="after")
    def _complete(self) -> Judge:
        if self.base_url and not self.model:
            raise ValueError(_("with base_url, give model, the model's name there"))
        return self


class Judged(Section):
    judge: Judge = Field(
        Judge(),
        description="A language model that gives a second opinion, in both orders of a pair: on the positives that "
        "the reranker proposes (a pair it does not call the same is not joined) and on the doubtful pairs of "
        "review.csv (one it calls different is left out). It takes two requests a pair, max_requests at most. Texts "
        "are sent to it.",
    )


class Gate(Section):
    """What a paraphrase must hold to be kept; null or false turns a rule off."""

    min_characters: int | None = Field(4, ge=1, description="Minimum length of a paraphrase in characters.")
    min_change: float | None = Field(
        0.15,
        ge=0,
        le=1,
        description="Minimum edit distance to the original, as a share of the length; a smaller change counts "
        "as a copy.",
    )
    length_ratio: tuple[float, float] | None = Field(
        (0.5, 2.0), description="Allowed range of the paraphrase's length divided by the original's length."
    )
    numbers: bool = Field(
        True, description="Whether numbers and units must be the same as in the original, Chinese numerals included."
    )
    latin: bool = Field(
        True,
        description="Whether Latin words and codes in Chinese text (app, vip, 5g) must be the same as in the original.",
    )
    terms: list[str] = Field([], description="Product names and other terms that must be the same in both texts.")
    negation: bool = Field(True, description="Whether both texts must be negated, or neither.")
    min_fluency: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Minimum fluency: mean token probability of the paraphrase under the model that translated it.",
    )
    min_agreement: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Minimum agreement of the pivot translations: the paraphrase is translated once more, and "
        "no word of the original's translation may become less probable than this share.",
    )
    similarity: tuple[float, float] | None = Field(
        (0.5, 1.0),
        description="Allowed range of the similarity to the original. Keep it wide: the scores of a drifted "
        "model lie close together.",
    )
    own_cluster_margin: float | None = Field(
        0.0,
        ge=-1,
        le=1,
        description="Minimum difference between the similarity to its own cluster and to the nearest cluster "
        "of another meaning.",
    )
    min_reranker: float | None = Field(
        0.9, ge=0, le=1, description="Minimum reranker score of paraphrase and original."
    )
    max_reranker: float | None = Field(
        0.3,
        ge=0,
        le=1,
        description="Maximum reranker score of a generated near-miss and its document; from this score on the document "
        "may answer it.",
    )
    max_per_text: int | None = Field(
        3, ge=1, description="Maximum number of paraphrases kept for each text; the most changed ones are kept."
    )

    @model_validator(mode="after")
    def _bands(self) -> Gate:
        for name in ("length_ratio", "similarity"):
            band = getattr(self, name)
            if band and band[0] > band[1]:
                raise ValueError(
                    _("{name}: the lower bound comes first, not {bounds}; nothing would pass").format(
                        name=name, bounds=list(band)
                    )
                )
        return self
