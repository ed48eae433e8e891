import json

import pandas as pd
import pytest

from bgetune import files, paths, runs
from bgetune.config.stages import STAGES, Backtranslate, HardNegatives, Train
from bgetune.errors import InputError
from bgetune.runs import code as code_module, manifest, stage as stage_module

CLUSTERS = pd.DataFrame({"text_id": ["0" * 16], "cluster_id": ["1" * 16], "split": ["train"]})


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """The code hash of every stage; a test may change it."""
    hashes = dict.fromkeys(STAGES, "code")
    for module in (manifest, stage_module):
        monkeypatch.setattr(module, "code_hash", hashes.__getitem__)
    return hashes


def stage(folder, name, **values):
    model = STAGES[name](**values)
    return runs.Stage(name, model, dict.fromkeys(type(model).model_fields, "default"), folder)


def first(folder, **values):
    begun = stage(folder, "01_positives", **values)
    begun.write("clusters", CLUSTERS)
    begun.finish(rows=1)
    return begun


def second(folder):
    begun = stage(folder, "02_backtranslate")
    begun.read("clusters")
    with begun.writing("note.txt") as file:
        file.write_text("made")
    begun.finish()
    return begun


def reason(folder, name, **values):
    return manifest.out_of_date(name, STAGES[name](**values), folder)


def test_artifact_goes_from_stage_to_stage(tmp_path):
    first(tmp_path)
    later = stage(tmp_path, "03_hard_negatives")
    assert later.has("clusters")
    pd.testing.assert_frame_equal(later.read("clusters"), CLUSTERS)
    assert later.inputs["clusters"]["stage"] == "01_positives"
    assert not later.has("edges")


def test_the_latest_earlier_version_is_read(tmp_path):
    first(tmp_path)
    middle = stage(tmp_path, "02_backtranslate")
    middle.write("clusters", CLUSTERS.assign(split="test"))
    middle.finish()
    assert stage(tmp_path, "03_hard_negatives").read("clusters")["split"].tolist() == ["test"]
    assert stage(tmp_path, "02_backtranslate").read("clusters")["split"].tolist() == ["train"]


def test_missing_artifact_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"clusters is not in .*run_all\.sh"):
        stage(tmp_path, "02_backtranslate").read("clusters")


def test_artifact_changed_behind_the_back_is_refused(tmp_path):
    first(tmp_path)
    CLUSTERS.assign(split="dev").to_parquet(tmp_path / "01_positives/clusters.parquet")
    with pytest.raises(InputError, match="not as 01_positives wrote it; run again with --from 01"):
        stage(tmp_path, "02_backtranslate").read("clusters")


def test_up_to_date_until_something_changes(tmp_path, code):
    assert reason(tmp_path, "01_positives") == "never run"
    first(tmp_path)
    second(tmp_path)
    assert reason(tmp_path, "01_positives") is None
    assert reason(tmp_path, "02_backtranslate") is None
    assert reason(tmp_path, "01_positives", seed=7) == "changed parameters: seed"
    code["01_positives"] = "other"
    assert reason(tmp_path, "01_positives") == "changed code"


def test_changed_input_and_output_are_seen(tmp_path):
    first(tmp_path)
    second(tmp_path)
    (tmp_path / "02_backtranslate/note.txt").write_text("edited")
    assert reason(tmp_path, "02_backtranslate") == "changed output: note.txt"
    second(tmp_path)
    again = stage(tmp_path, "01_positives")
    again.write("clusters", CLUSTERS.assign(split="dev"))
    again.finish()
    assert reason(tmp_path, "02_backtranslate") == "changed input: clusters"


def test_a_file_that_begins_to_fit_a_pattern_is_a_change(tmp_path):
    (tmp_path / "log-1.csv").write_text("query\n")
    pattern = str(tmp_path / "log-*.csv")
    begun = stage(tmp_path / "run", "01_positives")
    begun.use(pattern)
    begun.finish()
    assert reason(tmp_path / "run", "01_positives") is None
    (tmp_path / "other-2.csv").write_text("query\n")
    assert reason(tmp_path / "run", "01_positives") is None
    (tmp_path / "log-2.csv").write_text("query\n")
    assert reason(tmp_path / "run", "01_positives") == f"changed input: {pattern}"


def test_outside_file_is_an_input(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("query\n")
    begun = stage(tmp_path / "run", "01_positives")
    assert begun.use(file) == file
    begun.finish()
    assert reason(tmp_path / "run", "01_positives") is None
    file.write_text("query\nmore\n")
    assert reason(tmp_path / "run", "01_positives") == f"changed input: {file}"
    file.unlink()
    assert reason(tmp_path / "run", "01_positives") == f"changed input: {file}"


def test_touched_but_equal_file_is_unchanged(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("query\n")
    begun = stage(tmp_path / "run", "01_positives")
    begun.use(file)
    begun.finish()
    file.write_text("query\n")
    assert reason(tmp_path / "run", "01_positives") is None


def test_nothing_half_written_remains(tmp_path):
    begun = first(tmp_path)
    before = (tmp_path / "01_positives/clusters.parquet").read_bytes()

    def killed():
        with begun.writing("clusters.parquet") as file:
            file.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        killed()
    assert (tmp_path / "01_positives/clusters.parquet").read_bytes() == before
    assert [file.name for file in (tmp_path / "01_positives").iterdir()] == ["clusters.parquet"]


def test_folder_artifact_replaces_the_old_one(tmp_path):
    begun = stage(tmp_path, "04_train")
    for content in ("old", "new"):
        with begun.writing("model") as folder:
            folder.mkdir()
            (folder / content).write_text(content)
    begun.finish()
    assert [file.name for file in (tmp_path / "04_train/model").iterdir()] == ["new"]
    assert stage(tmp_path, "05_calibrate").path("model").is_dir()
    assert manifest.artifact_path(tmp_path, "model") == tmp_path / "04_train/model"


def test_manifest_holds_what_the_design_promises(tmp_path):
    first(tmp_path, seed=5)
    entry = json.loads((tmp_path / "manifest.json").read_text("utf-8"))["stages"]["01_positives"]
    assert entry["parameters"]["seed"] == entry["seed"] == 5
    assert entry["outputs"]["clusters"]["rows"] == 1
    assert len(entry["outputs"]["clusters"]["sha256"]) == 64
    assert entry["metrics"] == {"rows": 1}
    assert entry["versions"]["torch"]
    assert entry["seconds"] >= 0


def mined(folder, name="03_hard_negatives"):
    begun = runs.Stage(name, HardNegatives(), {}, folder)
    begun.read("clusters")
    miner = begun.path("model").read_text() if begun.has("model") else "base"
    with begun.writing("train.jsonl") as file:
        file.write_text(f"mined by {miner}")
    begun.finish()


def trained(folder, name="04_train"):
    begun = runs.Stage(name, Train(), {}, folder)
    groups = begun.path("train.jsonl").read_text()
    with begun.writing("model") as file:
        file.write_text(f"tuned on negatives {groups}")
    begun.finish()


def two_rounds(folder):
    first(folder)
    manifest.set_rounds(folder, 2)
    for number in ("", ".2"):
        mined(folder, f"03_hard_negatives{number}")
        trained(folder, f"04_train{number}")


def test_stages_of_two_rounds():
    assert manifest.order() == list(STAGES)
    assert manifest.order(2)[2:] == [
        "03_hard_negatives",
        "04_train",
        "03_hard_negatives.2",
        "04_train.2",
        "05_calibrate",
    ]
    assert manifest.notebook_of("04_train.2") == manifest.notebook_of("04_train") == "04_train"
    assert [manifest.round_of(stage) for stage in ("04_train.2", "04_train", "05_calibrate")] == [2, 1, 1]


def test_a_later_round_mines_with_the_model_tuned_last(tmp_path):
    two_rounds(tmp_path)
    assert (tmp_path / "04_train/model").read_text() == "tuned on negatives mined by base"
    last = "tuned on negatives mined by tuned on negatives mined by base"
    assert manifest.artifact_path(tmp_path, "model").read_text() == last
    assert stage(tmp_path, "05_calibrate").path("model").read_text() == last
    for name in manifest.stages(tmp_path)[2:6]:
        assert reason_of_round(tmp_path, name) is None
    (tmp_path / "04_train/model").write_text("edited")
    trained(tmp_path)
    assert [name for name in manifest.stages(tmp_path)[2:6] if reason_of_round(tmp_path, name)] == []
    first(tmp_path)
    begun = runs.Stage("04_train", Train(), {}, tmp_path)
    with begun.writing("model") as file:
        file.write_text("another")
    begun.finish()
    assert reason_of_round(tmp_path, "03_hard_negatives.2") == "changed input: model"


def reason_of_round(folder, name):
    return manifest.out_of_date(name, STAGES[manifest.notebook_of(name)](), folder)


def test_back_to_one_round_and_forth_loses_nothing(tmp_path):
    two_rounds(tmp_path)
    manifest.set_rounds(tmp_path, 1)
    assert manifest.artifact_path(tmp_path, "model") == tmp_path / "04_train/model"
    manifest.set_rounds(tmp_path, 2)
    assert manifest.artifact_path(tmp_path, "model") == tmp_path / "04_train.2/model"
    assert reason_of_round(tmp_path, "04_train.2") is None


def test_a_notebook_of_a_later_round_knows_its_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: any\nrounds: 2\n")
    arguments = {"profile": tmp_path / "mine.yaml", "run_dir": tmp_path / "run", "round_number": 2}
    begun = runs.start("04_train", arguments)
    assert (begun.name, begun.folder) == ("04_train.2", tmp_path / "run/04_train.2")
    assert manifest.stages(tmp_path / "run")[-2:] == ["04_train.2", "05_calibrate"]
    assert runs.is_last_round(begun)
    assert not runs.is_last_round(runs.start("04_train", arguments | {"round_number": 1}))


def test_a_model_that_nobody_named_is_asked_for(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    with pytest.raises(InputError, match=r"mine\.yaml: model is not given; .*demo://standard/encoder"):
        runs.start("01_positives", {"profile": tmp_path / "mine.yaml", "run_dir": tmp_path / "run"})


def test_a_reranker_to_tune_is_asked_for(tmp_path):
    arguments = {"profile": tmp_path / "mine.yaml", "run_dir": tmp_path / "run"}
    (tmp_path / "mine.yaml").write_text("model: any\n04_train: {tune_reranker: true}\n")
    with pytest.raises(InputError, match=r"04_train: tune_reranker needs a reranker to start from; name one"):
        runs.start("04_train", arguments)
    (tmp_path / "mine.yaml").write_text("model: any\nreranker: other\n04_train: {tune_reranker: true}\n")
    assert runs.start("04_train", arguments).params.reranker == "other"


def two_runs(folder, **values):
    """The folder of a run with two stages done, and of one with the first of them only."""
    one, other = folder / "one", folder / "other"
    first(one)
    second(one)
    first(other, **values)
    for run_dir, name in ((one, "01_positives"), (one, "02_backtranslate")):
        (run_dir / "notebooks").mkdir(exist_ok=True)
        (run_dir / "notebooks" / f"{name}.ipynb").write_text(name)
        manifest.record_executed(name, run_dir)
    return one, other


def take(one, other, **values):
    return manifest.take_over("02_backtranslate", Backtranslate(**values), other, one)


def test_an_equal_stage_is_taken_over_and_recorded(tmp_path):
    one, other = two_runs(tmp_path)
    assert take(one, other)
    (other / "02_backtranslate/note.txt").write_text("a person's verdict")
    assert (one / "02_backtranslate/note.txt").read_text() == "made", "edited here, not there"
    assert take(one, other) is False, "what a person edited stays"
    (other / "02_backtranslate/note.txt").write_text("made")
    assert (other / "notebooks/02_backtranslate.ipynb").read_text() == "02_backtranslate"
    assert reason(other, "02_backtranslate") is None
    assert manifest.read_manifest(other)["stages"]["02_backtranslate"]["taken_from"] == "../one"
    second(one)
    manifest.record_executed("02_backtranslate", one)
    assert (other / "02_backtranslate/note.txt").read_text() == "made", "what one run makes anew is its own"
    assert take(one, other), "and what was taken over may be again"


def test_folders_are_taken_over_file_by_file_and_copied_where_links_cannot_be(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("another file system")

    names = ("table.parquet", "model.safetensors", "review.csv")
    (tmp_path / "a/deep").mkdir(parents=True)
    for name in names:
        (tmp_path / "a/deep" / name).write_text(name)
    files.link(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(files.os, "link", no_links)
    files.link(tmp_path / "a", tmp_path / "c")
    for name in names:
        shared = [(tmp_path / copy / "deep" / name).samefile(tmp_path / "a/deep" / name) for copy in "bc"]
        assert shared == [name != "review.csv", False]
        assert (tmp_path / "c/deep" / name).read_text() == name


def test_a_stage_that_would_differ_is_not_taken_over(tmp_path, code):
    one, other = two_runs(tmp_path)
    assert not take(one, other, seed=7), "another parameter"
    begun = stage(other, "01_positives")
    begun.write("clusters", CLUSTERS.assign(split="dev"))
    begun.finish()
    assert not take(one, other), "another input"
    first(other)
    code["02_backtranslate"] = "other"
    assert not take(one, other), "another code"
    assert "02_backtranslate" not in manifest.read_manifest(other)["stages"]


def test_what_a_run_made_or_a_person_edited_is_never_taken_over(tmp_path):
    one, other = two_runs(tmp_path)
    assert take(one, other)
    (other / "02_backtranslate/note.txt").unlink()
    (other / "02_backtranslate/note.txt").write_text("same")
    assert not take(one, other)
    assert (other / "02_backtranslate/note.txt").read_text() == "same"
    second(other)
    assert not take(one, other)


def test_damaged_manifest_is_said(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        manifest.read_manifest(tmp_path)


def test_two_writes_of_a_table_are_the_same_bytes(tmp_path):
    first(tmp_path / "a")
    first(tmp_path / "b")
    one, other = (tmp_path / name / "01_positives/clusters.parquet" for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_parameters_table_shows_origin(tmp_path):
    table = stage(tmp_path, "01_positives", seed=3, truth="<b>.csv").parameters()
    assert table.loc["seed", "value"] == "3"
    assert table.loc["seed", "from"] == "default"
    assert table.loc["truth", "value"] == '"<b>.csv"'


def test_hub_names_are_told_from_folders(tmp_path):
    assert paths.is_hub_name("BAAI/bge-small-zh-v1.5")
    assert not paths.is_hub_name(str(tmp_path))
    assert not paths.is_hub_name("../shared/models/zh-mini")
    assert not paths.is_hub_name("demo://standard/encoder")
    assert not paths.is_hub_name("src/bgetune")


def test_code_hash_follows_imports():
    code = "from bgetune.runs import stage\nfrom bgetune.errors import InputError\n"
    code += "import bgetune_demo.parse\nimport json\n"
    names = {str(file.relative_to(paths.ROOT / "src")) for file in code_module._imported(code)}
    assert names == {"bgetune/runs/stage.py", "bgetune/runs/__init__.py", "bgetune/errors.py", "bgetune_demo/parse.py"}


def test_code_hash_ignores_what_changes_no_result():
    code = "import json\n\ndef double(x):\n    return 2 * x\n"
    said = '"""Doubles."""\nimport json  # why\n\ndef double(x):\n    "Twice x."\n    return 2 * x\n'
    assert code_module._essence(code) == code_module._essence(said)
    assert code_module._essence(code) != code_module._essence(code.replace("2", "3"))
    assert not code_module._imported("from bgetune.reports import plots\nfrom bgetune.config.stages import STAGES\n")
    assert paths.is_hub_name("modelscope://BAAI/bge-small-zh-v1.5")


@pytest.mark.parametrize("name", ["BAAI/bge-small-zh-v1.5", "modelscope://BAAI/bge-small-zh-v1.5"])
def test_a_hubs_model_is_recorded_with_its_revision_and_must_stay_as_it_is(tmp_path, monkeypatch, name):
    snapshot = tmp_path / "snapshots/abc"
    snapshot.mkdir(parents=True)
    weights = snapshot / "model.safetensors"
    weights.write_bytes(b"one")
    monkeypatch.setattr(stage_module.hubs, "download", lambda location: snapshot)
    begun = stage(tmp_path, "01_positives")
    assert begun.use_model(name) == name
    assert begun.inputs[name]["revision"] == "abc"
    begun.finish()
    assert stage(tmp_path, "03_hard_negatives").use_model(name) == name
    weights.write_bytes(b"two")
    with pytest.raises(InputError, match=r"is not as 01_positives read it: .* run again with --from 01"):
        stage(tmp_path, "03_hard_negatives").use_model(name)
    stage(tmp_path, "01_positives").use_model(name)  # the first may read what is there now
