from decimal import Decimal

import pytest

from bgetune.augment import surface


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("怎么改密码", "怎么改密码?", 0.0),
        ("登录 密码", "登录密码", 0.0),
        ("abcd", "abcx", 0.25),
        ("abcd", "ab", 0.5),
        ("", "abc", 1.0),
        ("kitten", "sitting", 3 / 7),
    ],
)
def test_change_is_levenshtein_over_the_longer_text(a, b, expected):
    assert surface.change(a, b) == pytest.approx(expected)
    assert surface.change(b, a) == pytest.approx(expected)


@pytest.mark.parametrize(
    "same",
    [
        ["三千元", "3000块", "3,000 yuan", "3千元", "3k元"],
        ["三个工作日", "3天", "3日", "3 days", "三天"],
        ["一万二千", "12000", "1.2万", "12,000"],
        ["每月", "一个月", "1个月"],
        ["一天", "每天", "每日"],
        ["百分之五", "5%", "五%"],
        ["一个半小时", "1.5小时", "1个半小时"],
        ["两年", "二年", "2年", "two years"],
        ["二十四小时", "24小时", "24个小时"],
        ["第三次", "第3次"],
        ["二零二六年", "2026年"],
        ["一亿元", "100000000元"],
        ["三张", "3个"],
    ],
)
def test_one_number_in_all_its_spellings(same):
    found = [surface.numbers(text) for text in same]
    assert all(found), found
    assert all(numbers == found[0] for numbers in found), dict(zip(same, found, strict=True))


def test_numbers_know_value_and_unit():
    assert surface.numbers("每天最多3次, 每次5000.50元") == {
        (Decimal(1), "天"): 1,
        (Decimal(3), "次"): 1,
        (Decimal("5000.5"), "元"): 1,
    }


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("3元", "3天"),
        ("3天", "4天"),
        ("一年", "半年"),
        ("每天", "每月"),
        ("5%", "5折"),
        ("3万元", "3千元"),
        ("2次", ""),
    ],
)
def test_other_numbers_or_units_differ(a, b):
    assert surface.numbers(a) != surface.numbers(b)


@pytest.mark.parametrize(
    "text",
    ["怎么改一下密码", "一键支付", "九宫格密码", "我一直改不了", "帮我看一个订单", "万一不行", "二手车", "top gifts"],
)
def test_words_with_a_numeral_in_them_count_nothing(text):
    assert not surface.numbers(text)


def test_latin_tokens_in_chinese_text_only():
    assert surface.latin_tokens("在app上用vip-2卡买5g流量") == {"app", "vip-2", "5g"}
    assert surface.latin_tokens("how do i log in") == frozenset()


def test_terms_are_counted_without_regard_to_case():
    assert surface.terms_in("花呗和花呗分期 Plus", ["花呗", "plus", "借呗"]) == {"花呗": 2, "plus": 1}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("能不能开通", "可以开通吗"),
        ("无法开通", "开通失败"),
        ("没有手机", "没手机"),
        ("办好了没", "办好没有"),
        ("是否收费", "收费吗"),
        ("有无次数上限", "次数上限"),
        ("can't pay", "cannot pay"),
        ("不过我想开通", "我想开通"),
    ],
)
def test_same_negation(a, b):
    assert surface.same_negation(a, b)
    assert surface.same_negation(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("开通不了", "开通"),
        ("有没有手续费", "没有手续费"),
        ("不可以不还款", "不可以还款"),
        ("开通失败", "怎么开通"),
        ("can i pay", "can i not pay"),
        ("别再扣款", "再扣款"),
    ],
)
def test_other_negation(a, b):
    assert not surface.same_negation(a, b)
    assert not surface.same_negation(b, a)


def test_length_ratio_ignores_signs():
    assert surface.length_ratio("一二三四!!", "一 二") == pytest.approx(0.5)
