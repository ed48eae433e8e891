"""The short form of kill_runs.py: kills at the moments that matter, and what the next run makes of them."""

import multiprocessing
import os
import signal
import time

import faiss
import pytest
from faults import kill_runs
from negatives.conftest import Known
from repository import CELLS, STAGE, make_notebook

from bgetune import pipeline
from bgetune.graph import recall
from bgetune.negatives import groups, mining
from bgetune.negatives.rules import Rules, Search
from bgetune.reports import pages


@pytest.fixture
def repository(one_stage):
    """The notebook waits, after it has written its artifact, as long as there is a file `hold`."""
    hold = f"import os, time\nwhile os.path.exists('{one_stage}/hold'):\n    time.sleep(0.05)"
    make_notebook(one_stage, *CELLS[:3], hold, *CELLS[3:])
    (one_stage / "whole.yaml").write_text("model: any\nseed: 5\nname: one\n")
    return one_stage


def run(repository):
    return pipeline.main([str(repository / "whole.yaml")])


def killed(repository, until):
    """Run in a process of its own that is killed as soon as `until` holds; it may kill itself before."""
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(run(repository)))
    process.start()
    while process.is_alive() and not until():
        time.sleep(0.02)
    process.kill()
    process.join()
    return process.exitcode


def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(repository, monkeypatch, capsys):
    run_dir = repository / "runs/one"
    assert run(repository) == 0
    whole = kill_runs.contents(run_dir)
    assert {f"{STAGE}.html", "index.html", f"{STAGE}/made.txt", "manifest.json"} <= whole.keys()
    run_dir.rename(repository / "unbroken")

    # in a cell, between an artifact and the stage's record
    (repository / "hold").touch()
    assert killed(repository, (run_dir / STAGE / "made.txt").exists) == -signal.SIGKILL
    assert list(run_dir.rglob(".*.part")), "the executed notebook was being written"
    assert not (run_dir / "notebooks" / f"{STAGE}.ipynb").exists()
    (repository / "hold").unlink()
    # between the stage's record and its pages
    with monkeypatch.context() as patch:
        patch.setattr(pages.report, "write_report", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert killed(repository, lambda: False) == -signal.SIGKILL
    assert (run_dir / "manifest.json").exists()
    assert not (run_dir / f"{STAGE}.html").exists()

    capsys.readouterr()
    assert run(repository) == 0
    assert "up to date" in capsys.readouterr().out, "the notebook was done"
    assert kill_runs.differences(whole, kill_runs.contents(run_dir)) == []
    assert not list(run_dir.rglob(".*.part"))


# --- search and mining ----------------------------------------------------------------------------------------------


def search_and_mine(folder, cache, dies_at):
    """What 01 and 03 do between encoding and artifacts, by indexes on disk and in blocks; killed if told so."""

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def half(made, file):
        write(made, file)
        os.truncate(file, os.path.getsize(file) // 2)
        die()

    faiss.omp_set_num_threads(1)  # the threads of the process that this one was forked from are not here
    os.environ["BGETUNE_CACHE"] = str(cache)
    mining.CANDIDATES_AT_ONCE = 60 * 60
    write = faiss.write_index
    if dies_at == "index":
        faiss.write_index = half
    elif isinstance(dies_at, int):  # after so many blocks
        count, done = mining._count, iter([*[False] * (dies_at - 1), True])
        mining._count = lambda pairs: die() if next(done) else count(pairs)
    elif dies_at == "artifact":
        groups.rejected_candidates = die
    world = Known()
    by_lists = {"index": "IVF8,Flat", "search_params": {"nprobe": 4}}
    ids, texts = world.corpus.id, world.corpus.text
    proposed = recall.propose(ids, world.encoder.encode(texts), neighbors=10, similarity=0.9, **by_lists)
    proposed.to_parquet(folder / "proposed.parquet")
    mined = mining.mine(world.corpus, world.encoder, rules=Rules(rank_max=60), search=Search(**by_lists))
    groups.write_jsonl(groups.training_groups(world.corpus, mined, max_positives=10), folder / "train.jsonl")
    groups.rejected_candidates(world.corpus, mined).to_parquet(folder / "rejected.parquet")
    os._exit(0)


def test_search_and_mining_that_were_killed_end_with_the_bytes_of_those_that_were_not(tmp_path):
    def run(folder, cache, dies_at=None):
        folder.mkdir(exist_ok=True)
        process = multiprocessing.get_context("fork").Process(target=search_and_mine, args=(folder, cache, dies_at))
        process.start()
        process.join()
        return process.exitcode

    assert run(tmp_path / "whole", tmp_path / "cold") == 0
    whole = kill_runs.contents(tmp_path / "whole")
    assert whole.keys() == {"proposed.parquet", "train.jsonl", "rejected.parquet"}
    indexes = kill_runs.contents(tmp_path / "cold")
    for dies_at in ("index", 1, 2, 3, "artifact"):
        assert run(tmp_path / "broken", tmp_path / "cache", dies_at) == -signal.SIGKILL
    assert run(tmp_path / "broken", tmp_path / "cache") == 0
    assert kill_runs.differences(whole, kill_runs.contents(tmp_path / "broken")) == []
    assert kill_runs.differences(indexes, kill_runs.contents(tmp_path / "cache")) == [], "half an index is left"
