import sqlite3
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from bgetune.augment.memo import Memo, key


def test_what_was_added_is_found_by_another_process(tmp_path):
    file = tmp_path / "cache" / "memo.sqlite"
    Memo(file).add({"a": "甲", "b": ["乙", "丙"]})
    script = (
        f"from pathlib import Path; from bgetune.augment.memo import Memo; print(Memo(Path({str(file)!r})).find('abc'))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "{'a': '甲', 'b': ['乙', '丙']}"


def test_more_keys_than_one_statement_takes(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite")
    memo.add({str(i): i for i in range(2500)})
    assert memo.find(str(i) for i in range(-10, 3000)) == {str(i): i for i in range(2500)}


def test_threads_share_it(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: memo.add({f"{i}/{j}": j for j in range(20)}), range(40)))
    assert len(memo.find(f"{i}/{j}" for i in range(40) for j in range(20))) == 800


def test_an_addition_is_whole_or_absent(tmp_path):
    memo = Memo(tmp_path / "memo.sqlite")
    with pytest.raises(TypeError):
        memo.add({"a": 1, "b": object()})
    assert memo.find(["a", "b"]) == {}


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("damage", ["text", "truncated", "middle", "end"])
def test_a_damaged_file_is_a_miss(tmp_path, damage, opened):
    file = tmp_path / "memo.sqlite"
    values = {key(str(number)): [f"翻译{number}"] * 20 for number in range(500)}
    memo = Memo(file)
    memo.add(values)
    data = file.read_bytes()
    half = len(data) // 2
    file.write_bytes(
        {
            "text": b"hello, this is a text file and surely no database\n" * 50,
            "truncated": data[:half],
            "middle": data[:half] + b"\xff" * 8192 + data[half + 8192 :],
            "end": data[:-3000] + b"\x00" * 3000,
        }[damage]
    )
    with warnings.catch_warnings(record=True):
        memo = memo if opened else Memo(file)
        found = memo.find(values)
        assert all(values[name] == value for name, value in found.items())
        assert opened or len(found) < len(values)  # SQLite may still have read pages
        memo.add(values)
        assert Memo(file).find(values) == values


def test_an_empty_file_is_begun(tmp_path):
    (tmp_path / "memo.sqlite").touch()
    Memo(tmp_path / "memo.sqlite").add({"a": 1})
    assert Memo(tmp_path / "memo.sqlite").find("a") == {"a": 1}


def test_a_changed_value_is_not_found(tmp_path):
    file = tmp_path / "memo.sqlite"
    Memo(file).add({"a": "甲", "b": "乙"})
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET value = '\"丙\"' WHERE key = 'a'")
    assert Memo(file).find("ab") == {"b": "乙"}


def test_values_are_json_not_pickle(tmp_path):
    file = tmp_path / "memo.sqlite"
    Memo(file).add({"a": ["甲"]})
    assert sqlite3.connect(file).execute("SELECT value FROM answers").fetchall() == [('["甲"]',)]


def test_keys_tell_where_a_part_ends():
    assert key("ab", "c") != key("a", "bc")
