"""The commands in Chinese: what a user with a Chinese locale, or a profile with `language: zh`, reads."""

import re

import pytest

from bgetune import lab, locale, pipeline
from bgetune.scoring import __main__ as score

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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("language: zh\nmodell: x\n", "没有 modell 这个参数"),
        ("language: 'zh'\n  bad: [\n", "不是 YAML"),
        ("# language: en\nseed: some\nlanguage: zh\n", "应为整数"),
    ],
)
@pytest.mark.parametrize("command", [pipeline, lab])
def test_a_profile_that_cannot_be_read_says_so_in_its_language(tmp_path, capsys, text, says, command):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert command.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("\n错误：")
    assert says in said
    assert not SENTENCE.search(said), said


def test_a_chinese_locale_is_enough(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert pipeline.main([str(tmp_path / "nowhere.yaml")]) == 2
    assert "没有这个文件" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        score.main(["--help"])
    assert "已完成的运行所在文件夹" in capsys.readouterr().out


def test_a_command_without_a_profile_speaks_the_language_of_the_locale(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert score.main(["--run", str(tmp_path), str(tmp_path / "nowhere.csv")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("错误：")
    assert not SENTENCE.search(said), said
