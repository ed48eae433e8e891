import json
import os
import subprocess
import sys

import nbformat
import pytest
from repository import CELLS, STAGE, make_notebook

from bgetune import lab, paths, runs
from bgetune.config import generate
from bgetune.config.profile import load_profile
from bgetune.config.stages import Positives
from bgetune.errors import InputError
from bgetune.runs import manifest, stage as stage_module
from bgetune.runs.copies import copy_notebook, edits


@pytest.fixture
def repository(one_stage, monkeypatch):
    monkeypatch.setattr(stage_module, "code_hash", lambda stage: "code")
    return one_stage


def compute(run_dir, text):
    """Run the stage as its notebook does."""
    stage = runs.Stage(STAGE, Positives(), {}, run_dir)
    with stage.writing("made.txt") as file:
        file.write_text(text)
    with stage.writing("model") as folder:
        folder.mkdir()
        (folder / "weights").write_text(text)
    stage.finish()


def prepare(repository):
    return lab.prepare(load_profile(repository / "one.yaml"))


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def cells(file):
    return nbformat.read(file, as_version=4).cells


def test_a_copy_works_on_a_run_of_its_own_and_says_so(repository, capsys):
    compute(repository / "runs/one", "batch")
    copy = prepare(repository)
    assert copy == repository / f"work/one/{STAGE}.ipynb"
    assert f"{STAGE} taken from {repository / 'runs/one'}" in capsys.readouterr().out
    given = {}
    exec(next(filter(generate.is_parameters, cells(copy))).source, given)
    assert (given["profile"], given["run_dir"]) == ("one.yaml", "runs/one-lab")
    stage = runs.start(STAGE, given | {"profile": str(repository / "one.yaml")})
    assert stage.run_dir == repository / "runs/one-lab"
    says = f"This notebook writes to {stage.run_dir}. It starts from {repository / 'runs/one'}, which stays as it is."
    assert says in capsys.readouterr().out
    assert manifest.artifact_path(stage.run_dir, "made.txt").read_text() == "batch"


def test_exploring_changes_no_batch_run_and_no_stored_notebook(repository):
    compute(repository / "runs/one", "batch")
    before = contents(repository / "runs/one"), contents(repository / "notebooks")
    copy = prepare(repository)
    for file in (repository / "runs/one-lab").rglob("*"):
        if file.is_file():
            file.write_text("written in place, as a cell of one's own may do")
    copy.write_text("edited")
    assert (contents(repository / "runs/one"), contents(repository / "notebooks")) == before


def test_what_was_made_in_the_lab_stays_and_what_was_not_follows_the_batch_run(repository, capsys):
    run_dir, lab_dir = repository / "runs/one", repository / "runs/one-lab"
    prepare(repository)
    assert "no stage taken" in capsys.readouterr().out
    compute(run_dir, "first")
    prepare(repository)
    assert (lab_dir / STAGE / "model/weights").read_text() == "first"
    compute(run_dir, "second")
    prepare(repository)
    assert (lab_dir / STAGE / "model/weights").read_text() == "second"
    compute(lab_dir, "mine")
    prepare(repository)
    assert (lab_dir / STAGE / "made.txt").read_text() == "mine"
    assert manifest.is_lab(lab_dir)


def test_the_lab_takes_no_folder_of_another_profile(repository):
    compute(repository / "runs/one-lab", "a profile named one-lab")
    with pytest.raises(InputError, match="one-lab is the run of another profile; rename"):
        prepare(repository)


def test_edited_copies_are_kept_and_new_releases_lie_beside_them(repository, capsys):
    copy = prepare(repository)
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="explored")]
    nbformat.write(notebook, copy)
    assert prepare(repository) == copy
    assert "explored" in copy.read_text("utf-8"), "a copy that was run is current"

    make_notebook(repository, *CELLS, "print('second release')")
    assert prepare(repository) == copy
    assert cells(copy)[-1].source == "print('second release')", "a copy that nobody edited follows the release"

    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[-1].source = "print('mine')"
    nbformat.write(notebook, copy)
    assert prepare(repository) == copy, "an edited copy of what is released now"
    make_notebook(repository, *CELLS, "print('third release')")
    capsys.readouterr()
    for _ in range(2):
        assert prepare(repository) == copy.with_suffix(".2.ipynb")
        assert cells(copy)[-1].source == "print('mine')"
        assert cells(copy.with_suffix(".2.ipynb"))[-1].source == "print('third release')"
        assert f"kept your work/one/{STAGE}.ipynb" in capsys.readouterr().out
    copy.with_suffix(".2.ipynb").write_text("no notebook")
    assert prepare(repository) == copy.with_suffix(".3.ipynb")


def test_jupyterlab_opens_at_the_root_with_the_first_copy(repository, monkeypatch):
    called = []
    monkeypatch.setattr(os, "execve", lambda *arguments: called.append(arguments))
    lab.main([str(repository / "one.yaml"), "--no-browser"])
    ((program, command, environment),) = called
    assert program == sys.executable
    url = f"--LabApp.default_url=/lab/tree/work/one/{STAGE}.ipynb"
    assert command[1:] == ["-m", "jupyterlab", f"--ServerApp.root_dir={repository}", url, "--no-browser"]
    assert environment["JUPYTER_PREFER_ENV_PATH"] == "1"


def test_bad_input_is_one_line(repository, capsys):
    assert lab.main(["no_such_profile"]) == 2
    assert "error: no_such_profile: no such file" in capsys.readouterr().err
    (repository / "work").touch()
    assert lab.main([str(repository / "one.yaml")]) == 2
    assert "a file lies where a folder should be" in capsys.readouterr().err


def test_git_ignores_what_the_lab_makes():
    if not (paths.ROOT / ".git").exists():
        pytest.skip("needs a clone")
    made = [f"work/demo/{STAGE}.ipynb", "runs/demo-lab/manifest.json"]
    done = subprocess.run(
        ["git", "-C", str(paths.ROOT), "check-ignore", *made], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == made


def test_stored_notebooks_make_valid_copies():
    for notebook in sorted((paths.ROOT / "notebooks").glob("*.ipynb")):
        copy = copy_notebook(notebook.stem, profile='a "quoted" name.yaml', run_dir="runs/x-lab", round_number=2)
        nbformat.validate(json.loads(nbformat.writes(copy)))
        given = {}
        exec(next(filter(generate.is_parameters, copy.cells)).source, given)
        assert (given["profile"], given["run_dir"]) == ('a "quoted" name.yaml', "runs/x-lab")
        assert edits(notebook.stem) == [], "as released"


def test_a_kernel_without_the_package_says_how_to_get_it():
    """In one line: the parameters cell runs first, in a Python that has nothing of ours."""
    code = next(filter(generate.is_parameters, copy_notebook("03_hard_negatives").cells)).source
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    (line,) = done.stderr.strip().splitlines()
    assert line == "This kernel does not have bgetune; ./run_all.sh lab starts JupyterLab with one that has"


def test_the_last_cell_links_to_the_report_and_the_index(repository, monkeypatch):
    from bgetune.reports import pages

    run_dir = repository / "runs/one"
    compute(run_dir, "batch")
    copy = prepare(repository)
    stage = runs.Stage(STAGE, Positives(), {}, run_dir)
    assert pages.links(stage) is None, "a batch run writes its pages itself"
    assert not (run_dir / "index.html").exists()
    monkeypatch.setenv("JPY_SESSION_NAME", str(copy))
    shown = pages.links(runs.Stage(STAGE, Positives(), {}, repository / "runs/one-lab")).data
    for page in ("index.html", f"{STAGE}.html"):
        assert f"[{page}](../../runs/one-lab/{page})" in shown
        assert (repository / "runs/one-lab" / page).is_file()
    assert "as it was last saved" in shown
