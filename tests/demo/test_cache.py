"""Made once, complete or not at all."""

import os
import signal
import subprocess
import sys
import time

import pytest

import bgetune_demo as demo
from bgetune.errors import InputError
from bgetune_demo import cache, resolve


@pytest.mark.parametrize(
    "location", ["demo://standard/nothing.csv", "demo://huge/clicks.csv", "small/clicks.csv", "demo://small"]
)
def test_an_unknown_location_names_the_choices(location):
    with pytest.raises(InputError, match=r"small.*clicks\.csv.*zh-en"):
        resolve(location)


def test_data_is_made_once_and_without_training(tmp_path, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(tmp_path))
    path = resolve("demo://small/qa.csv", progress=False)
    assert path.is_relative_to(tmp_path / "data" / "demo")
    stamp = path.stat().st_mtime_ns
    assert resolve("demo://small/qa.csv", progress=False) == path
    assert resolve("demo://small/truth.csv", progress=False).parent == path.parent
    assert path.stat().st_mtime_ns == stamp
    assert not (tmp_path / "models").exists()


def test_the_key_changes_with_the_preset_and_the_sources(tmp_path):
    source = tmp_path / "code.py"
    source.write_text("one")
    first = cache.key(demo.SMALL, [source])
    assert first == cache.key(demo.SMALL, [source])
    assert first != cache.key(demo.STANDARD, [source])
    source.write_text("two")
    assert first != cache.key(demo.SMALL, [source])


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(draft):
        (draft / "half").write_text("made")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cache.build(tmp_path / "item", fail)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_killed_build_leaves_nothing_that_looks_made_and_the_next_one_succeeds(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from bgetune_demo import cache\n"
        "def slow(draft):\n"
        "    (draft / 'half').write_text('made'); time.sleep(60)\n"
        "cache.build(Path(sys.argv[1]), slow)\n"
    )
    folder = tmp_path / "item"
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".*/half")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".*/half"))
    assert not folder.exists()
    cache.build(folder, lambda draft: (draft / "whole").write_text("made"))
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert not list(tmp_path.glob(".*/half"))


def test_importing_the_demo_and_making_data_needs_no_torch(tmp_path):
    script = (
        "import sys; from bgetune_demo import resolve; resolve('demo://small/clicks.csv', progress=False)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "BGETUNE_CACHE": str(tmp_path)})
