"""Translation by services instead of models. Texts are sent to them.

The client libraries of DeepL and Tencent are used (extra `translate`); the other services take a single form of
request, which is sent with httpx. Translations are cached on disk; keys are neither stored nor shown.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from bgetune.augment import chat, memo, remote
from bgetune.augment.generate import read_prompt
from bgetune.augment.remote import Failed, Limits, Request
from bgetune.config.augmentation import Endpoint, Service
from bgetune.errors import InputError
from bgetune.locale import N_, _

if TYPE_CHECKING:
    from bgetune.augment.decoding import Decoding

PARAMETER = "02_backtranslate.pivots"


class ServiceTranslator:
    """One direction of a translation service, used as `bgetune.augment.backtranslate.Translator` is.

    Args:
        service: the service and its settings. source_code: language of the texts as the service calls it. target_code:
        language to translate to. limits: budget and rate that both directions share. cache: file of the cache (see
        `bgetune.augment.memo`). None: no cache. Cached translations do not change when the service improves.
        pause: seconds before the first retry.
    """

    def __init__(
        self,
        service: Service,
        source_code: str,
        target_code: str,
        *,
        limits: Limits,
        cache: Path | str | None = "translations",
        pause: float = remote.PAUSE,
    ):
        self.service = service
        self.source_code = source_code
        self.target_code = target_code
        self._limits = limits
        self._cache = cache
        self._pause = pause

    def translate(
        self, texts: Sequence[str], decoding: Decoding, progress: bool = True, label: str = ""
    ) -> list[list[str]]:
        """Translate texts.

        Args:
            texts: n texts.
            decoding: number of candidates, temperature and seed, which only openai takes.
            progress: whether to show a progress bar.
            label: of the progress bar.

        Returns:
            n lists: at most `decoding.candidates` translations from openai, one from other services, none after a
            failure.

        Raises:
            InputError: naming the parameter and the remedy, for an error that every text would meet.
        """
        service, codes = self.service, (self.source_code, self.target_code)
        if service.name == "openai":
            prompt = read_prompt("translations", "en")
            count, seed = decoding.candidates, decoding.seed
            temperature = decoding.temperature if decoding.method == "sampling" else 0.0
            fixed: list[str] = [prompt, str(service.model), str(temperature), str(seed), str(count)]

            def connect() -> Request:
                send = chat.connect(
                    service,
                    prompt,
                    temperature=temperature,
                    seed=seed,
                    longest=chat.LONGEST_TEXT,
                    parameter=f"{PARAMETER}: service",
                )
                languages = dict(zip(("from", "to"), codes, strict=True))
                return lambda text: send(text=text, count=count, **languages)
        else:
            fixed = []

            def connect() -> Request:
                return _single(CLIENTS[service.name](service, *codes))

        results = remote.request_all(
            {text: memo.key(service.name, service.base_url or "", *codes, *fixed, text) for text in texts},
            connect,
            service,
            self._limits,
            cache=self._cache,
            label=label,
            progress=progress,
            pause=self._pause,
        )
        failed = Counter(result.reason for result in results.values() if result.reason)
        if failed:
            reasons = ", ".join(f"{_(reason)} {count}" for reason, count in failed.most_common())
            warnings.warn(
                _(
                    "{parameter}: {service} did not translate {failed} of {count} texts ({reasons}); the next run "
                    "asks for these again"
                ).format(
                    parameter=PARAMETER,
                    service=service.name,
                    failed=failed.total(),
                    count=len(results),
                    reasons=reasons,
                ),
                stacklevel=2,
            )
        return [list(results[text].texts) for text in texts]


def _single(translate: Callable[[str], str | None]) -> Request:
    """The request of a function that gives one translation."""

    def request(text: str) -> tuple[str, ...]:
        try:
            found = translate(text)
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError):  # not JSON, or not of the protocol
            raise Failed("malformed") from None
        if not found or not found.strip():
            raise Failed("empty")
        return (found.strip(),)

    return request


def _deepl(service: Service, source: str, target: str) -> Callable[[str], str]:
    """See `CLIENTS`."""
    key = _keys("deepl", "DEEPL_AUTH_KEY")[0]
    deepl = _library("deepl", "deepl")
    # our own retries count against the budget and the rate limit, the client's would not
    deepl.http_client.max_network_retries = 0
    deepl.http_client.min_connection_timeout = service.timeout
    client = deepl.DeepLClient(key, server_url=service.base_url, send_platform_info=False)

    def translate(text: str) -> str:
        try:
            return client.translate_text(text, source_lang=source, target_lang=target).text
        except deepl.ConnectionException as error:
            raise Failed("timeout" if "timed out" in str(error) else "no connection") from None
        except deepl.QuotaExceededException:
            raise InputError(
                _(
                    "{parameter}: deepl: the characters of the billing period are used up; wait, or take another "
                    "service"
                ).format(parameter=PARAMETER)
            ) from None
        except deepl.DeepLException as error:
            _explain("deepl", error.http_status_code or 400)

    return translate


def _tencent(service: Service, source: str, target: str) -> Callable[[str], str]:
    """See `CLIENTS`."""
    keys = _keys("tencent", "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY")
    common = _library("tencent", "tencentcloud.common.common_client")
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    address = urlsplit(service.base_url or "https://tmt.tencentcloudapi.com")
    http = HttpProfile(address.scheme, address.netloc, reqTimeout=service.timeout)
    profile = ClientProfile(httpProfile=http)
    client = common.CommonClient("tmt", "2018-03-21", Credential(*keys), "ap-guangzhou", profile)

    def translate(text: str) -> str:
        request = {"SourceText": text, "Source": source, "Target": target, "ProjectId": 0}
        try:
            return client.call_json("TextTranslate", request)["Response"]["TargetText"]
        except TencentCloudSDKException as error:
            code = error.get_code()
            if code == "ClientNetworkError":
                raise Failed("timeout" if "timed out" in str(error) else "no connection") from None
            if "LimitExceeded" in code:
                raise Failed("rate limit") from None
            if code.startswith(("InternalError", "ServerNetworkError")):
                raise Failed("server error") from None
            _explain("tencent", 403 if code.startswith("AuthFailure") else 400, code)

    return translate


def _google(service: Service, source: str, target: str) -> Callable[[str], str]:
    """See `CLIENTS`."""
    url = f"{service.base_url or 'https://translation.googleapis.com'}/language/translate/v2"
    post = _poster(service, url, headers={"x-goog-api-key": _keys("google", "GOOGLE_API_KEY")[0]})

    def translate(text: str) -> str:
        answer = post(json={"q": text, "source": source, "target": target, "format": "text"})
        return answer["data"]["translations"][0]["translatedText"]

    return translate


def _libretranslate(service: Service, source: str, target: str) -> Callable[[str], str]:
    """See `CLIENTS`."""
    # many self-hosted servers need no key
    key = {"api_key": key} if (key := os.environ.get("LIBRETRANSLATE_API_KEY")) else {}
    post = _poster(service, f"{str(service.base_url).rstrip('/')}/translate")

    def translate(text: str) -> str:
        return post(json={"q": text, "source": source, "target": target, "format": "text", **key})["translatedText"]

    return translate


def _baidu(service: Service, source: str, target: str) -> Callable[[str], str]:
    """See `CLIENTS`."""
    appid, secret = _keys("baidu", "BAIDU_APPID", "BAIDU_APPKEY")
    post = _poster(service, f"{service.base_url or 'https://fanyi-api.baidu.com'}/api/trans/vip/translate")

    def translate(text: str) -> str:
        # the signature of the protocol: the salt need not be random, and MD5 protects only the key
        salt = hashlib.sha256(text.encode()).hexdigest()[:10]
        sign = hashlib.md5(f"{appid}{text}{salt}{secret}".encode(), usedforsecurity=False).hexdigest()
        form = {"q": text, "from": source, "to": target, "appid": appid, "salt": salt, "sign": sign}
        answer = post(data=form)
        code = str(answer.get("error_code", "52000"))
        if code in ("54003", "54005"):
            raise Failed("rate limit")
        if code in ("52001", "52002"):
            raise Failed("server error")
        if code != "52000":
            _explain("baidu", 403 if code in ("52003", "54001", "58000", "90107") else 400, code)
        return "\n".join(part["dst"] for part in answer["trans_result"])

    return translate


CLIENTS: dict[str, Callable[[Service, str, str], Callable[[str], str]]] = {
    "deepl": _deepl,
    "libretranslate": _libretranslate,
    "baidu": _baidu,
    "tencent": _tencent,
    "google": _google,
}
"""Service -> function (service, source_code, target_code) that makes a function which translates one text.

The latter raises the errors of `bgetune.augment.remote.Request`.
"""

KEYS = {
    "deepl": "DEEPL_AUTH_KEY",
    "libretranslate": "LIBRETRANSLATE_API_KEY",
    "baidu": N_("BAIDU_APPID and BAIDU_APPKEY"),
    "tencent": N_("TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"),
    "google": "GOOGLE_API_KEY",
}
"""Service -> environment variables that hold its keys."""
LIBRARIES = {"deepl": "deepl", "tencent": "tencentcloud"}
"""Service -> its package of the extra `translate`."""


def variables(service: Endpoint) -> list[str]:
    """The environment variables that a service or an endpoint requires."""
    name = getattr(service, "name", "openai")
    if name == "openai":
        return [service.key_variable]
    return [] if name == "libretranslate" else KEYS[name].split(" and ")


def _poster(service: Service, url: str, headers: dict[str, str] | None = None) -> Callable[..., Any]:
    """A function that sends a POST request and returns the JSON of the answer."""
    import httpx

    client = httpx.Client(timeout=service.timeout, headers=headers)

    def post(**body: Any) -> Any:
        try:
            answer = client.post(url, **body)
        except httpx.TimeoutException:
            raise Failed("timeout") from None
        except httpx.TransportError:
            raise Failed("no connection") from None
        if answer.is_success:
            return answer.json()
        # Google reports a rate limit with 403
        limited = answer.status_code == 403 and "ateLimitExceeded" in answer.text
        _explain(service.name, 429 if limited else answer.status_code, wait=remote.retry_after(answer.headers))

    return post


def _keys(name: str, *variables: str) -> list[str]:
    """The keys of a service, from environment variables."""
    where = f"{PARAMETER}: service {name}"
    return [
        remote.secret(variable, where, _("put the key of your {service} account there").format(service=name))
        for variable in variables
    ]


def _library(name: str, module: str) -> Any:
    """Import a client library of the extra `translate`."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            _("{parameter}: service {service} needs: pip install 'bgetune[translate]'").format(
                parameter=PARAMETER, service=name
            )
        ) from None


def _explain(name: str, status: int, code: str = "", wait: float = 0.0) -> NoReturn:
    """Raise the error for the HTTP status of a failed request, without the server's text, which may hold the key."""
    if status == 429:
        raise Failed("rate limit", wait)
    if status >= 500:
        raise Failed("server error")
    if status in (401, 403):
        raise InputError(
            _(
                "{parameter}: {service} answered {status}: it does not accept the key in {variables}; export another"
            ).format(parameter=PARAMETER, service=name, status=code or status, variables=_(KEYS[name]))
        )
    raise InputError(
        _(
            "{parameter}: {service} answered {status}: it does not take the request; check text_code, pivot_code and "
            "base_url"
        ).format(parameter=PARAMETER, service=name, status=code or status)
    )
