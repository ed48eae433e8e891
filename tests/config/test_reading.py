"""YAML as people write it by mistake, or with ill will: one line that says where, and soon."""

import os
import time

import pytest

from bgetune.config.profile import load_profile, load_profiles
from bgetune.errors import InputError

LAUGHS = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]"] + [
    f"{new}: &{new} [{', '.join(['*' + old] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
])  # fmt: skip
MERGES = "\n".join(["a: &a {x: 1}"] + [
    f"{new}: &{new} {{<<: [{', '.join(['*' + old] * 10)}]}}" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
])  # fmt: skip


ODD_YAML = [
    (LAUGHS, r"mine.yaml: more than 20,000 values, aliases \(\*name\) counted"),
    (MERGES, "more than 20,000 values"),
    ("a: &a [*a]\n", "deeper than 20 in one another"),
    ("a: &a {b: *a}\n", "deeper than 20 in one another"),
    ("seed: " + "[" * 5000, "deeper than 20 in one another"),
    ("seed: " + "[" * 30 + "]" * 30, "line 1: lists and mappings deeper than 20"),
    ("seed: " + "x" * 2_000_000, "2,000,006 bytes; a profile has at most 1,048,576"),
    ("seed:\n\t- 1\n", r"line 2: not YAML: found character '\\t'.*indent with blanks, not tabs"),
    ("seed: !!int abc\n", "line 1: not YAML: no int"),
    ("x: 1\nseed: !!timestamp 2026-13-45\n", "line 2: not YAML: no timestamp"),
    ("seed: !!python/object:os.system x\n", "line 1: not YAML: could not determine a constructor"),
    ("? [a, b]\n: 1\n", "line 1: not YAML: found unhashable key|line 1: a key is a text"),
    ("seed: *a\n", "line 1: not YAML: found undefined alias"),
    ("seed: 1\n---\nseed: 2\n", "line 2: not YAML: but found another document"),
    ("model: 'a: b\n", "not YAML"),
    ("model: a: b\n", "line 1: not YAML: mapping values are not allowed here; put texts with : # { \\[ in quotes"),
    ("seed: {a: 1, a: 2}\n", "line 1: a is given twice"),
    ('model: "a\\0b"\n', "line 1: a NUL or half a character in a text"),
    ('name: "\\uD800"\n', "line 1: a NUL or half a character in a text"),
    ("model: \0\n", "not YAML: unacceptable character #x0000"),
    ("3: 4\n", "3: a key is a name, such as 04_train"),
    ("text\n", "a profile is a mapping of parameters"),
    ("name: 2026-13-45\nsede: 1\n", "unknown key sede"),  # a date is a text
]


@pytest.mark.parametrize(("text", "message"), ODD_YAML)
def test_odd_yaml_is_one_line_and_soon(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError, match=message) as error:
        load_profile(file)
    assert "\n" not in str(error.value)
    assert time.process_time() - begun < 5


def test_a_date_stays_the_text_that_it_is(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: 2026-01-05\n", encoding="utf-8")
    assert load_profile(file).name == "2026-01-05"


def test_a_profile_that_is_no_file_that_can_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    with pytest.raises(InputError, match=r"latin.yaml: not UTF-8 .* save it as UTF-8"):
        load_profile(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="a folder; give a file in it"):
        load_profile(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_profile("a\0b.yaml")
    with pytest.raises(InputError, match="no such file") as error:
        load_profile("x" * 5000)
    assert len(str(error.value)) < 300


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_a_profile_that_may_not_be_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    (tmp_path / "mine.yaml").chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        load_profile(tmp_path / "mine.yaml")


ODD_NAMES = [
    "..",
    "...",
    ".hidden",
    "a/../b",
    "/tmp/x",
    "a//b",
    "x" * 201,
    "中" * 80,
    '"a\\tb"',
    "'a '",
    "'a:b'",
    "'a|b'",
    "' '",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_is_no_folder(tmp_path, name):
    file = tmp_path / "mine.yaml"
    file.write_text(f"seed: 1\nname: {name}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.yaml, line 2: name ") as error:
        load_profile(file)
    assert len(str(error.value)) < len(str(file)) + 200


ODD_OVERRIDES = [
    *("", "=", "=1", "seed", ".=1", "a..b=1", ".seed=1", "seed.=1", " =1", "seed=[", "seed=*a", "seed=!!int x"),
    *("seed=2026-13-45", "seed=" + "[" * 3000, "04_train.epochs.x=1", "01_positives.sources.qa.0.path=x", "a b=1"),
    *('model="\\0"', "base=x", "seed=1\n2", "study=3", "study.x=1", "name=../up"),
]


@pytest.mark.parametrize("override", ODD_OVERRIDES)
def test_an_odd_override_is_one_line(tmp_path, override):
    file = tmp_path / "mine.yaml"
    file.write_text("01_positives: {sources: {qa: [{path: a.csv}]}}\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_profile(file, [override])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_study_of_too_many_runs(tmp_path):
    file = tmp_path / "mine.yaml"
    values = ", ".join(map(str, range(1, 448)))
    file.write_text(f"study:\n  seed: [{values}]\n  04_train.epochs: [{values}]\n", encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError, match=r"line 2: study: 199,809 runs \(447 x 447 values\), 1,000 is the most"):
        load_profiles(file)
    assert time.process_time() - begun < 2


def test_long_values_make_names_that_a_folder_can_have(tmp_path):
    file = tmp_path / "mine.yaml"
    lists = "\n".join(f"  {key}: [{'a' * 60}{key[-1]}, {'b' * 60}{key[-1]}]" for key in ("model", "query_instruction"))
    file.write_text(f"study:\n{lists}\n  02_backtranslate.truth: [{'c' * 60}, {'d' * 60}]\n", encoding="utf-8")
    names = [profile.name for profile in load_profiles(file)]
    assert len(set(names)) == 8
    assert max(map(len, names)) < 190
