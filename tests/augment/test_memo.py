import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bgetune.augment.memo import Memo, key
from bgetune.errors import InputError


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


def test_a_file_that_is_no_database_is_named(tmp_path):
    file = tmp_path / "memo.sqlite"
    file.write_text("hello, this is a text file and surely no database\n" * 50)
    with pytest.raises(InputError, match=r"memo\.sqlite"):
        Memo(file)


def test_values_are_json_not_pickle(tmp_path):
    file = tmp_path / "memo.sqlite"
    Memo(file).add({"a": ["甲"]})
    assert sqlite3.connect(file).execute("SELECT value FROM memo").fetchall() == [('["甲"]',)]


def test_keys_tell_where_a_part_ends():
    assert key("ab", "c") != key("a", "bc")
