"""The same bad inputs as in `test_messages`, read in Chinese: no sentence stays English, and nothing is lost."""

import re
import shutil

import pytest
import test_checks
import test_messages
from config import test_profile, test_reading, test_secrets
from test_checks import made, write  # noqa: F401 (fixtures)
from test_messages import bert  # noqa: F401 (fixture)

from bgetune import new
from bgetune.checks import check
from bgetune.config.profile import load_profile, load_profiles, resolve
from bgetune.config.sources import PairSource
from bgetune.data import sources
from bgetune.errors import InputError, InternalError, explain
from bgetune.locale import using
from bgetune.models.check import check_model

SAID_BY_OTHERS = re.compile(r"（[^（）]*）|'[^']*'|\"[^\"]*\"|[^\s：；，（）]*/[^\s：；，（）]*")
"""What is not ours to translate: values, paths, and what a database or a library says."""
ENGLISH = re.compile(r"[A-Za-z']+(?: [A-Za-z']+){3}")


def both(action) -> tuple[str, str]:
    """What an action refuses bad input with, in English and in Chinese."""
    told = []
    for language in ("en", "zh"):
        with using(language), pytest.raises(InputError) as error:
            action()
        told.append(str(error.value))
    return told[0], told[1]


def assert_chinese(english: str, chinese: str) -> None:
    assert len(english.splitlines()) == len(chinese.splitlines())
    assert "Traceback" not in chinese
    assert not re.search(r"(?<!\$){\w*}", chinese), f"not filled in: {chinese}"
    for line in chinese.splitlines():
        assert re.search("[\u4e00-\u9fff]", line), line
        assert not ENGLISH.search(SAID_BY_OTHERS.sub("", line)), line
    for value in re.findall(r"\d+|\w+\.(?:csv|jsonl|yaml|xlsx|sqlite|parquet)\b|\w+_\w+", english):
        assert value in chinese, f"{value} is lost: {chinese}"


@pytest.mark.parametrize("text", [text for text, *_ in [*test_reading.ODD_YAML, *test_secrets.TYPED]])
def test_profiles(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    assert_chinese(*both(lambda: load_profile(file)))


@pytest.mark.parametrize(("text", "overrides"), [(text, overrides) for text, overrides, _ in test_profile.BAD])
def test_profiles_with_a_wrong_value(tmp_path, text, overrides):
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    assert_chinese(*both(lambda: load_profiles(file, overrides)))


@pytest.mark.parametrize("override", test_reading.ODD_OVERRIDES)
def test_overrides(tmp_path, override):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\n", "utf-8")
    assert_chinese(*both(lambda: load_profile(file, [override])))


@pytest.mark.parametrize("name", test_checks.BAD)
def test_profiles_that_could_not_run(write, name):  # noqa: F811
    assert_chinese(*both(lambda: test_checks.check(write(test_checks.BAD[name][0]))))


def test_a_profile_says_the_language_of_what_is_found_in_it(write):  # noqa: F811
    """Also the lines of a profile that was read before its language was known."""
    with using("en"):
        profiles = load_profiles(write({"language": "zh", "01_positives": {"sources": {}}, "04_train.guide": "a/b"}))
    with using("zh"), pytest.raises(InputError, match=r"mine\.yaml 第 \d+ 行：01_positives\.sources：没有数据源；"):
        check(profiles)


@pytest.mark.parametrize("changes", test_checks.ODD)
def test_warnings(write, changes):  # noqa: F811
    file, told = write(changes), []
    for language in ("en", "zh"):
        with using(language):
            told.append("\n".join(test_checks.check(file)))
    assert_chinese(*told)


def test_old_names(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("04_train: {compare: batch}\n", "utf-8")
    with (
        using("zh"),
        pytest.warns(FutureWarning, match="04_train.compare 现在叫 04_train.loss_scope；.*batch 改为 across"),
    ):
        load_profile(file)


@pytest.mark.parametrize(("stage", "arguments"), test_messages.ARGUMENTS)
def test_arguments_of_notebooks(stage, arguments, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: a/b\n", "utf-8")
    profile = load_profile(tmp_path / "mine.yaml")
    assert_chinese(*both(lambda: resolve(stage, profile, arguments)))


@pytest.mark.parametrize("name", test_messages.FILES)
def test_files(tmp_path, name):
    test_messages.make_files(tmp_path)
    assert_chinese(*both(lambda: test_messages.FILES[name](tmp_path)))


@pytest.mark.parametrize("name", test_messages.MODELS)
def test_models(bert, tmp_path, monkeypatch, name):  # noqa: F811
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(bert, tmp_path / "bert")
    test_messages.MODELS[name](folder)
    assert_chinese(*both(lambda: check_model(folder, "model", "encoder")))


def test_reasons_of_rows_that_are_not_used(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text_a,text_b,label\na,,1\nb,c,maybe\n", "utf-8")
    source = PairSource(path=str(file), label_column="label")
    with using("zh"), pytest.raises(InputError) as error:
        sources.read_pairs(source)
    assert "没有一行可用（标签不是数字：1 行，例如 'b,c,maybe'；没有文本：1 行，例如 'a,,1'）" in str(error.value)


def test_the_file_system_and_faults_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as error:
        (tmp_path / "file" / "below").mkdir()
    with using("zh"):
        assert explain(error.value) == (2, f"{tmp_path}/file/below：应为文件夹的地方有个文件；请移走")
        assert str(InternalError("KeyError: 'x'")).startswith("KeyError: 'x'。这是 bgetune 的错误")


def test_a_first_profile(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(new, "ROOT", tmp_path)
    with using("zh"):
        assert new.main(["shop", str(tmp_path / "nowhere.csv")]) == 2
        assert "没有这个文件或文件夹" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            new.main(["--help"])
    assert "不会向外发送任何数据" in capsys.readouterr().out
