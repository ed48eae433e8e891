import re

import nbformat
import pytest

from bgetune import paths, pipeline
from bgetune.config.stages import STAGES
from bgetune.errors import InputError
from bgetune.runs import copies, execute, manifest, stage

STAGE = "01_positives"


def make_notebook(root, *sources):
    """A one-stage repository with a notebook of these code cells after its parameters cell."""
    cell = nbformat.v4.new_code_cell('profile: str = ""\nrun_dir: str = None', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, *map(nbformat.v4.new_code_cell, sources)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{STAGE}.ipynb")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one stage, whose notebook writes one artifact."""
    for module in (pipeline, manifest):
        monkeypatch.setattr(module, "STAGES", {STAGE: STAGES[STAGE]})
    for module in (copies, execute, manifest, stage, paths):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(pipeline, "check", lambda profiles: [])
    monkeypatch.setattr(manifest, "code_hash", lambda stage: "code")
    make_notebook(
        tmp_path,
        "from bgetune import runs\nfrom bgetune.runs import stage as stages\nstages.code_hash = lambda stage: 'code'",
        f'stage = runs.start("{STAGE}", globals())',
        'with stage.writing("made.txt") as file:\n    n = file.write_text(f"seed {stage.params.seed}")',
        'print("<b>untrusted</b>")\nstage.finish(seen=1)',
    )
    (tmp_path / "one.yaml").write_text("seed: 5\n")
    return tmp_path


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


def test_set_reaches_the_notebook_and_reruns(repository, capsys):
    assert command(repository) == 0
    assert command(repository, "--set", "seed=6") == 0
    assert "changed parameters: seed" in capsys.readouterr().out
    assert (repository / "runs/one" / STAGE / "made.txt").read_text() == "seed 6"


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
    assert "cell 3" in error
    assert "Traceback" not in error
    executed = nbformat.read(repository / "runs/one/notebooks" / f"{STAGE}.failed.ipynb", as_version=4)
    assert "InputError" in str(executed.cells), "the executed copy is kept"
    assert not (repository / "runs/one/manifest.json").exists()


def test_failure_in_a_notebook_names_the_cell(repository, capsys):
    make_notebook(repository, "x = 1", "x / 0")
    assert command(repository) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "cell 4" in error


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
        "from bgetune import runs\nfrom bgetune.runs import stage as stages\nstages.code_hash = lambda stage: 'code'",
        f'stage = runs.start("{STAGE}", globals())\nassert stage.params.seed != 13, "unlucky <b>"',
        'with stage.writing("made.txt") as file:\n    n = file.write_text(f"seed {stage.params.seed}")',
        f'with open("{repository}/count", "a") as file:\n    n = file.write("x")\nstage.finish()',
    )
    return repository


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
    (counting / "two.yaml").write_text("seed: 13\n")
    assert pipeline.main([str(counting / "two.yaml"), str(counting / "one.yaml")]) == 1
    output = capsys.readouterr()
    assert "error: two: AssertionError: unlucky <b>" in output.err
    assert (counting / "runs/one" / STAGE / "made.txt").exists()
    page = (counting / "runs/comparison.html").read_text("utf-8")
    assert "unlucky &lt;b&gt;" in page
    assert re.search("two +failed", output.out)


def test_a_run_that_cannot_be_judged_stops_before_training(tmp_path):
    pipeline.require_judgeable(tmp_path)
    for enough in (True, False):
        judging = {"enough": enough, "sentence": "Too few: give more data."}
        manifest.write_manifest(tmp_path, {"stages": {"01_positives": {"metrics": {"judging": judging}}}})
        if enough:
            pipeline.require_judgeable(tmp_path)
    with pytest.raises(InputError, match=r"Too few: give more data\. Nothing was trained; .*01_positives\.html"):
        pipeline.require_judgeable(tmp_path)
