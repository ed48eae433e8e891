"""Who translates and generates, and the gate that paraphrases pass: sections of 02_backtranslate."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bgetune.config.base import SECRET, ModelLocation, Section


class Endpoint(Section):
    """A server that texts are sent to, and how it is asked."""

    base_url: str | None = Field(None, description="https://.../v1 of the endpoint. Null: nothing is generated.")
    model: str | None = Field(None, description="The model's name there.")
    key_variable: str = Field("OPENAI_API_KEY", description="Name of the environment variable that holds the key.")
    json_mode: bool = Field(True, description="Ask for response_format json_object; false where it is not known.")
    concurrency: int = Field(4, ge=1, le=64, description="Requests at a time.")
    max_requests: int = Field(1000, ge=1, description="Budget of a run, repeated requests included.")
    requests_per_minute: int | None = Field(None, ge=1, description="Rate limit. Null: none.")
    timeout: float = Field(60, gt=0, description="Seconds to wait for an answer.")
    retries: int = Field(3, ge=0, le=10, description="Further tries after a failed or malformed answer.")

    @field_validator("key_variable")
    @classmethod
    def _a_name(cls, value: str) -> str:
        # what mixes small letters and digits is a key
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*|[A-Za-z_]+", value) or len(value) > 64:
            remedy = "the name of an environment variable, such as OPENAI_API_KEY, not the key itself; export it there"
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
                raise ValueError("an address begins with https:// or http:// and a host, such as https://host/v1")
        return value

    @classmethod
    def _secret_remedy(cls, field: str) -> str:
        return "set it in the environment variable that key_variable names"


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
            raise ValueError("openai needs base_url (https://.../v1) and model")
        if self.name == "libretranslate" and not self.base_url:
            raise ValueError("libretranslate needs base_url, such as http://localhost:5000")
        return self


class Pivot(Section):
    """A language to translate by way of, and who translates: two models (MarianMT, NLLB, M2M100...) or a service."""

    language: str = Field("en", description="Name of the language, for tables and plots.")
    to_pivot: ModelLocation | None = Field(
        None, description="Translator to that language: a folder, a hub name, or demo://standard/zh-en."
    )
    from_pivot: ModelLocation | None = Field(None, description="Translator back: demo://standard/en-zh.")
    service: Service | None = Field(
        None, description="Instead of the models, a translation service. Texts are sent to it: they leave this machine."
    )
    text_code: str | None = Field(
        None,
        description="The texts' language as a multilingual model or a service calls it: zho_Hans (NLLB), zh (M2M100, "
        "baidu, tencent), ZH-HANS (deepl), zh-CN (google).",
    )
    pivot_code: str | None = Field(None, description="The pivot language in the same way: eng_Latn, en, EN-US.")

    @model_validator(mode="after")
    def _one_way(self) -> Pivot:
        models = [self.to_pivot, self.from_pivot]
        if any(models) == bool(self.service) or (any(models) and not all(models)):
            raise ValueError("give either to_pivot and from_pivot (two models) or service")
        if self.service and not (self.text_code and self.pivot_code):
            raise ValueError("with service, give text_code and pivot_code, the languages as it calls them: zh and en")
        return self


class Generation(Endpoint):
    """An OpenAI-compatible endpoint that writes queries for documents and paraphrases. Texts are sent to it."""

    queries: int = Field(3, ge=0, le=20, description="Queries to write for a document that has none.")
    paraphrases: int = Field(0, ge=0, le=20, description="Paraphrases to write for a query.")
    prompt_language: Literal["zh", "en"] = Field("zh", description="Language of the prompts.")
    temperature: float = Field(0.8, ge=0, le=2, description="Higher is more varied.")

    @model_validator(mode="after")
    def _complete(self) -> Generation:
        if self.base_url and not self.model:
            raise ValueError("with base_url, give model, the model's name there")
        return self


class Gate(Section):
    """What a paraphrase must hold to be kept; null or false turns a rule off."""

    min_characters: int | None = Field(4, ge=1, description="Shorter texts are dropped.")
    min_change: float | None = Field(
        0.15, ge=0, le=1, description="Edited characters / length (signs and blanks aside): less is a copy."
    )
    length_ratio: tuple[float, float] | None = Field((0.5, 2.0), description="Length over the origin's length.")
    numbers: bool = Field(True, description="The same numbers and units, Chinese numerals too.")
    latin: bool = Field(True, description="The same Latin words and codes (app, vip, 5g) in Chinese text.")
    terms: list[str] = Field([], description="Product names and other terms that must be the same in both.")
    negation: bool = Field(True, description="Negated both or neither.")
    min_fluency: float | None = Field(
        0.5, ge=0, le=1, description="Mean probability of its tokens by the translator that made it."
    )
    min_agreement: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Translated again, no word of the pivot text may lose more of its probability than down to this.",
    )
    similarity: tuple[float, float] | None = Field(
        (0.5, 1.0), description="Band of the similarity to the origin; wide, because a drifted model's scores bunch."
    )
    own_cluster_margin: float | None = Field(
        0.0,
        ge=-1,
        le=1,
        description="More than so much nearer to its own cluster than to any other that means something else.",
    )
    min_reranker: float | None = Field(0.9, ge=0, le=1, description="The reranker's score with the origin.")
    max_per_text: int | None = Field(3, ge=1, description="Most paraphrases kept of one text, the most changed first.")

    @model_validator(mode="after")
    def _bands(self) -> Gate:
        for name in ("length_ratio", "similarity"):
            band = getattr(self, name)
            if band and band[0] > band[1]:
                raise ValueError(f"{name}: the lower bound comes first, not {list(band)}; nothing would pass")
        return self
