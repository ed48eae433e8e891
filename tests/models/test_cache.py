import errno
import os
import warnings

import numpy as np
import pytest

from bgetune.errors import InputError
from bgetune.models import cache
from bgetune.models.cache import RowCache, cached_rows, content_key, content_keys, new_rows


def test_finds_what_was_added(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    keys = content_keys("", "abcdefg")
    RowCache(tmp_path).add(keys[:4], rows[:4])
    RowCache(tmp_path).add(keys[4:6], rows[4:6])
    got, found = RowCache(tmp_path).find(keys[::-1])
    assert found.tolist() == [False] + [True] * 6
    np.testing.assert_array_equal(got[found], rows[::-1][1:])


def test_empty_cache(tmp_path):
    rows, found = RowCache(tmp_path / "none").find(content_keys("", "ab"))
    assert rows is None
    assert not found.any()


@pytest.mark.parametrize("asked", [1, 5, 60])
def test_finds_few_among_many_and_many_among_few(asked, tmp_path):
    keys = content_keys("", map(str, range(60)))
    rows = np.arange(60, dtype=np.float32)[:, None]
    for start in range(0, 40, 10):
        RowCache(tmp_path).add(keys[start : start + 10], rows[start : start + 10])
    chosen = np.random.default_rng(0).permutation(60)[:asked]
    got, found = RowCache(tmp_path).find(keys[chosen])
    np.testing.assert_array_equal(found, chosen < 40)
    assert not found.any() or (got[found, 0] == chosen[found]).all()
    assert not RowCache(tmp_path).find(keys[:0])[1].size


def test_more_shards_than_files_that_a_process_may_open(tmp_path):
    """A file too many was taken for damage, and the shard was removed."""
    resource = pytest.importorskip("resource")
    keys, rows = content_keys("", map(str, range(60))), np.ones((60, 2), np.float32)
    written = RowCache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 20, hard))
    try:
        for number in range(60):
            written.add(keys[number : number + 1], rows[:1])
        for cache in (written, RowCache(tmp_path)):
            got, found = cache.find(keys)
            assert found.all()
            np.testing.assert_array_equal(got, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_rows_without_their_keys_are_not_there(tmp_path):
    """A process killed between the two files of a shard."""
    keys = content_keys("", "ab")
    RowCache(tmp_path).add(keys, np.ones((2, 3), np.float32))
    next(tmp_path.glob("*.keys.npy")).unlink()
    (tmp_path / ".x.keys.npy.1.part").write_bytes(b"half")
    assert not RowCache(tmp_path).find(keys)[1].any()


def test_sees_what_another_process_wrote_meanwhile(tmp_path):
    keys = content_keys("", "ab")
    cache = RowCache(tmp_path)
    cache.find(keys)
    RowCache(tmp_path).add(keys, np.ones((2, 3), np.float32))
    assert cache.find(keys)[1].all()


def test_keys_differ_where_any_part_differs():
    assert len({content_key("a", "b"), content_key("b", "a"), content_key("ab"), content_key("a", "b", "")}) == 4


def damages(file):
    """The file's bytes, damaged in every way that was met."""
    data = file.read_bytes()
    return {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "header": data[:20],
        "text": b"no numpy file",
        "zeros": b"\0" * len(data),
        "flipped": data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    }


@pytest.mark.parametrize("part", ["keys", "rows"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "header", "text", "zeros", "flipped", "other"])
def test_a_damaged_shard_is_a_miss(tmp_path, part, damage):
    keys = content_keys("", "abcdefg")
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    RowCache(tmp_path).add(keys[:4], rows[:4])
    (file,) = tmp_path.glob(f"*.{part}.npy")
    RowCache(tmp_path).add(keys[4:], rows[4:])
    if damage == "other":  # a whole file of something else
        np.save(file, np.arange(4))
    else:
        file.write_bytes(damages(file)[damage])
    cache = RowCache(tmp_path)
    with pytest.warns(UserWarning, match=f"{tmp_path}.*damaged file of the cache"):
        got, found = cache.find(keys)
    assert found.tolist() == [False] * 4 + [True] * 3
    np.testing.assert_array_equal(got[4:], rows[4:])
    cache.add(keys[:4], rows[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        for healed in (cache, RowCache(tmp_path)):
            np.testing.assert_array_equal(healed.find(keys)[0], rows)


def test_rows_that_are_missing_are_a_miss(tmp_path):
    keys = content_keys("", "ab")
    RowCache(tmp_path).add(keys, np.ones((2, 3), np.float32))
    next(tmp_path.glob("*.rows.npy")).unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert not RowCache(tmp_path).find(keys)[1].any()


# --- large arrays ---------------------------------------------------------------------------------------------------


def test_large_rows_lie_in_a_file_that_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "MAPPED", 0)
    rows = new_rows(1000, 3)
    rows[:] = np.arange(3000).reshape(1000, 3)
    mapped = rows
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert rows.sum() == np.arange(3000).sum()
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


@pytest.mark.parametrize("known", [0, 3, 5])
def test_cached_rows_are_the_same_in_memory_and_mapped(tmp_path, monkeypatch, known):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    vectors = {letter: np.random.default_rng(ord(letter)).normal(size=4).astype(np.float32) for letter in "abcde"}

    def rows(items):
        return cached_rows(
            items,
            lambda some, _bar: np.array([vectors[item] for item in some]),
            cache=RowCache(tmp_path / "rows"),
            keys=lambda some: content_keys("", some),
            block=2,
            label="",
            unit="",
            progress=False,
        )

    if known:
        rows("abcde"[:known])
    for size in (1 << 30, 0):
        monkeypatch.setattr(cache, "MAPPED", size)
        for items in ("abcde", "ebabd"):
            np.testing.assert_array_equal(rows(items), [vectors[item] for item in items])


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "MAPPED", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"no room for 12 MiB of vectors \(No space left on device\).*BGETUNE_CACHE"):
        new_rows(3 << 20, 1)
