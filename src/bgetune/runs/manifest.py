"""A run's manifest: what each stage read and wrote, and whether a stage is up to date."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator

from bgetune.config.stages import ROUND, STAGES
from bgetune.errors import InputError
from bgetune.files import fingerprint, fitting, link, remove, sha256, write_atomic
from bgetune.locale import _
from bgetune.paths import ROOT, locate
from bgetune.runs.code import code_hash


def order(rounds: int = 1) -> list[str]:
    """The stages as they run; a second round makes ..., 04_train, 03_hard_negatives.2, 04_train.2, 05_calibrate."""
    again = [f"{stage}.{number}" for number in range(2, rounds + 1) for stage in ROUND]
    return [*(s for s in STAGES if s <= ROUND[-1]), *again, *(s for s in STAGES if s > ROUND[-1])]


def stages(run_dir: Path) -> list[str]:
    """The stages of a run, in all its rounds, as they run."""
    return order(read_manifest(run_dir).get("rounds", 1))


def notebook_of(stage: str) -> str:
    """The notebook of a stage of any round: 04_train of 04_train.2."""
    return stage.partition(".")[0]


def round_of(stage: str) -> int:
    """The round of a stage, 1 for those that run once."""
    return int(stage.partition(".")[2] or 1)


def set_rounds(run_dir: Path, rounds: int) -> None:
    """Record how many rounds count in a run: what further ones made stays where it is, and is not read."""
    manifest = read_manifest(run_dir)
    if manifest.get("rounds", 1) != rounds:
        write_manifest(run_dir, manifest | {"rounds": rounds})


def out_of_date(stage: str, values: Any, run_dir: Path) -> str | None:
    """Why a stage must run (again), or None if it is up to date."""
    entry = read_manifest(run_dir)["stages"].get(stage)
    if entry is None:
        return "never run"
    if not entry.keys() >= {"parameters", "code", "inputs", "outputs", "metrics", "seconds"}:
        return "recorded by another version"
    if entry["parameters"] != json.loads(values.model_dump_json()):
        old = entry["parameters"]
        new = json.loads(values.model_dump_json())
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return f"changed parameters: {', '.join(changed)}"
    if entry["code"] != code_hash(notebook_of(stage)):
        return "changed code"
    for name, record in entry["inputs"].items():
        if "stage" in record:
            found = find(run_dir, name, before=stage)
            if found is None or found[1].get("sha256") != record.get("sha256"):
                return f"changed input: {name}"
        elif "fitting" in record:
            if fitting(locate(name)) != record["fitting"]:
                return f"changed input: {name}"
        elif "hub" not in record:
            file = locate(name)
            if not file.exists() or fingerprint(file, record) != record.get("sha256"):
                return f"changed input: {name}"
    output = changed_output(entry, run_dir)
    return output and f"changed output: {output}"


def changed_output(entry: dict[str, Any], run_dir: Path) -> str | None:
    """The first artifact of a stage's record that is no longer as the stage wrote it."""
    for name, record in entry.get("outputs", {}).items():
        file = run_dir / record["path"]
        if not file.exists() or fingerprint(file, record) != record.get("sha256"):
            return name
    return None


def is_lab(run_dir: Path) -> bool:
    """Whether the folder is that of a run in JupyterLab; see `bgetune.lab`."""
    return "lab_of" in read_manifest(run_dir)


def is_executed(stage: str, run_dir: Path) -> bool:
    """Whether the executed notebook of a stage was kept whole: a kill may come between the two."""
    entry = read_manifest(run_dir)["stages"].get(stage, {})
    return "executed" in entry and (run_dir / "notebooks" / f"{stage}.ipynb").is_file()


def record_executed(stage: str, run_dir: Path) -> None:
    """Record that the executed notebook of a stage is whole. A stage that runs again has to be recorded again."""
    manifest = read_manifest(run_dir)
    if stage in manifest["stages"]:  # a notebook that ends without `Stage.finish` is not recorded at all
        manifest["stages"][stage]["executed"] = True
        write_manifest(run_dir, manifest)


def verify(run_dir: str | Path, artifacts: Iterable[str] | None = None) -> None:
    """Hash artifacts again, whatever their size and time say: before a run is handed over.

    Args:
        artifacts: names; all that a run's stages wrote when None.

    Raises:
        InputError: naming the first file that is not as its stage wrote it, or the artifact that was never made.
    """
    run_dir = Path(run_dir)
    entries = {stage: entry for stage, entry in read_manifest(run_dir)["stages"].items() if stage in stages(run_dir)}
    written = [(stage, record) for stage, entry in entries.items() for record in entry.get("outputs", {}).values()]
    if artifacts is not None:
        written = [_found(run_dir, artifact) for artifact in artifacts]
    for stage, record in written:
        file = run_dir / record["path"]
        if not file.exists() or sha256(file) != record.get("sha256"):
            raise InputError(
                _("{file} is not as {stage} wrote it; run again with --from {number}").format(
                    file=file, stage=stage, number=stage[:2]
                )
            )


def other_runs(run_dir: Path) -> list[Path]:
    """The folders of all other runs in the repository, the one written last first."""
    files = [*(ROOT / "runs").glob("*/manifest.json"), *(ROOT / "runs").glob("*/*/manifest.json")]
    files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return [file.parent for file in files if file.parent != run_dir]


def take_over(stage: str, values: Any, run_dir: Path, other: Path) -> bool:
    """Take a stage's artifacts and executed notebook from another run whose stage would be the same.

    It is the same when the other's is up to date for these parameters and read what it would read here. Large
    files become hard links, since no run writes into a file, it replaces it. A stage that this run
    has computed before, or whose files a person has edited since, is left to run: it may hold verdicts.

    Returns:
        Whether it was taken over; the manifest then names the other run in `taken_from`.
    """
    manifest = read_manifest(run_dir)
    own = manifest["stages"].get(stage)
    if own is not None and ("taken_from" not in own or changed_output(own, run_dir)):
        return False
    try:
        if out_of_date(stage, values, other) is not None or not is_executed(stage, other):
            return False
    except InputError:  # the other run's manifest is damaged
        return False
    entry = read_manifest(other)["stages"][stage]
    for name, record in entry["inputs"].items():
        if "stage" in record:
            found = find(run_dir, name, before=stage)
            if found is None or found[1].get("sha256") != record.get("sha256"):
                return False
    remove(run_dir / stage)
    for file in [*(record["path"] for record in entry["outputs"].values()), f"notebooks/{stage}.ipynb"]:
        link(other / file, run_dir / file)
    manifest["stages"][stage] = {"taken_from": os.path.relpath(other, run_dir), **entry}
    write_manifest(run_dir, manifest)
    return True


class _Output(BaseModel, extra="allow"):
    path: str
    sha256: str = ""

    @field_validator("path")
    @classmethod
    def _below_the_run(cls, path: str) -> str:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError("leaves the run's folder")
        return path


class _Entry(BaseModel, extra="allow"):
    """A stage's record, as far as it is there; see `Stage.finish`."""

    parameters: dict[str, Any] = {}
    code: str = ""
    inputs: dict[str, dict[str, Any]] = {}
    outputs: dict[str, _Output] = {}
    metrics: dict[str, Any] = {}
    seconds: float = 0.0


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run, `{"stages": {}}` where there is none yet.

    A stage's record of another form than ours is left out: the stage runs again.

    Raises:
        InputError: if the file is damaged, or no manifest of ours.
    """
    file = Path(run_dir) / "manifest.json"
    if not file.exists():
        return {"stages": {}}
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        stages = {name: entry for name, entry in manifest.get("stages", {}).items() if _is_entry(entry)}
        order(manifest.get("rounds", 1))
    except (ValueError, AttributeError, TypeError):
        raise InputError(
            _("{file} is damaged or of another program; move it away, then the run starts afresh").format(file=file)
        ) from None
    return manifest | {"stages": stages}


def _is_entry(entry: Any) -> bool:
    try:
        _Entry.model_validate(entry)
    except ValidationError:
        return False
    return True


def write_manifest(run_dir: Path, manifest: dict[str, Any]) -> None:
    write_atomic(run_dir / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def artifact_path(run_dir: str | Path, artifact: str) -> Path:
    """The latest version of an artifact of a run, for readers outside the pipeline."""
    return Path(run_dir) / _found(Path(run_dir), artifact)[1]["path"]


def _found(run_dir: Path, artifact: str) -> tuple[str, dict]:
    found = find(run_dir, artifact, before=None)
    if found is None:
        raise InputError(
            _("{run}: no {artifact} there; is it the folder of a finished run?").format(run=run_dir, artifact=artifact)
        )
    return found


def find(run_dir: Path, artifact: str, before: str | None) -> tuple[str, dict] | None:
    """The latest stage (before another) that wrote an artifact, and its record."""
    manifest = read_manifest(run_dir)
    stages = order(max(manifest.get("rounds", 1), round_of(before or "")))
    for stage in reversed(stages[: stages.index(before) if before else None]):
        record = manifest["stages"].get(stage, {}).get("outputs", {}).get(artifact)
        if record:
            return stage, record
    return None
