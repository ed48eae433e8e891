"""Comparison of the surface of two texts: edit distance, numbers, names and negation.

Written for Chinese, and for English where that costs little. Texts are normalised (`bgetune.data.text.normalize`).
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal

from rapidfuzz.distance import Levenshtein

# --- change -------------------------------------------------------------------------------------------------------

_SIGNS = re.compile(r"[\W_]+")


def core(text: str) -> str:
    """A text without punctuation and blanks; the text itself if it has nothing else."""
    return _SIGNS.sub("", text) or text


def change(a: str, b: str) -> float:
    """Levenshtein distance over the length of the longer text, in [0, 1], without punctuation, blanks and case."""
    a, b = (_SIGNS.sub("", text).lower() for text in (a, b))
    return Levenshtein.normalized_distance(a, b)


def length_ratio(a: str, b: str) -> float:
    """Number of characters of b over that of a, without punctuation and blanks."""
    return len(_SIGNS.sub("", b)) / max(1, len(_SIGNS.sub("", a)))


# --- numbers ------------------------------------------------------------------------------------------------------

_DIGITS = {
    char: value
    for value, chars in enumerate(["零〇", "一壹", "二贰两", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"])
    for char in chars
}
_POWERS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10**4, "亿": 10**8}
_NUMERALS = "".join(_DIGITS) + "".join(_POWERS)

# name of a unit -> its spellings
_UNITS = {
    "元": "元|块钱|块|rmb|人民币|圆|¥|yuan",
    "角": "角|毛钱|毛",
    "美元": "美元|美金|刀|dollars?|usd",
    "%": "%|percent",
    "年": "年|years?",
    "季": "个季度|季度",
    "月": "个月|月份|月|months?",
    "周": "个星期|个礼拜|星期|礼拜|周|weeks?",
    "天": "个工作日|工作日|天|日|days?",
    "时": "个小时|小时|个钟头|钟头|hours?",
    "分钟": "分钟|minutes?|mins?",
    "秒": "秒钟|秒|seconds?",
    "号": "号",
    "点": "点钟|点",
    "岁": "周岁|岁",
    "次": "次|回|趟|times?",
    "折": "折",
    "倍": "倍",
    "期": "期",
    "分": "分(?!钟)",
    "gb": "gb|g",
    "mb": "mb|m|兆",
    "千克": "kg|公斤|千克",
    "": "个|种|条|款|份|件|项|只|名|位|笔|张|人|家|户|台|部|页|步|套|级",  # any thing: 3张 and 3个 count alike
}
_TIMES = ("年", "季", "月", "周", "天", "时", "分钟")
_FORMS = sorted((form for forms in _UNITS.values() for form in forms.split("|")), key=len, reverse=True)
_UNIT = "|".join(f"{form}(?![a-z])" if form[0].isascii() and form[0].isalpha() else form for form in _FORMS)
_UNIT_NAME = {re.compile(forms): name for name, forms in _UNITS.items()}

# "one" that counts nothing: 一下, 一些, 一个, 一次, 一直...; a numeral inside a word: 九宫格, 万一, 三方
_IDLE = re.compile(
    r"一[下些点样直键起般定切共旦边律概致向再度]|[万统唯同单专均]一"
    r"|一(?:次|[个种条款份件项只名位笔张人家户台部套])(?!半|月|星期|礼拜|小时|钟头|工作日|季度)"
    r"|九宫格|三方|四舍五入|千万别|万能|百度|七夕|双十一|十分(?!钟)|五险一金|三者"
)
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ENGLISH = {word: value for value, word in enumerate(_WORDS, start=2)}
_NUMBER = re.compile(
    rf"(?P<percent>百分之)?"
    rf"(?P<value>\d[\d,]*(?:\.\d+)?(?:[十百千万亿]+|k(?!g))?|[{_NUMERALS}]+|半|每|(?:{'|'.join(_ENGLISH)})(?![a-z]))"
    rf"(?P<half>个半|半)?\s*(?P<unit>{_UNIT})?(?P<more>半)?",
    re.IGNORECASE,
)


def numbers(text: str) -> Counter[tuple[Decimal, str]]:
    """The numbers of a text with their units, and how often each occurs.

    三千元, 3000块 and 3,000 yuan are all (3000, "元"). A Chinese numeral counts if a unit follows, if it has two
    characters or more, or after 第. 每月 and 一个月 are both (1, "月"), because limits and fees are given per month. 一
    that counts nothing (一下, 一个) is no number.
    """
    text = _IDLE.sub("·", text.lower())
    found: Counter[tuple[Decimal, str]] = Counter()
    for match in _NUMBER.finditer(text):
        spelled, unit = match["value"], _unit(match["unit"])
        if spelled == "每" and unit not in _TIMES:
            continue
        counted = match["unit"] or match["percent"] or text[: match.start()].endswith("第")
        if spelled in {*_NUMERALS, "半"} and not counted:
            continue
        value = _value(spelled)
        if match["half"] or match["more"]:
            value += Decimal("0.5")
        found[value, "%" if match["percent"] else unit] += 1
    return found


def _unit(form: str | None) -> str:
    """The name of a unit by its spelling, "" for no unit."""
    return next((name for forms, name in _UNIT_NAME.items() if form and forms.fullmatch(form)), "")


def _value(spelled: str) -> Decimal:
    """The value of digits, a Chinese numeral, or digits before one (3万)."""
    if spelled in _ENGLISH:
        return Decimal(_ENGLISH[spelled])
    if spelled == "半":
        return Decimal("0.5")
    if spelled == "每":
        return Decimal(1)
    if match := re.match(r"[\d,.]+", spelled):
        digits = match[0]
        value = Decimal(digits.replace(",", "").rstrip("."))
        for power in spelled[len(digits) :]:
            value *= 1000 if power == "k" else _POWERS[power]
        return value.normalize()
    if not any(char in _POWERS for char in spelled):  # read out digit by digit: 一二三
        return Decimal("".join(str(_DIGITS[char]) for char in spelled))
    total = section = digit = 0
    for char in spelled:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif _POWERS[char] < 10**4:
            section += (digit or 1) * _POWERS[char]
            digit = 0
        else:
            total = (total + section + digit or 1) * _POWERS[char]
            section = digit = 0
    return Decimal(total + section + digit).normalize()


# --- names --------------------------------------------------------------------------------------------------------

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[a-z][a-z0-9]*(?:[-+.#&][a-z0-9]+)*|\d+[a-z][a-z0-9]*", re.IGNORECASE)


def latin_tokens(text: str) -> frozenset[str]:
    """Latin words and codes in Chinese text (app, vip, 5g), in lower case; none in other text."""
    return frozenset(token.lower() for token in _LATIN.findall(text)) if _CHINESE.search(text) else frozenset()


def has_words(text: str) -> bool:
    """Whether a text has two Chinese characters or two words, and is no web address: something to paraphrase."""
    words = re.findall(r"[^\W\d_]{2,}", text)
    return not re.search(r"https?:|www\.|\.(?:com|cn|net|org)\b", text) and (
        len(_CHINESE.findall(text)) >= 2 or len(words) >= 2
    )


def terms_in(text: str, terms: list[str]) -> Counter[str]:
    """Term -> how often it occurs in a text, in any case; terms that do not occur are left out."""
    lowered = text.lower()
    return Counter({term: lowered.count(term.lower()) for term in terms if term.lower() in lowered})


# --- negation -----------------------------------------------------------------------------------------------------

# questions and words with a negating character that do not negate: 能不能, 有没有, 办好了没, 是否, 不过
_NOT_NEGATED = re.compile(
    r"(?P<asked>.)[不没](?P=asked)|[了成]没有?(?=$|[\s吗呢啊呀,.?!])|没有?(?=[吗呢]?[?]?$)|[是可能有]否|有无|否则|不过|不仅|不但|不好意思|差不多|不断|不同|"
    r"无论|不管|未来|非常|分别|类别|级别|特别|别人|别的|区别|个别|无线|不错|不如"
)
_NEGATED = re.compile(
    r"[不没无未勿莫非]|别(?=[再让给用把])|\b(?:not|no|never|none|without|cannot|unable)\b|n't\b", re.IGNORECASE
)
_FAILED = re.compile(r"失败|报错|出错|错误|异常|拒绝|\b(?:fail\w*|error\w*|impossible|refus\w*)\b", re.IGNORECASE)


def same_negation(a: str, b: str) -> bool:
    """Whether two texts are negated alike: they have the same number of negations.

    If one of them reports a failure (开通失败, 无法开通), it is enough that both are negative. Questions of the form
    A-not-A (能不能) are no negations.
    """
    (a_count, a_failed), (b_count, b_failed) = (_negations(text) for text in (a, b))
    if a_failed or b_failed:
        return (a_count > 0 or a_failed) == (b_count > 0 or b_failed)
    return a_count == b_count


def _negations(text: str) -> tuple[int, bool]:
    """Number of negations, and whether a failure is reported."""
    text = _NOT_NEGATED.sub("·", text)
    return len(_NEGATED.findall(text)), bool(_FAILED.search(text))
