"""Translation services over a real socket: each client library and protocol talks to a local server."""

import hashlib
import json

import pytest

from bgetune.augment.backtranslate import back_translate
from bgetune.augment.decoding import Decoding
from bgetune.augment.remote import Limits
from bgetune.augment.services import KEYS, ServiceTranslator
from bgetune.config.augmentation import Pivot, Service
from bgetune.errors import InputError

from .server import KEY, Waiting, completion, running, say, text_of

SECRETS = {
    "TEST_KEY": KEY,
    "DEEPL_AUTH_KEY": KEY,
    "LIBRETRANSLATE_API_KEY": KEY,
    "BAIDU_APPID": "an-id",
    "BAIDU_APPKEY": KEY,
    "TENCENTCLOUD_SECRET_ID": "an-id",
    "TENCENTCLOUD_SECRET_KEY": KEY,
    "GOOGLE_API_KEY": KEY,
}

ANSWERS = {
    "openai": say,
    "deepl": lambda text: (200, {"translations": [{"text": text, "billed_characters": 1}]}),
    "libretranslate": lambda text: (200, {"translatedText": text}),
    "baidu": lambda text: (200, {"from": "zh", "to": "en", "trans_result": [{"src": "?", "dst": text}]}),
    "tencent": lambda text: (200, {"Response": {"TargetText": text, "Source": "zh", "Target": "en", "RequestId": "1"}}),
    "google": lambda text: (200, {"data": {"translations": [{"translatedText": text}]}}),
}


def tencent_error(code):
    return 200, {"Response": {"Error": {"Code": code, "Message": KEY}, "RequestId": "1"}}


FAILURES = {
    "openai": {"rate limit": (429, {}), "server error": (500, {}), "malformed": (200, b"{"), "refused": say()},
    "deepl": {
        "rate limit": (429, {"message": "slow down"}),
        "server error": (503, {}),
        "malformed": (200, {"translations": []}),
        "empty": ANSWERS["deepl"](" "),
    },
    "libretranslate": {
        "rate limit": (429, {"error": "slow down"}),
        "server error": (500, {}),
        "malformed": (200, b"<html>"),
        "malformed/keys": (200, {"text": "x"}),
        "empty": ANSWERS["libretranslate"](""),
    },
    "baidu": {
        "rate limit": (200, {"error_code": "54003", "error_msg": KEY}),
        "server error": (200, {"error_code": "52002", "error_msg": KEY}),
        "server error/http": (502, b"bad gateway"),
        "malformed": (200, {}),
    },
    "tencent": {
        "rate limit": tencent_error("RequestLimitExceeded"),
        "server error": tencent_error("InternalError.BackendTimeout"),
        "server error/http": (500, {}),
        "malformed": (200, b"{"),
        "empty": ANSWERS["tencent"](""),
    },
    "google": {
        "rate limit": (403, {"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}),
        "rate limit/http": (429, {}),
        "server error": (503, {}),
        "malformed": (200, {"data": {}}),
    },
}

REFUSALS = {
    "openai": (401, {}),
    "deepl": (403, {"message": KEY}),
    "libretranslate": (403, {"error": KEY}),
    "baidu": (200, {"error_code": "54001", "error_msg": KEY}),
    "tencent": tencent_error("AuthFailure.SignatureFailure"),
    "google": (403, {"error": {"message": KEY}}),
}

ALL = sorted(ANSWERS)


@pytest.fixture
def start(monkeypatch):
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    servers = []

    def begin(name, script, source="zh", target="en-US", **settings):
        server = running(script)
        servers.append(server)
        path = "/v1" if name == "openai" else ""
        options = {"model": "test", "key_variable": "TEST_KEY", "retries": 2, "timeout": 5} | settings
        service = Service(name=name, base_url=server.url + path, **options)
        limits = Limits(service)
        return server, lambda: ServiceTranslator(service, source, target, limits=limits, pause=0.01)

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def translate(make, texts):
    return make().translate(texts, Decoding(), progress=False)


@pytest.mark.parametrize("name", ALL)
def test_texts_come_back_in_order_and_are_asked_for_once(name, start):
    server, make = start(name, lambda text, turn: ANSWERS[name](f"<{text}> & 'good'"))
    expected = [["<甲> & 'good'"], ["<乙> & 'good'"], ["<甲> & 'good'"]]
    assert translate(make, ["甲", "乙", "甲"]) == expected
    assert sorted(server.texts()) == ["乙", "甲"]
    # the second run asks nothing, and needs neither key nor server
    server.shutdown()
    assert translate(make, ["甲", "乙", "甲"]) == expected
    assert len(server.requests) == 2


def test_translations_are_remembered_by_languages_and_settings(start):
    server, make = start("openai", lambda text, turn: say("x"))
    translate(make, ["app"])
    there = make()
    back = ServiceTranslator(there.service, "en-US", "zh", limits=Limits(there.service))
    other = there.service.model_copy(update={"model": "another"})
    other = ServiceTranslator(other, "zh", "en-US", limits=Limits(other))
    for translator, decoding in [
        (back, Decoding()),
        (other, Decoding()),
        (there, Decoding("sampling", 1, temperature=0.5)),
        (there, Decoding("sampling", 2, temperature=0.5)),
        (there, Decoding("sampling", 2, temperature=0.9)),
        (there, Decoding("sampling", 2, temperature=0.9, seed=7)),
        (there, Decoding("sampling", 2, temperature=0.9, seed=7)),
    ]:
        assert translator.translate(["app"], decoding, progress=False) == [["x"]]
    assert len(server.requests) == 7


@pytest.mark.parametrize("name", ALL)
def test_what_is_sent(name, start):
    server, make = start(name, lambda text, turn: ANSWERS[name]("x"))
    translate(make, ["怎么&退款"])
    headers, body, _ = server.requests[0]
    assert text_of(body) == "怎么&退款"
    if name == "openai":
        data = json.loads(body["messages"][1]["content"])
        assert data == {"text": "怎么&退款", "count": 1, "from": "zh", "to": "en-US"}
        assert headers["authorization"] == f"Bearer {KEY}"
        assert body["temperature"] == 0
    elif name == "deepl":
        assert headers["path"] == "/v2/translate"
        assert headers["authorization"] == f"DeepL-Auth-Key {KEY}"
        assert (body["source_lang"], body["target_lang"]) == ("ZH", "EN-US")
    elif name == "libretranslate":
        assert headers["path"] == "/translate"
        assert body == {"q": "怎么&退款", "source": "zh", "target": "en-US", "format": "text", "api_key": KEY}
    elif name == "baidu":
        assert headers["path"] == "/api/trans/vip/translate"
        assert (body["from"], body["to"], body["appid"]) == ("zh", "en-US", "an-id")
        assert body["sign"] == hashlib.md5(f"an-id怎么&退款{body['salt']}{KEY}".encode()).hexdigest()
    elif name == "tencent":
        assert headers["x-tc-action"] == "TextTranslate"
        assert headers["authorization"].startswith("TC3-HMAC-SHA256 Credential=an-id/")
        assert (body["Source"], body["Target"], body["ProjectId"]) == ("zh", "en-US", 0)
    else:
        assert headers["path"] == "/language/translate/v2"
        assert headers["x-goog-api-key"] == KEY
        assert body == {"q": "怎么&退款", "source": "zh", "target": "en-US", "format": "text"}


@pytest.mark.parametrize("name", ALL)
def test_failures_are_tried_again(name, start):
    failures = FAILURES[name]
    server, make = start(name, lambda text, turn: failures[text] if turn < 2 else ANSWERS[name](f"{text}!"))
    assert translate(make, list(failures)) == [[f"{failure}!"] for failure in failures]
    assert len(server.requests) == 3 * len(failures)


@pytest.mark.parametrize("name", ALL)
def test_what_fails_to_the_end_is_told_and_not_remembered(name, start):
    failures = FAILURES[name]
    server, make = start(name, lambda text, turn: failures.get(text, ANSWERS[name]("好")), retries=1)
    with pytest.warns(UserWarning, match=f"{name} did not translate {len(failures)} of") as caught:
        assert translate(make, ["问", *failures]) == [["好"], *[[]] * len(failures)]
    for failure in failures:
        assert failure.split("/")[0] in str(caught[0].message)
    assert len(server.requests) == 1 + 2 * len(failures)
    with pytest.warns(UserWarning, match=name):
        translate(make, ["问", *failures])
    assert server.texts().count("问") == 1
    assert len(server.requests) == 1 + 4 * len(failures)


@pytest.mark.parametrize("name", ALL)
def test_a_key_that_is_not_accepted_stops_the_run(name, start):
    server, make = start(name, lambda text, turn: REFUSALS[name], concurrency=2)
    variable = {"openai": "TEST_KEY"}.get(name) or KEYS[name]
    with pytest.raises(InputError, match=variable) as caught:
        translate(make, [f"问{i}" for i in range(50)])
    assert "02_backtranslate.pivots" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.requests) < 50


@pytest.mark.parametrize("name", [name for name in ALL if name != "openai"])
def test_a_language_that_is_not_known_stops_the_run(name, start):
    refusal = {"baidu": (200, {"error_code": "58001"}), "tencent": tencent_error("UnsupportedOperation")}
    _, make = start(name, lambda text, turn: refusal.get(name, (400, {"message": "target_lang"})))
    with pytest.raises(InputError, match="pivot_code"):
        translate(make, ["问"])


@pytest.mark.parametrize("name", ["libretranslate", "tencent", "deepl"])
def test_a_slow_server_does_not_hold_the_run(name, start):
    slow = Waiting(ANSWERS[name]("太晚"), ANSWERS[name]("好"))
    # with retries in plenty: on a busy machine a quick answer may take longer than the time-out, too
    _, make = start(name, slow, timeout=0.3, retries=8)
    assert translate(make, ["问"]) == [["好"]]


@pytest.mark.parametrize("name", ALL)
def test_no_server(name, start):
    server, make = start(name, lambda text, turn: ANSWERS[name]("好"), retries=0)
    server.shutdown()
    server.server_close()
    with pytest.warns(UserWarning, match="no connection"):
        assert translate(make, ["问"]) == [[]]


@pytest.mark.parametrize(("name", "variable"), [(name, keys.split()[-1]) for name, keys in KEYS.items()])
def test_a_missing_key_is_named(name, variable, start, monkeypatch):
    server, make = start(name, lambda text, turn: ANSWERS[name]("好"))
    monkeypatch.delenv(variable)
    if name == "libretranslate":  # a team's own server may want none
        assert translate(make, ["问"]) == [["好"]]
        assert "api_key" not in server.requests[0][1]
    else:
        with pytest.raises(InputError, match=f"service {name}: .* {variable} is empty"):
            translate(make, ["问"])
        assert not server.requests


@pytest.mark.parametrize(("name", "module"), [("deepl", "deepl"), ("tencent", "tencentcloud")])
def test_a_missing_library_is_named(name, module, start, monkeypatch):
    import sys

    _, make = start(name, lambda text, turn: ANSWERS[name]("好"))
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"service .*: pip install 'bgetune\[translate\]'"):
        translate(make, ["问"])


def test_quota(start):
    _, make = start("deepl", lambda text, turn: (456, {"message": KEY}))
    with pytest.raises(InputError, match="used up"):
        translate(make, ["问"])


def test_rate_limit_and_budget_are_those_of_both_directions(start):
    server, make = start("libretranslate", lambda text, turn: ANSWERS["libretranslate"](f"{text}!"),
                         requests_per_minute=600, max_requests=5)  # fmt: skip
    translate(make, [f"问{i}" for i in range(4)])
    times = sorted(when for _, _, when in server.requests)
    assert times[-1] - times[0] >= 0.25  # four requests, a tenth of a second apart
    with pytest.warns(UserWarning, match="budget 2"):
        assert [bool(found) for found in translate(make, ["一", "二", "三"])].count(True) == 1
    assert len(server.requests) == 5


def test_back_translation_by_a_language_model(start, monkeypatch):
    def script(text, turn):
        return say("how do i get a refund") if text == "怎么退款" else say("如何退钱", "怎样能退款", "如何退钱")

    server, _ = start("openai", script)
    service = Service(base_url=f"{server.url}/v1", model="test", key_variable="TEST_KEY")
    pivot = Pivot(language="en", service=service, text_code="zh", pivot_code="en")
    found = back_translate(["怎么退款"], [pivot], Decoding("sampling", 3, temperature=0.7), progress=False)
    assert found["paraphrase"].tolist() == ["如何退钱", "怎样能退款"]
    assert found["pivot_text"].unique().tolist() == ["how do i get a refund"]
    # nothing is known of what the service thinks of them: the gate's rules for that do not apply
    assert found[["fluency", "agreement"]].isna().all(axis=None)
    (_, there, _), (_, back, _) = server.requests
    assert json.loads(there["messages"][1]["content"]) == {
        **{"text": "怎么退款", "count": 1, "from": "zh", "to": "en"},
    }
    assert json.loads(back["messages"][1]["content"]) == {
        **{"text": "how do i get a refund", "count": 3, "from": "en", "to": "zh"},
    }
    assert (there["temperature"], back["temperature"]) == (0, 0.7)
    monkeypatch.delenv("TEST_KEY")
    again = back_translate(["怎么退款"], [pivot], Decoding("sampling", 3, temperature=0.7), progress=False)
    assert again.equals(found)
    assert len(server.requests) == 2


def test_what_a_service_does_not_translate_is_empty(start):
    server, _ = start(
        "libretranslate", lambda text, turn: (500, {}) if text == "乙" else (200, {"translatedText": "x"})
    )
    service = Service(name="libretranslate", base_url=server.url, retries=0)
    pivot = Pivot(service=service, text_code="zh", pivot_code="en")
    with pytest.warns(UserWarning, match="1 of 2"):
        found = back_translate(["甲", "乙"], [pivot], Decoding("sampling", 4), progress=False)
    assert found[["origin", "pivot_text", "paraphrase"]].values.tolist() == [[0, "x", "x"], [1, "", ""]]


def test_openai_answers_that_are_cut_off(start):
    _, make = start("openai", lambda text, turn: (200, completion("{}", finish="length")), retries=0)
    with pytest.warns(UserWarning, match="cut off"):
        assert translate(make, ["问"]) == [[]]
