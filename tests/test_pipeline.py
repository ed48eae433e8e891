import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from repository import CELLS, STAGE, make_notebook

from bgetune import pipeline, runs
from bgetune.config.profile import load_profile
from bgetune.config.stages import STAGES
from bgetune.errors import InputError
from bgetune.runs import folder, manifest


@pytest.fixture
def repository(one_stage):
    return one_stage


def command(repository, *arguments):
    return pipeline.main([str(repository / "one.yaml"), *arguments])


def test_runs_reports_and_skips(repository, capsys):
    assert command(repository) == 0
    folder = repository / "runs/one"
    assert (folder / STAGE / "made.txt").read_text() == "seed 5"
    html = (folder / f"{STAGE}.html").read_text("utf-8")
    assert "&lt;b&gt;untrusted" in html
    assert "stage.finish" not in html, "reports show no code"
    assert "<script" not in html
    assert STAGE in (folder / "index.html").read_text("utf-8")
    capsys.readouterr()
    assert command(repository) == 0
    output = capsys.readouterr().out
    assert "up to date" in output
    assert "comparison" not in output, "one run is compared with nothing"
    assert not list((repository / "runs").rglob("comparison.html"))

    # pages that are missing or not as written are made again, without running anything
    made = {page.name: page.read_bytes() for page in folder.glob("*.html")}
    (folder / "index.html").unlink()
    (folder / f"{STAGE}.html").write_text("an old page")
    assert command(repository) == 0
    assert "up to date" in capsys.readouterr().out
    assert {page.name: page.read_bytes() for page in folder.glob("*.html")} == made

    # a kill between the stage's record and its executed notebook: the stage is not taken for done
    record = manifest.read_manifest(folder)
    del record["stages"][STAGE]["executed"]
    manifest.write_manifest(folder, record)
    assert command(repository, "--check") == 0
    assert "stopped before its notebook was saved" in capsys.readouterr().out


@pytest.mark.slow
def test_set_reaches_the_notebook_and_reruns(repository, capsys):
    assert command(repository) == 0
    assert command(repository, "--set", "seed=6") == 0
    assert "changed parameters: seed" in capsys.readouterr().out
    assert (repository / "runs/one" / STAGE / "made.txt").read_text() == "seed 6"


@pytest.mark.slow
def test_force_and_from_run_again(repository, capsys):
    assert command(repository) == 0
    assert command(repository, "--force") == 0
    assert command(repository, "--from", "01") == 0
    assert capsys.readouterr().out.count("running (forced)") == 2
    assert command(repository, "--from", "09") == 2
    assert "--from 09: no such notebook" in capsys.readouterr().err


def test_bad_input_in_a_notebook_is_one_message(repository, capsys):
    make_notebook(repository, "from bgetune.errors import InputError\nraise InputError('log.csv: empty; give more')")
    assert command(repository) == 2
    error = capsys.readouterr().err
    assert "error: log.csv: empty; give more" in error
    assert "cell 2" in error
    assert "Traceback" not in error
    executed = nbformat.read(repository / "runs/one/notebooks" / f"{STAGE}.failed.ipynb", as_version=4)
    assert "InputError" in str(executed.cells), "the executed copy is kept"
    assert not (repository / "runs/one/manifest.json").exists()


def test_failure_in_a_notebook_names_the_cell(repository, capsys):
    make_notebook(repository, "x = 1", "x / 0")
    assert command(repository) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "cell 3" in error


def test_a_bug_in_a_notebook_is_not_called_bad_input(repository, capsys):
    make_notebook(repository, "from bgetune.errors import InternalError\nraise InternalError('table edges: no type')")
    assert command(repository) == 1
    error = capsys.readouterr().err
    assert "error: table edges: no type. This is a bug of bgetune" in error
    assert "please report it" in error
    assert "Traceback" not in error


def test_bad_profile_stops_before_anything_is_written(repository, capsys):
    (repository / "bad.yaml").write_text("sede: 1\n")
    assert pipeline.main([str(repository / "one.yaml"), str(repository / "bad.yaml")]) == 2
    assert "did you mean seed?" in capsys.readouterr().err
    assert not (repository / "runs").exists()


def test_two_profiles_of_one_name_are_refused(repository, capsys):
    assert pipeline.main([str(repository / "one.yaml")] * 2) == 2
    assert "two profiles are named one" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["03", "3", "03_hard_negatives"])
def test_stage_names(number):
    assert pipeline.stage_named("--from", number) == "03_hard_negatives"


def test_unknown_stage():
    with pytest.raises(InputError, match="--from 3x"):
        pipeline.stage_named("--from", "3x")


@pytest.fixture
def counting(repository):
    """The repository with a notebook that counts its runs in a file and fails for the seed 13."""
    make_notebook(
        repository,
        CELLS[0],
        f'stage = runs.start("{STAGE}", globals())\nassert stage.params.seed != 13, "unlucky <b>"',
        'with stage.writing("made.txt") as file:\n    n = file.write_text(f"seed {stage.params.seed}")',
        f'with open("{repository}/count", "a") as file:\n    n = file.write("x")\nstage.finish()',
    )
    return repository


@pytest.mark.slow
def test_a_study_runs_each_value_once_and_compares(counting, capsys):
    assert command(counting, "--set", "seed=[5, 6]", "--set", "04_train.scale=[10, 20]") == 0
    output = capsys.readouterr().out
    made = {folder.name: (folder / STAGE / "made.txt").read_text() for folder in (counting / "runs/one").glob("seed*")}
    assert made == {f"seed={seed},scale={scale}": f"seed {seed}" for seed in (5, 6) for scale in (10, 20)}
    assert (counting / "count").read_text() == "xx", "a stage that only the scale would change runs once"
    assert "taken over from seed=5,scale=10" in output
    assert f"comparison: {counting / 'runs/one/comparison.html'}" in output
    page = (counting / "runs/one/comparison.html").read_text("utf-8")
    assert "04_train.scale" in page
    assert "seed%3D5%2Cscale%3D20/index.html" in page
    assert command(counting, "--set", "seed=[5, 6]", "--set", "04_train.scale=[10, 20]") == 0
    assert capsys.readouterr().out.count("up to date") == 4
    assert command(counting, "--set", "04_train.scale=[30]", "--force") == 0, "a study of one run compares nothing"
    assert "comparison:" not in capsys.readouterr().out


def test_a_run_that_fails_does_not_stop_the_others(counting, capsys):
    (counting / "two.yaml").write_text("model: any\nseed: 13\n")
    assert pipeline.main([str(counting / "two.yaml"), str(counting / "one.yaml")]) == 1
    output = capsys.readouterr()
    assert "error: two: AssertionError: unlucky <b>" in output.err
    assert (counting / "runs/one" / STAGE / "made.txt").exists()
    page = (counting / "runs/comparison.html").read_text("utf-8")
    assert "unlucky &lt;b&gt;" in page
    assert re.search("two +failed", output.out)


def run_in_process(*profiles):
    """`pipeline.main` in a process of its own, which has this one's patches."""
    process = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(pipeline.main([str(profile) for profile in profiles]))
    )
    process.start()
    return process


def test_two_runs_at_once_in_one_checkout(repository):
    address = 'print("sockets:", ipykernel.get_connection_info(unpack=True)["ip"])'
    make_notebook(repository, *CELLS, f"import ipykernel.connect as ipykernel\n{address}")
    (repository / "two.yaml").write_text("model: any\nseed: 6\n")
    both = [run_in_process(repository / f"{name}.yaml") for name in ("one", "two")]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    for name, seed in (("one", 5), ("two", 6)):
        assert (repository / "runs" / name / STAGE / "made.txt").read_text() == f"seed {seed}"
    shown = [(repository / f"runs/{name}/{STAGE}.html").read_text("utf-8") for name in ("one", "two")]
    one, two = (Path(re.search("sockets: (.*)", page)[1]) for page in shown)
    assert one.is_absolute()
    assert one.parent != two.parent
    stored = sorted(file.name for file in (repository / "notebooks").iterdir())
    assert stored == [f"{STAGE}.ipynb", "checksums.txt"], "no socket is left behind"


def test_a_run_that_another_process_writes_is_left_alone(repository, capsys):
    with folder.owned(repository / "runs/one"):
        assert command(repository) == 2
    error = capsys.readouterr().err
    assert f"is being written by another ./run_all.sh (process {os.getpid()})" in error
    assert not (repository / "runs/one/profile.yaml").exists()


@pytest.mark.slow
def test_a_kernel_that_dies_or_a_full_disk_is_a_sentence_and_the_next_profile_runs(repository, capfd):
    make_notebook(
        repository,
        *CELLS[:2],
        "import os, signal\nif stage.params.seed == 13:\n    os.kill(os.getpid(), signal.SIGKILL)",
        "if stage.params.seed == 14:\n    with open('/dev/full', 'w') as file:\n        n = file.write('x')",
        *CELLS[2:],
    )
    for name, seed in (("dies", 13), ("full", 14), ("lives", 15)):
        (repository / f"{name}.yaml").write_text(f"model: any\nseed: {seed}\n")
    assert pipeline.main([str(repository / f"{name}.yaml") for name in ("dies", "full", "lives")]) == 1
    error = capfd.readouterr().err
    assert "Traceback" not in error
    dies, full = (line for line in error.splitlines() if line.startswith("error: "))
    assert dies.startswith(
        f"error: dies: the kernel of notebook {STAGE} was ended by the system, most probably because"
    )
    assert "max_length or sample_fraction in 01_positives" in dies
    assert "error: full: the disk is full; free some space" in full
    assert (repository / "runs/lives" / STAGE / "made.txt").exists()
    assert not list((repository / "runs").rglob(".*.part"))


@pytest.mark.slow
def test_a_batch_runs_the_notebooks_as_released_and_names_edited_code(repository, capsys):
    file = repository / "notebooks" / f"{STAGE}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[0].source = re.sub(r"(?m)^seed: int = None", "seed: int = 7", notebook.cells[0].source)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="a team's text")]
    nbformat.write(notebook, file)
    stored = file.read_bytes()
    assert command(repository) == 0
    output = capsys.readouterr().out
    assert f"note: notebooks/{STAGE}.ipynb: seed in the parameters cell is not used; set it in the profile" in output
    assert "differs" not in output, "its code is as released"
    assert (repository / "runs/one" / STAGE / "made.txt").read_text() == "seed 5"
    assert "a team's text" not in (repository / "runs/one/notebooks" / f"{STAGE}.ipynb").read_text("utf-8")
    assert command(repository) == 0
    assert "up to date" in capsys.readouterr().out
    assert file.read_bytes() == stored, "stored notebooks are only read"

    notebook.cells[-1].source += "\nprint('mine')"
    nbformat.write(notebook, file)
    assert command(repository, "--force") == 0
    says = f"notebooks/{STAGE}.ipynb differs from the released notebook: its code was edited"
    assert f"note: {says}" in capsys.readouterr().out
    page = (repository / "runs/one" / f"{STAGE}.html").read_text("utf-8")
    assert says in page
    assert "mine" in page


@pytest.mark.parametrize("content", ["", "{", '{"cells": []}', '{"cells": 3}', "two parameters cells"])
def test_a_stored_notebook_that_is_none_any_more_is_one_line(repository, capsys, content):
    file = repository / "notebooks" / f"{STAGE}.ipynb"
    if content == "two parameters cells":
        notebook = nbformat.read(file, as_version=4)
        notebook.cells[-1].metadata["tags"] = ["parameters"]
        content = nbformat.writes(notebook)
    file.write_text(content)
    assert command(repository) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{file} is no notebook with one parameters cell; `git checkout {file}` restores it" in line


@pytest.mark.slow
def test_a_stage_of_any_earlier_run_is_taken_over(counting, capsys):
    assert command(counting) == 0
    shutil.copy(counting / "one.yaml", counting / "two.yaml")
    assert pipeline.main([str(counting / "two.yaml")]) == 0
    assert "taken over from one" in capsys.readouterr().out
    assert (counting / "count").read_text() == "x"
    assert pipeline.main([str(counting / "two.yaml"), "--force"]) == 0
    assert (counting / "count").read_text() == "xx", "what is forced is computed"


@pytest.fixture
def ran(one_stage, monkeypatch):
    """The stages that would be executed, none of which is: the repository has all five then."""
    executed = []
    for module in (pipeline, manifest):
        monkeypatch.setattr(module, "STAGES", STAGES)
    monkeypatch.setattr(pipeline, "edits", lambda notebook: [])
    monkeypatch.setattr(pipeline.pages, "write_pages", lambda *_: None)
    monkeypatch.setattr(pipeline, "run_notebook", lambda stage, *_, **__: executed.append(stage[:2]))
    return executed


def test_what_killed_runs_left_is_removed_at_the_next_start(repository, ran, monkeypatch):
    monkeypatch.setenv("BGETUNE_CACHE", str(repository))
    texts = repository / "data/cache/work/123-abc/work.duckdb"
    shard = repository / "data/cache/embeddings/.x.rows.npy.4194305.part"  # no process has so high a number
    for left in (texts, shard):
        left.parent.mkdir(parents=True)
        left.touch()
    assert command(repository, "--until", "1") == 0
    assert not texts.parent.exists()
    assert not shard.exists()


def test_until_stops_after_a_notebook(repository, ran):
    assert command(repository, "--until", "02") == 0
    assert ran == ["01", "02"]
    assert command(repository, "--until", "9") == 2
    assert command(repository, "--until", "1", "--set", "seed=[5, 6]") == 0, "and compares what there is"


def test_check_runs_nothing_and_says_what_would_run(repository, ran, capsys):
    assert command(repository, "--check") == 0
    assert "to run: 01_positives (never run), 02_backtranslate (never run)" in capsys.readouterr().out
    assert ran == []
    assert not (repository / "runs").exists()


@pytest.fixture
def estimated(monkeypatch):
    """Estimates of 40 seconds a stage; what was learnt of stages."""
    from bgetune import estimate

    learnt = []

    class Fixed:
        def __init__(self, profile):
            pass

        def costs(self, stages, known):
            return {stage: estimate.costs.Cost(low=40, high=40) for stage in stages}

        def learn(self, guessed, seconds):
            learnt.append(seconds)

    monkeypatch.setattr(estimate, "Estimate", Fixed)
    return learnt


def test_what_a_run_takes_is_said_before_it_starts(repository, ran, estimated, capsys):
    assert command(repository, "--until", "02") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  what it will take on this machine, roughly:"
    assert [line.split()[0] for line in lines[2:5]] == ["01_positives", "02_backtranslate", "together"]
    assert lines[5] == "  [1/5] 01_positives      running (never run), about 40 s"
    assert len(estimated) == 2, "what was measured replaces what was guessed"
    assert command(repository, "--check", "--until", "01") == 0
    output = capsys.readouterr().out
    assert "01_positives  about 40 s" in output
    assert "together" not in output


def test_what_is_up_to_date_is_not_estimated(repository, estimated, capsys):
    assert command(repository) == 0
    capsys.readouterr()
    assert command(repository) == 0
    assert command(repository, "--check") == 0
    assert "what it will take" not in capsys.readouterr().out


def test_an_estimate_that_fails_stops_nothing(repository, capsys):
    assert command(repository) == 0, "its model is nowhere"
    assert "  how long it takes could not be estimated (InputError: " in capsys.readouterr().out


def test_after_ctrl_c_it_says_what_is_finished_and_how_to_go_on(repository, capsys, monkeypatch):
    assert command(repository) == 0
    capsys.readouterr()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_profile", interrupted)
    assert command(repository) == 130
    error = capsys.readouterr().err
    assert f"finished: {STAGE}; report: {repository / 'runs/one/index.html'}" in error
    (repository / "one.yaml").write_text("model: any\nseed: 6\n")
    assert command(repository) == 130
    error = capsys.readouterr().err
    assert f"to run: {STAGE} (changed parameters: seed); the same command goes on there" in error


def test_ctrl_c_in_a_batch_says_it_of_every_profile(repository, capsys, monkeypatch):
    assert command(repository) == 0
    (repository / "two.yaml").write_text("model: any\nseed: 6\n")
    monkeypatch.setattr(pipeline, "run_notebook", interrupt)
    capsys.readouterr()
    assert pipeline.main([str(repository / "one.yaml"), str(repository / "two.yaml")]) == 130
    error = capsys.readouterr().err
    assert f"one:\n  finished: {STAGE}; report: {repository / 'runs/one/index.html'}\n" in error
    assert f"two:\n  to run: {STAGE} (never run); the same command goes on there" in error


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_error_that_nobody_foresaw_does_not_end_the_batch(counting, capsys, monkeypatch):
    def broken(stage, profile, *others, **options):
        if "two" in str(profile):
            raise KeyError("a column of ours\nsecond line")
        return run_notebook(stage, profile, *others, **options)

    run_notebook = pipeline.run_notebook
    monkeypatch.setattr(pipeline, "run_notebook", broken)
    (counting / "two.yaml").write_text("model: any\nseed: 6\n")
    assert pipeline.main([str(counting / "two.yaml"), str(counting / "one.yaml")]) == 1
    output = capsys.readouterr()
    assert "error: two: KeyError: 'a column of ours" in output.err
    assert "This is a bug of bgetune, not a fault of your data; please report it\n" in output.err
    file = counting / "runs/two/failure.txt"
    assert f"  full traceback: {file}\n  to run: {STAGE} (never run)" in output.err
    assert "Traceback" not in output.err
    assert file.read_text("utf-8").startswith("Traceback (most recent call last):")
    assert "in broken" in file.read_text("utf-8")
    assert (counting / "runs/one" / STAGE / "made.txt").exists()
    assert re.search("two +failed", output.out)


def test_a_notebook_whose_code_is_none_is_our_sentence_too(repository, capsys, monkeypatch):
    """What says how things stand may fail as the run did."""

    def damaged(*_):
        raise SyntaxError("invalid syntax")

    monkeypatch.setattr(pipeline, "_reason", damaged)
    assert command(repository) == 1
    assert "error: SyntaxError: invalid syntax. This is a bug" in capsys.readouterr().err


def put_file_for_folder(root):
    (root / "runs").mkdir()
    (root / "runs/one").touch()
    return 2, "runs/one: a file lies where a folder should be"


def put_file_for_all_runs(root):
    (root / "runs").touch()
    return 2, "a file lies where a folder should be"


def put_folder_for_manifest(root):
    (root / "runs/one/manifest.json").mkdir(parents=True)
    return 2, "manifest.json: a folder lies where a file should be"


def fill_disk(root):
    (root / "runs/one").mkdir(parents=True)
    (root / f"runs/one/.profile.yaml.{os.getpid()}.part").symlink_to("/dev/full")
    return 1, "the disk is full; free some space and run the same command again"


def put_foreign_manifest(root):
    (root / "runs/one").mkdir(parents=True)
    (root / "runs/one/manifest.json").write_text("[]")
    return 2, "manifest.json is damaged or of another program; move it away"


def put_lab(root):
    (root / "runs/one").mkdir(parents=True)
    (root / "runs/one/manifest.json").write_text(json.dumps({"stages": {}, "lab_of": "../other"}))
    return 2, "belongs to ./run_all.sh lab; give the profile another name"


@pytest.mark.parametrize(
    "spoil",
    [put_file_for_folder, put_file_for_all_runs, put_folder_for_manifest, fill_disk, put_foreign_manifest, put_lab],
)
def test_what_is_wrong_with_a_run_folder_is_one_line(repository, ran, capsys, spoil):
    status, message = spoil(repository)
    assert command(repository) == status
    line, *further = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert line.startswith("error: ")
    assert all(more.startswith("  to run: 01_positives (never run)") for more in further)
    assert ran == []


def test_a_read_only_folder_is_one_line(repository, ran, capsys, monkeypatch):
    """By a patch, since whoever may do everything may write everywhere."""

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system", str(repository / "runs/one/.lock"))

    monkeypatch.setattr(folder, "lock", refuse)
    assert command(repository) == 2
    assert "runs/one/.lock: the file system is read-only" in capsys.readouterr().err


def test_a_name_stands_for_a_profile_of_params(repository, monkeypatch):
    from bgetune.config import profile

    monkeypatch.setattr(profile, "ROOT", repository)
    (repository / "params").mkdir()
    (repository / "params/mine.yaml").write_text("model: any\nseed: 9\n")
    assert load_profile("mine").path == repository / "params/mine.yaml"
    assert runs.run_folder(load_profile("mine")) == repository / "runs/mine"
    with pytest.raises(InputError, match="yours: no such file"):
        load_profile("yours")


def test_a_run_that_cannot_be_judged_stops_before_training(tmp_path):
    pipeline.require_judgeable(tmp_path)
    for enough in (True, False):
        judging = {"enough": enough, "sentence": "Too few: give more data."}
        manifest.write_manifest(tmp_path, {"stages": {"01_positives": {"metrics": {"judging": judging}}}})
        if enough:
            pipeline.require_judgeable(tmp_path)
    with pytest.raises(InputError, match=r"Too few: give more data\. Nothing was trained; .*01_positives\.html"):
        pipeline.require_judgeable(tmp_path)
