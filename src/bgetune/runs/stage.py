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

import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from bgetune import hubs, locale
from bgetune.config.profile import Profile, load_profile, require_model, resolve
from bgetune.errors import InputError
from bgetune.files import describe, fingerprint, fitting, is_pattern, remove, sha256, temporary_name
from bgetune.locale import _
from bgetune.paths import ROOT, is_hub_name, locate
from bgetune.runs.code import code_hash
from bgetune.runs.manifest import (
    find,
    is_lab,
    notebook_of,
    order,
    read_manifest,
    round_of,
    set_rounds,
    stages,
    write_manifest,
)

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


def run_folder(profile: Profile, run_dir: str | Path | None = None) -> Path:
    """The folder of a profile's run, `runs/NAME` unless given; a relative one is relative to the repository."""
    return ROOT / (run_dir or f"runs/{profile.name}")


@dataclass
class Stage:
    """One notebook at work: its parameters, and its way to read and write artifacts.

    Attributes:
        name: a key of `STAGES`; from the second round on with the round's number, 04_train.2.
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

    @property
    def in_lab(self) -> bool:
        """Whether somebody explores: the run is one of `bgetune.lab`."""
        return is_lab(self.run_dir)

    def parameters(self) -> pd.DataFrame:
        """The resolved values and where each came from: index parameter, columns value and from."""
        rows = [(name, _shown(getattr(self.params, name)), origin) for name, origin in self.origins.items()]
        return pd.DataFrame(rows, columns=["parameter", "value", "from"]).set_index("parameter")

    def has(self, artifact: str) -> bool:
        """Whether an earlier stage wrote the artifact."""
        return find(self.run_dir, artifact, before=self.name) is not None

    def path(self, artifact: str) -> Path:
        """The file or folder of an artifact of an earlier stage (the latest that wrote it), recorded as input.

        Raises:
            InputError: if it was never made, or was changed after it was made.
        """
        found = find(self.run_dir, artifact, before=self.name)
        if found is None:
            raise InputError(
                _(
                    "{stage}: {artifact} is not in {folder}; run the notebooks before {stage} first, or everything "
                    "with ./run_all.sh"
                ).format(stage=self.name, artifact=artifact, folder=self.run_dir)
            )
        stage, record = found
        file = self.run_dir / record["path"]
        known = {} if self.name == order()[-1] else record  # what the last stage makes is handed over: hashed anew
        if not file.exists() or fingerprint(file, known) != record.get("sha256"):
            raise InputError(
                _("{file} is not as {stage} wrote it; run again with --from {number}").format(
                    file=file, stage=stage, number=stage[:2]
                )
            )
        self.inputs[artifact] = {"stage": stage, "sha256": record["sha256"]}
        return file

    def made(self, artifact: str) -> Path:
        """The file or folder of an artifact that this stage wrote, hashed again: before it is handed over.

        Raises:
            InputError: if it was changed after it was made.
        """
        record = self.outputs[artifact]
        file = self.run_dir / record["path"]
        if not file.exists() or sha256(file) != record["sha256"]:
            raise InputError(
                _("{file} was changed after {stage} wrote it; run again with --from {number}").format(
                    file=file, stage=self.name, number=self.name[:2]
                )
            )
        return file

    def read(self, artifact: str) -> pd.DataFrame:
        """A table of an earlier stage, checked against its schema."""
        from bgetune.data import tables  # here, since pandera's import is half of a search in vectors that are cached

        return tables.check(artifact, pd.read_parquet(self.path(artifact)))

    def use(self, location: str | Path) -> Path:
        """A file or model folder from outside the run (a source, a model), recorded as input; demo:// is made.

        Of a pattern (`data/log-*.csv`) the names that fit it are recorded: the stage runs again when there are others.
        """
        file = locate(location)
        names = is_pattern(str(location)) and not file.exists()
        self.inputs[str(location)] = {"fitting": fitting(file)} if names else describe(file)
        return file

    def use_model(self, location: str) -> str:
        """A model's folder or hub name, recorded as input: of a hub's model, revision and checksum.

        Raises:
            InputError: if an earlier stage of the run read another revision.
        """
        if is_hub_name(location):
            folder = hubs.download(location)
            self.inputs[location] = {"hub": location, "revision": folder.name, "sha256": hubs.fingerprint(folder)}
            self._check_revision(location)
            return location
        return str(self.use(location))

    def _check_revision(self, location: str) -> None:
        """A model that its owner changed between two stages would give vectors that do not belong together."""
        recorded = read_manifest(self.run_dir)["stages"]
        for stage in itertools.takewhile(lambda stage: stage != self.name, stages(self.run_dir)):
            before = recorded.get(stage, {}).get("inputs", {}).get(location, {})
            if before.get("sha256", self.inputs[location]["sha256"]) != self.inputs[location]["sha256"]:
                raise InputError(
                    _(
                        "{model} is not as {stage} read it: its owner has changed it at the hub since; run again with "
                        "--from {number}, or give a folder that stays as it is"
                    ).format(model=location, stage=stage, number=stage[:2])
                )

    def write(self, artifact: str, table: pd.DataFrame) -> Path:
        """Write a table as Parquet, checked against its schema."""
        from bgetune.data import tables

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
        temporary = temporary_name(target)
        remove(temporary)
        try:
            yield temporary
            if target.is_dir():
                remove(target)
            os.replace(temporary, target)
        finally:
            remove(temporary)
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
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 1),
            "versions": {"python": platform.python_version(), **_versions()},
            "git": _git_revision(),
        }
        manifest = read_manifest(self.run_dir)
        manifest["stages"][self.name] = json.loads(json.dumps(entry, default=_plain))
        write_manifest(self.run_dir, manifest)


def start(stage: str, arguments: dict[str, Any]) -> Stage:
    """Begin a notebook.

    Args:
        stage: the notebook's name, for example "01_positives".
        arguments: the notebook's variables (`globals()`): `profile`, `run_dir`, `round_number` and its parameters.

    Raises:
        InputError: naming the profile's line or the parameter.
    """
    profile = load_profile(arguments["profile"])
    locale.use(profile.language)
    values, origins = resolve(stage, profile, arguments)
    require_model(values, profile)
    run_dir = run_folder(profile, arguments.get("run_dir"))
    set_rounds(run_dir, profile.rounds)
    if (batch := read_manifest(run_dir).get("lab_of")) is not None:
        words = _("This notebook writes to {folder}. It starts from {batch}, which stays as it is.")
        print(words.format(folder=run_dir, batch=(run_dir / batch).resolve()))
    number = arguments.get("round_number", 1)
    return Stage(stage if number == 1 else f"{stage}.{number}", values, origins, run_dir)


def is_last_round(stage: Stage) -> bool:
    """Whether no later round repeats what this stage does."""
    return round_of(stage.name) == read_manifest(stage.run_dir).get("rounds", 1)


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
