"""A run's folder: artifacts, the manifest, and the question whether a stage is up to date.

    runs/NAME/
      manifest.json            per stage: parameters, inputs, outputs with SHA-256, versions, seconds, metrics
      01_positives/            the artifacts of a stage, written to a temporary name and renamed
      ...
      03_hard_negatives.2/     those of a second round of mining and training

A stage's inputs are recorded as the notebook reads them, as `make` with generated dependencies does: a stage is up
to date when its parameters and code are those of the last run and everything it then read and wrote is unchanged.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from bgetune import params
from bgetune.errors import InputError
from bgetune.params import ROOT, ROUND, STAGES

LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "FlagEmbedding",
    "faiss-cpu",
    "numpy",
    "pandas",
    "scikit-learn",
    "ibis-framework",
    "duckdb",
    "papermill",
)


def cache_root() -> Path:
    """Where caches lie (`data/`, `models/`): the repository, or the folder that BGETUNE_CACHE names."""
    return Path(os.environ.get("BGETUNE_CACHE", ROOT))


def run_folder(profile: params.Profile, run_dir: str | Path | None = None) -> Path:
    """The folder of a profile's run, `runs/NAME` unless given; a relative one is relative to the repository."""
    return ROOT / (run_dir or f"runs/{profile.name}")


@dataclass(frozen=True)
class Parameters:
    """The parameters of a stage: `table` has the columns value and from."""

    table: pd.DataFrame

    def _repr_html_(self) -> str:
        chosen = int((self.table["from"] != "default").sum())
        summary = f"{len(self.table)} parameters, {chosen} of them not at their default"
        table = self.table.rename_axis(index=None).to_html()
        return f"<details><summary>{summary}</summary>{table}</details>"


@dataclass
class Stage:
    """One notebook at work: its parameters, and its way to read and write artifacts.

    Attributes:
        name: a key of `params.STAGES`; from the second round on with the round's number, 04_train.2.
        params: the resolved parameters.
        origins: where each parameter's value came from.
        run_dir: the run's folder.
        folder: the stage's own folder in it.
    """

    name: str
    params: Any
    origins: dict[str, str]
    run_dir: Path
    started: float = field(default_factory=time.time)
    inputs: dict[str, dict] = field(default_factory=dict)
    outputs: dict[str, dict] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.run_dir / self.name

    def parameters(self) -> Parameters:
        """The resolved values and where each came from; a notebook shows them folded."""
        rows = [(name, _shown(getattr(self.params, name)), origin) for name, origin in self.origins.items()]
        return Parameters(pd.DataFrame(rows, columns=["parameter", "value", "from"]).set_index("parameter"))

    def has(self, artifact: str) -> bool:
        """Whether an earlier stage wrote the artifact."""
        return _find(self.run_dir, artifact, before=self.name) is not None

    def path(self, artifact: str) -> Path:
        """The file or folder of an artifact of an earlier stage (the latest that wrote it), recorded as input.

        Raises:
            InputError: if it was never made, or was changed after it was made.
        """
        found = _find(self.run_dir, artifact, before=self.name)
        if found is None:
            raise InputError(
                f"{self.name}: {artifact} is not in {self.run_dir}; run the notebooks before {self.name} first, "
                f"or everything with ./run_all.sh"
            )
        stage, record = found
        file = self.run_dir / record["path"]
        if not file.exists() or fingerprint(file, record) != record["sha256"]:
            raise InputError(f"{file} is not as {stage} wrote it; run again with --from {stage[:2]}")
        self.inputs[artifact] = {"stage": stage, "sha256": record["sha256"]}
        return file

    def read(self, artifact: str) -> pd.DataFrame:
        """A table of an earlier stage, checked against its schema."""
        from bgetune import tables  # here, since pandera's import is half of a search in vectors that are cached

        return tables.check(artifact, pd.read_parquet(self.path(artifact)))

    def use(self, location: str | Path) -> Path:
        """A file or model folder from outside the run (a source, a model), recorded as input; demo:// is made."""
        file = locate(location)
        self.inputs[str(location)] = describe(file)
        return file

    def use_model(self, location: str) -> str:
        """A model's folder or hub name, recorded as input."""
        if is_hub_name(location):
            self.inputs[location] = {"hub": location}
            return location
        return str(self.use(location))

    def write(self, artifact: str, table: pd.DataFrame) -> Path:
        """Write a table as Parquet, checked against its schema."""
        from bgetune import tables

        table = tables.check(artifact, table)
        with self.writing(f"{artifact}.parquet", rows=len(table)) as file:
            table.to_parquet(file, index=False)
        return self.folder / f"{artifact}.parquet"

    @contextmanager
    def writing(self, filename: str, rows: int | None = None) -> Iterator[Path]:
        """A temporary path that becomes the artifact `filename` when the block ends without an error.

        The block writes a file there, or makes a folder. The artifact's name is the file's name without `.parquet`.
        """
        target = self.folder / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        _remove(temporary)
        try:
            yield temporary
            if target.is_dir():
                _remove(target)
            os.replace(temporary, target)
        finally:
            _remove(temporary)
        record = {"path": str(target.relative_to(self.run_dir)), **describe(target)}
        self.outputs[filename.removesuffix(".parquet")] = record | ({} if rows is None else {"rows": rows})

    def finish(self, **metrics: Any) -> None:
        """Record the stage in the manifest: the last cell of every notebook."""
        entry = {
            "parameters": self.params.model_dump(mode="json"),
            "code": code_hash(notebook_of(self.name)),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "metrics": metrics,
            "seed": self.params.seed,
            "device": device_name(),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 1),
            "versions": {"python": platform.python_version(), **_versions()},
            "git": _git_revision(),
        }
        manifest = read_manifest(self.run_dir)
        manifest["stages"][self.name] = json.loads(json.dumps(entry, default=_plain))
        _write_manifest(self.run_dir, manifest)


def start(stage: str, arguments: dict[str, Any]) -> Stage:
    """Begin a notebook.

    Args:
        stage: the notebook's name, for example "01_positives".
        arguments: the notebook's variables (`globals()`): `profile`, `run_dir`, `round_number` and its parameters.

    Raises:
        InputError: naming the profile's line or the parameter.
    """
    profile = params.load_profile(arguments["profile"])
    values, origins = params.resolve(stage, profile, arguments)
    run_dir = run_folder(profile, arguments.get("run_dir"))
    set_rounds(run_dir, profile.rounds)
    number = arguments.get("round_number", 1)
    return Stage(stage if number == 1 else f"{stage}.{number}", values, origins, run_dir)


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


def is_last_round(stage: Stage) -> bool:
    """Whether no later round repeats what this stage does."""
    return round_of(stage.name) == read_manifest(stage.run_dir).get("rounds", 1)


def set_rounds(run_dir: Path, rounds: int) -> None:
    """Record how many rounds count in a run: what further ones made stays where it is, and is not read."""
    manifest = read_manifest(run_dir)
    if manifest.get("rounds", 1) != rounds:
        _write_manifest(run_dir, manifest | {"rounds": rounds})


def out_of_date(stage: str, values: Any, run_dir: Path) -> str | None:
    """Why a stage must run (again), or None if it is up to date."""
    entry = read_manifest(run_dir)["stages"].get(stage)
    if entry is None:
        return "never run"
    if entry["parameters"] != json.loads(values.model_dump_json()):
        old = entry["parameters"]
        new = json.loads(values.model_dump_json())
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return f"changed parameters: {', '.join(changed)}"
    if entry["code"] != code_hash(notebook_of(stage)):
        return "changed code"
    for name, record in entry["inputs"].items():
        if "stage" in record:
            found = _find(run_dir, name, before=stage)
            if found is None or found[1]["sha256"] != record["sha256"]:
                return f"changed input: {name}"
        elif "hub" not in record:
            file = locate(name)
            if not file.exists() or fingerprint(file, record) != record["sha256"]:
                return f"changed input: {name}"
    changed = changed_output(entry, run_dir)
    return changed and f"changed output: {changed}"


def changed_output(entry: dict[str, Any], run_dir: Path) -> str | None:
    """The first artifact of a stage's record that is no longer as the stage wrote it."""
    for name, record in entry["outputs"].items():
        file = run_dir / record["path"]
        if not file.exists() or fingerprint(file, record) != record["sha256"]:
            return name
    return None


def take_over(stage: str, values: Any, run_dir: Path, other: Path) -> bool:
    """Take a stage's artifacts and executed notebook from another run whose stage would be the same.

    It is the same when the other's is up to date for these parameters and read what it would read here. Files become
    hard links (copies where the file system has none): no run writes into a file, it replaces it. A stage that this run
    has computed before, or whose files a person has edited since, is left to run: it may hold verdicts.

    Returns:
        Whether it was taken over; the manifest then names the other run in `taken_from`.
    """
    manifest = read_manifest(run_dir)
    own = manifest["stages"].get(stage)
    if own is not None and ("taken_from" not in own or changed_output(own, run_dir)):
        return False
    if out_of_date(stage, values, other) is not None:
        return False
    entry = read_manifest(other)["stages"][stage]
    for name, record in entry["inputs"].items():
        if "stage" in record:
            found = _find(run_dir, name, before=stage)
            if found is None or found[1]["sha256"] != record["sha256"]:
                return False
    _remove(run_dir / stage)
    for file in [*(record["path"] for record in entry["outputs"].values()), f"notebooks/{stage}.ipynb"]:
        _link(other / file, run_dir / file)
    manifest["stages"][stage] = {"taken_from": os.path.relpath(other, run_dir), **entry}
    _write_manifest(run_dir, manifest)
    return True


def read_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run, `{"stages": {}}` where there is none yet."""
    file = Path(run_dir) / "manifest.json"
    if not file.exists():
        return {"stages": {}}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{file} is damaged; delete it and run again with --force") from None


def _write_manifest(run_dir: Path, manifest: dict[str, Any]) -> None:
    write_atomic(run_dir / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def artifact_path(run_dir: str | Path, artifact: str) -> Path:
    """The latest version of an artifact of a run, for readers outside the pipeline."""
    found = _find(Path(run_dir), artifact, before=None)
    if found is None:
        raise InputError(f"{run_dir}: no {artifact} there; is it the folder of a finished run?")
    return Path(run_dir) / found[1]["path"]


def write_atomic(file: Path, text: str) -> None:
    """Write UTF-8 text to a temporary name and rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


# --- locations ----------------------------------------------------------------------------------------------------


def locate(location: str | Path) -> Path:
    """The path of a file or folder: absolute, relative to the repository, or demo:// (made when missing).

    Raises:
        InputError: if a demo:// location is unknown. Whether the file exists is not checked.
    """
    if str(location).startswith("demo://"):
        from bgetune import demo

        return demo.resolve(str(location))
    return ROOT / Path(location).expanduser()


def is_hub_name(location: str) -> bool:
    """Whether a model location is a hub name such as BAAI/bge-small-zh-v1.5: two plain parts, no such folder."""
    if location.startswith(("demo://", "/", ".", "~")):
        return False
    return location.count("/") == 1 and not locate(location).exists()


# --- hashes -------------------------------------------------------------------------------------------------------


def describe(path: Path) -> dict[str, Any]:
    """Size, time of change and SHA-256 of a file, or of all files below a folder."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return {**_stat(path), "sha256": sha256(path)}


def fingerprint(path: Path, known: dict[str, Any]) -> str:
    """The SHA-256 of a path; the known one while size and time of change are the known ones."""
    return known["sha256"] if _stat(path).items() <= known.items() else sha256(path)


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


@cache
def code_hash(stage: str) -> str:
    """SHA-256 of a notebook's cells and of every module of bgetune that it imports, directly or not."""
    notebook = json.loads((ROOT / "notebooks" / f"{stage}.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    code = "\n".join(
        source for cell, source in zip(notebook["cells"], sources, strict=True) if cell["cell_type"] == "code"
    )
    package = Path(__file__).parent
    seen: set[Path] = set()
    todo = _imported(code, package)
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo |= _imported(file.read_text(encoding="utf-8"), package)
    digest = hashlib.sha256("\0".join(sources).encode())
    for file in sorted(seen):
        digest.update(f"{file.relative_to(package)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def _imported(code: str, package: Path) -> set[Path]:
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bgetune":
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.split(".")[0] == "bgetune")
    bases = [package.joinpath(*name.split(".")[1:]) for name in names]
    files = [base.with_suffix(".py") for base in bases if base != package] + [base / "__init__.py" for base in bases]
    return {file for file in files if file.is_file()}


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _stat(path: Path) -> dict[str, int]:
    stats = [file.stat() for file in ([path] if path.is_file() else _files(path))]
    return {
        "bytes": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _find(run_dir: Path, artifact: str, before: str | None) -> tuple[str, dict] | None:
    """The latest stage (before another) that wrote an artifact, and its record."""
    manifest = read_manifest(run_dir)
    stages = order(max(manifest.get("rounds", 1), round_of(before or "")))
    for stage in reversed(stages[: stages.index(before) if before else None]):
        record = manifest["stages"].get(stage, {}).get("outputs", {}).get(artifact)
        if record:
            return stage, record
    return None


def _link(source: Path, target: Path) -> None:
    """A hard link to a file, or to each file below a folder; a copy where there can be none."""
    for file in [source] if source.is_file() else _files(source):
        copy = target if file == source else target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- what the manifest says of the machine ------------------------------------------------------------------------


def device_name() -> str:
    """The accelerator torch would take, "cpu" where there is none or torch was not needed."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}


def _git_revision() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(value: Any) -> Any:
    """A NumPy number or array, or a path, as JSON takes it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=lambda model: model.model_dump(exclude_defaults=True))
    return text if len(text) <= 200 else text[:197] + "..."
