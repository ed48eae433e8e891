"""Keys and passwords in a profile are refused, and shown in no message."""

import re

import pytest

from bgetune.config.profile import load_profile
from bgetune.config.secrets import find_secret, mask_secrets
from bgetune.errors import InputError

SOURCE = "01_positives: {sources: {qa: [{%s}]}}\n"
GENERATION = "02_backtranslate: {generation: {%s}}\n"
TYPED = [
    (SOURCE % "url: 'postgres://me:hun/ter2@x@db.example.com/s', table: t", "qa.0.url", "hun"),
    (SOURCE % "url: 'postgres://me@db/s?password=hunter2', table: t", "qa.0.url", "hunter2"),
    (SOURCE % "url: 'mysql://db/s?user=me&pwd=hunter2', table: t", "qa.0.url", "hunter2"),
    (
        SOURCE % "url: duckdb://, query: \"SELECT * FROM postgres_scan('host=x password=hunter2', 't')\"",
        "query",
        "hunter2",
    ),
    (SOURCE % "url: duckdb://, query: \"CREATE SECRET s (TYPE s3, SECRET 'hunter2')\"", "qa.0.query", "hunter2"),
    (SOURCE % "path: 'https://me:hunter2@host/a.csv'", "qa.0.path", "hunter2"),
    (GENERATION % "base_url: 'https://me:hunter2@host/v1', model: m", "generation.base_url", "hunter2"),
    (GENERATION % "base_url: 'https://hunter2@host/v1', model: m", "generation.base_url", "hunter2"),
    (GENERATION % "base_url: 'https://host/v1?api_key=hunter2', model: m", "generation.base_url", "hunter2"),
    (GENERATION % "base_url: 'https://host/v1?x=1&access-token=hunter2', model: m", "generation.base_url", "hunter2"),
    (GENERATION % "key_variable: sk-Hunter2Hunter2Hunter2", "generation.key_variable", "unter2"),
    (GENERATION % "key_variable: 0123hunter2456789abcdef", "generation.key_variable", "hunter2"),
    (GENERATION % "key_variable: [sk-Hunter2Hunter2Hunter2]", "generation.key_variable", "unter2"),
    (GENERATION % "model: sk-proj-abc_Hunter2Hunter2Hunter2", "generation.model", "unter2"),
    (GENERATION % "sk-Hunter2Hunter2Hunter2: x", r"\*\*\*", "unter2"),
    ("02_backtranslate: sk-Hunter2Hunter2Hunter2\n", "02_backtranslate", "unter2"),
    ("model: hf_hunter2Hunter2Hunter2Hunter2\n", "model", "unter2"),
    ("04_train: {push_to_hub: ghp_hunter2Hunter2Hunter2Hunter2}\n", "push_to_hub", "unter2"),
    ("study: {model: [a/b, hf_hunter2Hunter2Hunter2Hunter2]}\n", "study", "unter2"),
    ("02_backtranslate: {gate: {terms: [AKIAHUNTER2HUNTER2AB]}}\n", "gate.terms", "HUNTER2"),
]


@pytest.mark.parametrize(("text", "key", "secret"), TYPED)
def test_a_secret_in_a_profile_is_refused_and_not_shown(tmp_path, text, key, secret):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"line 1.*{key}") as error:
        load_profile(file)
    assert secret not in str(error.value)
    assert re.search(r"environment|unknown key|valid", str(error.value))


@pytest.mark.parametrize(
    "override", ["02_backtranslate.generation.key_variable=sk-Hunter2Hunter2Hunter2", "x y=sk-Hunter2Hunter2Hunter2"]
)
def test_a_secret_in_an_override_is_not_shown(tmp_path, override):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_profile(file, [override])
    assert "unter2" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgres://reader:${PGPASSWORD}@db.example.com:5432/search",
        "postgres://${USER}:${PGPASSWORD}@db.example.com/search?sslmode=require",
        "postgres://reader@db.example.com/search?password=${PW}",
        "sqlite:////data/a:b@c.sqlite",
        "http://localhost:5000",
        "https://api.example.com/v1",
        "SELECT * FROM searches WHERE day >= '2026-01-01' AND token = 'x' AND query <> 'password'",
        "SELECT q AS text_a FROM 'data/123e4567-e89b-12d3-a456-426614174000/q.csv'",
        "为这个句子生成表示以用于检索相关文章：",
        "models/sk-finetuned-bge-small",
        "OPENAI_API_KEY",
        "忘记密码 password 怎么办",
        "key=value",
    ],
)
def test_what_is_no_secret(text):
    assert find_secret(text) is None
    assert mask_secrets(text) == text


def test_a_secret_in_a_message_is_masked_whole():
    masked = mask_secrets("cannot reach postgres://me:a/b@c@host/db now")
    assert masked == "cannot reach *** now"
    assert "hunter2" not in mask_secrets("x password = hunter2 y")
