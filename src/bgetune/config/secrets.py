"""Keys and passwords typed where only their names belong: profiles are copied into runs, manifests and reports."""

from __future__ import annotations

import re

from bgetune.locale import _

KEYS = re.compile(
    r"\bsk-[\w-]*?(?=\w*\d)\w{16,}|\bhf_\w{16,}|\bgh[oprsu]_\w{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abeoprs]-[\w-]{8,}|\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{30,}|\bLTAI\w{12,}|\bAKID\w{13,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:fx\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
"""How the keys of well-known services look: OpenAI and many after it, Hugging Face, GitHub, GitLab, Slack, AWS, Google,
Alibaba Cloud, Tencent Cloud, JSON Web Tokens, DeepL, private keys."""
VALUE = r"(?!\$\{\w+\})[^\s&;,'\"()]+"
"""What follows `password=`, unless it is ${NAME}."""
IN_URL = re.compile(
    rf"[?&;](?:[\w-]*(?:password|passwd|pwd|token|secret|api[_-]?key|access[_-]?key|signature)|key|sig|auth)={VALUE}",
    re.IGNORECASE,
)
IN_TEXT = re.compile(
    rf"\b(?:password|passwd|pwd|api[_-]?key|access[_-]?key)\s*=\s*['\"]?{VALUE}"
    rf"|\b(?:password|secret|identified\s+by)\s+'(?!\$\{{)[^']+'",
    re.IGNORECASE,
)
USER = re.compile(r"\w+://[^/?#\s]*(?::(?!\$\{\w+\}@)[^?#\s]*@)|https?://(?!\$\{\w+\}(?::\$\{\w+\})?@)[^/?#\s]*@")
"""A URL with a password (`//user:password@`, which may hold slashes), or for the web with any name before the host."""


def find_secret(text: str) -> str | None:
    """What in a text looks like a secret, in words; None if nothing does. `${NAME}` is none."""
    if USER.search(text):
        return _("a password or key in the address (//user:password@)")
    if "://" in text and IN_URL.search(text):
        return _("a password or key in the address (?key=...)")
    if KEYS.search(text):
        return _("a key")
    if IN_TEXT.search(text):
        return _("a password (password=...)")
    return None


def mask_secrets(text: str) -> str:
    """A text for a message: each word that a secret is in becomes ***."""
    if find_secret(text) is None:
        return text
    words = re.split(r"(\s+)", text)
    masked = "".join("***" if find_secret(word) else word for word in words)
    return masked if find_secret(masked) is None else "***"
