import os

import pytest

from bgetune import runs
from bgetune.config.stages import STAGES, Calibrate, Positives
from bgetune.errors import InputError
from bgetune.runs import manifest, stage as stage_module


@pytest.fixture(autouse=True)
def code(monkeypatch):
    for module in (manifest, stage_module):
        monkeypatch.setattr(module, "code_hash", lambda stage: "code")


@pytest.fixture
def run_dir(tmp_path):
    """A run with one stage that wrote one file."""
    stage = runs.Stage("01_positives", Positives(), {}, tmp_path)
    with stage.writing("note.txt") as file:
        file.write_text("made")
    stage.finish()
    return tmp_path


def change_behind_size_and_time(file):
    before = file.stat()
    file.write_text("fake")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("content", ["[]", '"text"', "3", "{", '{"stages": []}', '{"stages": {}, "rounds": "two"}'])
def test_a_manifest_that_is_not_ours_is_one_line(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged or of another program; move it away") as caught:
        manifest.out_of_date("01_positives", Positives(), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "part",
    [
        {"outputs": {"note.txt": "01_positives/note.txt"}},
        {"outputs": {"note.txt": {"path": "../../elsewhere", "sha256": ""}}},
        {"outputs": {"note.txt": {"path": "/etc/passwd", "sha256": ""}}},
        {"outputs": ["note.txt"]},
        {"inputs": ["log.csv"]},
        {"seconds": "long"},
    ],
    ids=str,
)
def test_a_record_of_another_form_is_not_read(run_dir, part):
    content = manifest.read_manifest(run_dir)
    content["stages"]["01_positives"] |= part
    manifest.write_manifest(run_dir, content)
    assert manifest.out_of_date("01_positives", Positives(), run_dir) == "never run"
    assert manifest.find(run_dir, "note.txt", before=None) is None


@pytest.mark.parametrize("entry", [[], "done", {}, {"parameters": {}, "outputs": {}}], ids=str)
def test_a_record_of_another_version_is_not_up_to_date(run_dir, entry):
    assert manifest.out_of_date("01_positives", Positives(), run_dir) is None
    manifest.write_manifest(run_dir, {"stages": {"01_positives": entry}})
    assert manifest.out_of_date("01_positives", Positives(), run_dir) in ("never run", "recorded by another version")


def test_an_empty_manifest_is_that_of_a_new_run(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    assert manifest.out_of_date("01_positives", Positives(), tmp_path) == "never run"


def test_handing_over_hashes_again(run_dir):
    manifest.verify(run_dir)
    manifest.verify(run_dir, ["note.txt"])
    change_behind_size_and_time(run_dir / "01_positives/note.txt")
    assert manifest.out_of_date("01_positives", Positives(), run_dir) is None, "size and time are trusted for speed"
    for artifacts in (None, ["note.txt"]):
        with pytest.raises(InputError, match=r"note\.txt is not as 01_positives wrote it; run again with --from 01"):
            manifest.verify(run_dir, artifacts)
    with pytest.raises(InputError, match="no model there"):
        manifest.verify(run_dir, ["model"])


def test_the_last_stage_hashes_what_it_reads(run_dir):
    change_behind_size_and_time(run_dir / "01_positives/note.txt")
    runs.Stage("02_backtranslate", STAGES["02_backtranslate"](), {}, run_dir).path("note.txt")
    with pytest.raises(InputError, match="not as 01_positives wrote it"):
        runs.Stage("05_calibrate", Calibrate(), {}, run_dir).path("note.txt")


def test_an_artifact_is_hashed_again_before_its_stage_hands_it_over(tmp_path):
    stage = runs.Stage("04_train", STAGES["04_train"](), {}, tmp_path)
    with stage.writing("model") as file:
        file.write_text("made")
    assert stage.made("model") == tmp_path / "04_train/model"
    change_behind_size_and_time(tmp_path / "04_train/model")
    with pytest.raises(InputError, match="was changed after 04_train wrote it"):
        stage.made("model")


def test_other_runs_are_those_of_studies_too_the_latest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    for age, name in enumerate(("study/scale=10", "mine", "demo")):
        manifest.write_manifest(tmp_path / "runs" / name, {"stages": {}})
        os.utime(tmp_path / "runs" / name / "manifest.json", (0, 100 - age))
    found = manifest.other_runs(tmp_path / "runs/mine")
    assert found == [tmp_path / "runs/study/scale=10", tmp_path / "runs/demo"]


def test_a_damaged_other_run_is_passed_over(run_dir, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/manifest.json").write_text("[]")
    assert not manifest.take_over("01_positives", Positives(), tmp_path / "new", tmp_path / "bad")
