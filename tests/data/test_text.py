import re
import time
from collections import Counter

import pytest
from hypothesis import example, given, settings, strategies as st

from bgetune.data.text import ENTITIES, MASKS, Normalizer, junk_reason, mask_personal_data, normalize, text_id
from bgetune.errors import InputError

# texts in which the troublesome characters are common
TEXT = st.text() | st.text(
    st.sampled_from("aA 　Ａ１1中国支付\t\n\u200b\u200d\ufeff\u00adİßΣ゛か\u0301\u0308\ud800()-.@x")
)
NUMBERS = st.text(st.sampled_from("0123456789 -().@xa86一+"), max_size=60)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("ＡＰＰ　怎么　Ｌｏｇｉｎ？", "app怎么login?"),
        ("  how  do\tI\nlog in ", "how do i log in"),
        ("支付 密码", "支付密码"),
        ("支付\u200b密\ufeff码\u00ad", "支付密码"),
        ("iPhone 手机 case red", "iphone手机case red"),
        ("５８同城－２０１４年", "58同城-2014年"),
        ("㎏ ﬁ ①", "kg fi 1"),
        ("e\u200b\u0301", "é"),
        ("テスト 결제 방법", "テスト 결제 방법"),
        ("a\x00b\x85c", "ab c"),
        ("\ud800坏", "坏"),
        ("❤️", "❤"),
        ("ÀÉ ΩΣ ЯД", "àé ως яд"),
        ("", ""),
    ],
)
def test_normalize(raw, normal):
    assert normalize(raw) == normal


@given(TEXT)
@example("\u0130")
@example("中 \u0301")
@example("\u3099 か")
def test_normalising_twice_is_normalising_once(raw):
    normal = normalize(raw)
    assert normalize(normal) == normal
    assert normal == normal.strip()
    assert not re.search(r"\s\s|[\u200b\ufeff\x00\n\t]", normal)
    normal.encode("utf-8")


@given(TEXT)
def test_what_only_looks_different_is_one_text(raw):
    assert normalize(f" {raw}\u200b ") == normalize(raw)
    assert normalize(f"中 {raw}") == normalize(f"中{raw}")


def test_opencc_makes_simplified_chinese():
    pytest.importorskip("opencc")
    assert normalize("如何修改登錄密碼", "t2s") == "如何修改登录密码"
    with pytest.raises(InputError, match="no_such_configuration"):
        normalize("漢", "no_such_configuration")


def test_text_id_is_the_start_of_the_sha256():
    # sha256sum of the UTF-8 bytes, by another tool
    assert text_id("abc") == "ba7816bf8f01cfea"
    assert text_id("支付密码") != text_id("登录密码")


@pytest.mark.parametrize(
    ("raw", "masked", "kinds"),
    [
        ("打13800138000给我", "打<电话>给我", {"phone": 1}),
        ("打１３８００１３８０００给我", "打<电话>给我", {"phone": 1}),
        ("+86 138-0013-8000", "<电话>", {"phone": 1}),
        ("8613800138000或138 0013 8001", "<电话>或<电话>", {"phone": 2}),
        ("010-62345678, (0571)87654321, 02187654321", "<电话>, <电话>, <电话>", {"phone": 3}),
        ("身份证11010519491231002X", "身份证<身份证>", {"id_card": 1}),
        ("身份证 110105 19491231 002x 挂失", "身份证<身份证>挂失", {"id_card": 1}),
        ("老身份证130503670401001", "老身份证<身份证>", {"id_card": 1}),
        ("卡号4111 1111 1111 1111被盗", "卡号<银行卡>被盗", {"card": 1}),
        ("卡号6222020000000000008", "卡号6222020000000000008", {}),
        ("amex 378282246310005", "amex <银行卡>", {"card": 1}),
        ("邮箱Zhang.San+1@mail.example.com.cn收不到", "邮箱<邮箱>收不到", {"email": 1}),
        ("a@b.cn 13800138000", "<邮箱> <电话>", {"email": 1, "phone": 1}),
    ],
)
def test_personal_data_is_masked(raw, masked, kinds):
    assert mask_personal_data(normalize(raw)) == (masked, Counter(kinds))


def luhn(digits: str) -> str:
    """The check digit that completes a card number (by summing, not by the module's way)."""
    for check in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(digits + check)):
            value = int(digit) * (2 if place % 2 else 1)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return digits + check
    raise AssertionError


@given(
    st.sampled_from(["622202", "623058", "411111", "510510", "352800"]), st.text("0123456789", min_size=9, max_size=9)
)
def test_card_numbers_need_their_check_digit(issuer, account):
    number = luhn(issuer + account)
    assert mask_personal_data(f"卡{number}") == ("卡<银行卡>", Counter(card=1))
    other = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert "card" not in mask_personal_data(f"卡{other}")[1]


@pytest.mark.parametrize(
    "text",
    [
        "订单202605181234567890什么时候到",
        "订单号2026051812345678没发货",
        "运单sf1380013800012",
        "运单4312345678901查询",
        "淘宝订单4231567890123456789",
        "微信支付4200001234202605181234567890",
        "转账13800138000.50元",
        "余额12345678.90元",
        "2026-03-02 08:31:39",
        "20260302083139",
        "1700000000",
        "1700000000000",
        "拨打95588或400-820-8820",
        "版本10.12.13.14",
        "身份证110105194912310021",  # wrong check digit
        "身份证991231194912310020",  # no such province
        "isbn 9787111213826",
        "user@localhost",
        "@某人",
    ],
)
def test_other_numbers_stay(text):
    assert mask_personal_data(text) == (text, Counter())


@settings(max_examples=400)
@given(NUMBERS | TEXT)
@example("+861380013800013900139000")
@example("4111 1111 1111 1111 13800138000 13900139000")
@example("a@b.cn@c.cn")
def test_masking_twice_is_masking_once(raw):
    normal = normalize(raw)
    masked, found = mask_personal_data(normal)
    assert mask_personal_data(masked) == (masked, Counter())
    assert normalize(masked) == masked
    assert sum(found.values()) == sum(masked.count(token) - normal.count(token) for token in MASKS.values())


def test_only_the_kinds_asked_for():
    text = "a@b.cn 13800138000"
    assert mask_personal_data(text, ["email"])[0] == "<邮箱> 13800138000"
    assert mask_personal_data(text, []) == (text, Counter())


@pytest.mark.parametrize("text", ["1" * 50_000, "1 " * 25_000, "a" * 50_000 + "@", "a.b@" * 12_000, "(0" * 25_000])
def test_no_text_takes_long(text):
    begun = time.perf_counter()
    mask_personal_data(text)
    junk_reason(text)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("http://www.example.com/a?b=c", "URL"),
        ("www.baidu.com", "URL"),
        ("163.com", "URL"),
        ("tieba.baidu.com/f?kw=x", "URL"),
        ("好", "single character"),
        ("a", "single character"),
        ("7", "single character"),
        ("12306", "numbers only"),
        ("2008-06-01", "numbers only"),
        ("???", "no letters"),
        ("<电话>", "personal data only"),
        ("<电话> 12", "personal data only"),
        ("查<电话>", None),
        ("支付密码", None),
        ("qq", None),
        ("12306官网", None),
        ("如何登录www.baidu.com", None),
        ("vue.js教程", None),
    ],
)
def test_junk(text, reason):
    assert junk_reason(text) == reason


def test_a_run_keeps_its_form(tmp_path):
    form = Normalizer(("phone",), None)
    form.write(tmp_path / "normalizer.json")
    assert Normalizer.read(tmp_path / "normalizer.json") == form
    assert form("ＡＰＰ 13800000001 a@b.cn") == "app <电话> a@b.cn"
    assert form.masked("１３８００００００１１")[1] == {"phone": 1}
    assert form.text_id("ＡＰＰ") == text_id("app")
    assert form(form("Ａ 13800000001")) == form("Ａ 13800000001")


@pytest.mark.parametrize(
    ("raw", "form"),
    [
        ("it&#39;s R&amp;D", "it's r&d"),
        ("支付&nbsp;密码&#x5417;", "支付密码吗"),
        ("a &amp;lt; b", "a < b"),
        ("&ａｍｐ；ok", "&ok"),
        ("AT&T; Q&A", "at&t; q&a"),
        ("R&D", "r&d"),
    ],
)
def test_html_entities_are_written_out_and_counted(raw, form):
    found, counted = Normalizer().masked(raw)
    assert found == form
    assert (counted[ENTITIES] > 0) == (";" in raw.replace("；", ";").replace("AT&T;", ""))
    assert Normalizer()(found) == found


def test_markup_is_left_out_on_request_and_the_choice_is_kept(tmp_path):
    raw = "<p>如何<b>修改</b>密码？</p><script>alert(1 < 2)</script><br/>打<电话> 3 < 5"
    assert Normalizer()(raw).startswith("<p>如何<b>")
    strips = Normalizer(strip_markup=True)
    assert strips(raw) == "如何修改密码?打<电话> 3 < 5"
    assert strips("&lt;b&gt;粗&lt;/b&gt;") == "粗"
    assert strips(strips(raw)) == strips(raw)
    strips.write(tmp_path / "normalizer.json")
    assert Normalizer.read(tmp_path / "normalizer.json") == strips
    assert Normalizer.of({"mask": [], "opencc": None}) == Normalizer(())  # of a run before there was the choice
