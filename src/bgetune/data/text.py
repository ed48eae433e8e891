"""What a text is: its normal form, its id, and the personal data in it that nobody should train on."""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Self

from bgetune.errors import InputError
from bgetune.locale import N_, _

# Control and format characters, variation selectors and lone surrogates: nothing a reader sees. Those that separate
# words (tab, line feed, U+0085, ...) are blanks and stay.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_BLANKS = re.compile(r"\s+")


def normalize(text: str, opencc: str | None = None) -> str:
    """The form of a text that the whole pipeline works on: texts that only look different become one.

    NFKC (full-width becomes ASCII), lower case, invisible characters removed, blanks collapsed and trimmed. A blank
    next to a Chinese character is removed: users put it there at random, and a BERT tokenizer reads the same tokens
    with and without it, so two such texts would be two names of one vector. Idempotent (without `opencc`).

    Args:
        opencc: an OpenCC configuration such as "t2s" (traditional to simplified), or None.

    Raises:
        InputError: if OpenCC is not installed or has no such configuration.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
        if opencc:
            text = _converter(opencc)(text)
        # lower-casing can leave a composable sequence behind
        text = unicodedata.normalize("NFKC", text.lower())
        return _BLANKS.sub(_blank, text).strip()
    return " ".join(_INVISIBLE.sub("", text).lower().split())


def _blank(match: re.Match) -> str:
    text, start, end = match.string, match.start(), match.end()
    beside = (text[start - 1 : start], text[end : end + 1])
    return "" if any(character and _is_han(character) for character in beside) else " "


@cache
def _is_han(character: str) -> bool:
    return re.match(f"[{_HAN}]", character) is not None


@cache
def _converter(configuration: str) -> Callable[[str], str]:
    try:
        import opencc
    except ImportError:
        raise InputError(
            _("opencc: {configuration} needs the OpenCC package: pip install 'bgetune[zh]'").format(
                configuration=configuration
            )
        ) from None
    try:
        return opencc.OpenCC(configuration).convert
    except Exception as error:  # OpenCC raises whatever its C++ side throws
        raise InputError(
            _("opencc: no configuration {configuration!r} ({problem}); try t2s, tw2s or hk2s").format(
                configuration=configuration, problem=error
            )
        ) from None


_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|!--.*?--|![a-zA-Z][^<>]*)>", re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)


def _written_out(text: str) -> tuple[str, int]:
    """A text with the characters that HTML's entities stand for (&amp; &#39; &nbsp;), and how many there were."""
    found = 0
    while matches := len(_ENTITY.findall(text)):
        clear = html.unescape(text)
        if clear == text:  # &word; that is no entity
            break
        text, found = clear, found + matches  # an entity may be escaped itself: &amp;lt;
    return text, found


def text_id(normalized: str) -> str:
    """The id of a normalised text: the first 16 hex digits of the SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(normalized.encode()).hexdigest()[:16]


# --- personal data ------------------------------------------------------------------------------------------------

MASKS = {"email": "<邮箱>", "id_card": "<身份证>", "card": "<银行卡>", "phone": "<电话>"}
"""Kind of personal data -> the token that replaces it, in the order in which they are looked for."""

# a number stands alone: no digit touches it, and it is no part of a decimal fraction
_BEFORE, _AFTER = r"(?<![0-9])(?<![0-9]\.)", r"(?![0-9]|\.[0-9])"
_PATTERNS = {
    "email": re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"),
    "id_card": re.compile(
        rf"{_BEFORE}[1-8][0-9]{{5}}[ -]?(?:(?:19|20)[0-9]{{6}}[ -]?[0-9]{{3}}[0-9Xx](?![A-Za-z])|[0-9]{{9}}){_AFTER}"
    ),
    "card": re.compile(
        rf"{_BEFORE}[2-69][0-9]{{3}}(?:[ -]?[0-9]{{4}}){{2}}[ -]?[0-9]{{3,4}}(?:[ -]?[0-9]{{1,3}})?{_AFTER}"
    ),
    "phone": re.compile(
        rf"{_BEFORE}(?:"
        r"(?:(?:\+|00)?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}"
        r"|\(?0(?:10|2[0-9])\)?[ -]?[2-9][0-9]{3}[ -]?[0-9]{4}"
        r"|\(?0[3-9][0-9]{2}\)?[ -]?[2-9][0-9]{2,3}[ -]?[0-9]{4}"
        rf"){_AFTER}"
    ),
}
_SUSPECT = re.compile(r"@|[0-9](?:[ ()-]{0,2}[0-9]){10}")
_ANY_MASK = re.compile("|".join(map(re.escape, MASKS.values())))


def mask_personal_data(text: str, kinds: Collection[str] = tuple(MASKS)) -> tuple[str, Counter[str]]:
    """A normalised text with its personal data replaced by readable tokens, and how many of each kind there were.

    Numbers are only taken for what they prove to be: identity numbers by region, date of birth and check digit
    (GB 11643; 15 digits by region and date), bank cards by issuer range, length and Luhn's check digit, phone numbers
    by Chinese mobile and area codes. Order numbers, amounts, dates and service hotlines stay. Idempotent.

    Args:
        text: in NFKC form (see `normalize`): full-width digits are not looked for.
        kinds: of `MASKS`; empty for none.

    Returns:
        The masked text and a counter by kind.
    """
    found: Counter[str] = Counter()
    if not _SUSPECT.search(text):
        return text, found
    for kind, token in MASKS.items():
        if kind in kinds:
            proof = _PROOFS.get(kind)
            masked = []
            end = 0
            for match in _PATTERNS[kind].finditer(text):
                if proof is None or proof(re.sub("[^0-9Xx]", "", match[0])):
                    masked += [text[end : match.start()], token]
                    end = match.end()
                    found[kind] += 1
            if masked:
                text = "".join(masked) + text[end:]
    return text, found


ENTITIES = N_("HTML entity")
"""What `Normalizer.masked` counts beside the kinds of personal data: &amp; and the like, written out."""


@dataclass(frozen=True)
class Normalizer:
    """The one form that a run brings its texts into, chosen by 01_positives and kept with its artifacts.

    Attributes:
        mask: kinds of personal data that are masked (`MASKS`).
        opencc: see `normalize`.
        strip_markup: whether HTML's tags are left out.
    """

    mask: tuple[str, ...] = tuple(MASKS)
    opencc: str | None = None
    strip_markup: bool = False

    def __call__(self, text: str) -> str:
        """The text in that form. Idempotent (without `opencc`)."""
        return self.masked(text)[0]

    def masked(self, text: str) -> tuple[str, Counter[str]]:
        """The text in that form, and how often each kind of personal data was masked.

        HTML's entities are written out, always: counted as `ENTITIES`.
        """
        form, entities = normalize(text, self.opencc), 0
        while "&" in form:  # again, since what is written out may be full-width
            clear, found = _written_out(form)
            if not found:
                break
            form, entities = normalize(clear, self.opencc), entities + found
        if self.strip_markup and "<" in form:
            form = normalize(_TAG.sub(" ", _UNSEEN.sub(" ", form)), self.opencc)
        form, masked = mask_personal_data(form, self.mask)
        if entities:
            masked[ENTITIES] += entities
        return form, masked

    def text_id(self, text: str) -> str:
        """The id of the text in that form."""
        return text_id(self(text))

    def write(self, file: Path) -> None:
        """Write the choices as JSON."""
        file.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """What `write` wrote."""
        chosen = json.loads(file.read_text(encoding="utf-8"))
        return cls.of(chosen)

    @classmethod
    def of(cls, chosen: Mapping[str, Any]) -> Self:
        """The normaliser of what `asdict` made of one, now or before there was `strip_markup`."""
        return cls(tuple(chosen["mask"]), chosen["opencc"], chosen.get("strip_markup", False))


STANDARD = Normalizer()
"""All kinds of personal data masked, no conversion of characters."""


_PROVINCES = frozenset(
    (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82)
)


def _is_identity_number(digits: str) -> bool:
    """GB 11643-1999 (18 characters, ISO 7064 mod 11-2) or its predecessor (15 digits, no check digit)."""
    if int(digits[:2]) not in _PROVINCES:
        return False
    born = digits[6:14] if len(digits) == 18 else "19" + digits[6:12]
    try:
        date(int(born[:4]), int(born[4:6]), int(born[6:]))
    except ValueError:
        return False
    if len(digits) == 15:
        return True
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    rest = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False)) % 11
    return digits[17].upper() == "10X98765432"[rest]


# issuer ranges and their lengths: without them one order number in ten would pass Luhn's check
_ISSUERS = re.compile(r"62[0-9]{14,17}|9558[0-9]{15}|4[0-9]{15}|(?:5[1-5]|2[2-7])[0-9]{14}|35[0-9]{14}|3[47][0-9]{13}")


def _is_card_number(digits: str) -> bool:
    """UnionPay, ICBC's older cards, Visa, Mastercard, JCB, American Express, with Luhn's check digit."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return bool(_ISSUERS.fullmatch(digits)) and (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


_PROOFS = {"id_card": _is_identity_number, "card": _is_card_number}


# --- junk ---------------------------------------------------------------------------------------------------------

_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://\S*|www\.\S+"
    r"|(?:[a-z0-9-]+\.)+(?:com|cn|net|org|gov|edu|cc|tv|info|biz|io|me|co|hk|tw|top|xyz|vip|html?)(?:[:/?]\S*)?",
    re.IGNORECASE,
)


def junk_reason(text: str) -> str | None:
    """Why a normalised text says nothing that could be matched, or None if it may.

    Returns:
        "empty", "personal data only", "URL", "single character", "numbers only", "no letters", or None.
    """
    if not text:
        return "empty"
    if _URL.fullmatch(text):
        return "URL"
    rest = _ANY_MASK.sub("", text) if "<" in text else text
    if any(character.isalpha() for character in rest):
        return "single character" if len(text) == 1 else None
    if rest != text:
        return "personal data only"
    if len(text) == 1:
        return "single character"
    return "numbers only" if any(character.isnumeric() for character in text) else "no letters"
