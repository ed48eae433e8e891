"""The commands in Chinese: what a user with a Chinese locale, or a profile with `language: zh`, reads."""

import re

import pytest

from bgetune import locale, pipeline

SENTENCE = re.compile(r"\b(the|is|there|give|such|with|and)\b")
"""Words that no English message of ours lacks, and no name of a parameter has."""


@pytest.fixture(autouse=True)
def back():
    yield
    locale.use(None)


def test_a_profile_in_chinese_says_in_chinese_what_is_wrong(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    (tmp_path / "pairs.csv").write_text("text_a,text_b\n手机壳,手机保护壳\n")
    file.write_text(
        f"language: zh\nmodel: {tmp_path}/nowhere\n"
        f"01_positives:\n  sources: {{pairs: [{{path: {tmp_path}/pairs.csv}}]}}\n"
    )
    assert pipeline.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert "没有模型" in said
    assert f"{tmp_path}/nowhere" in said
    assert not SENTENCE.search(said), said
