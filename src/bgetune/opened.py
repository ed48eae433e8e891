"""A finished run, opened for questions of one's own: its tables, metrics, model and scorer."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.paths import ROOT
from bgetune.runs import manifest

if TYPE_CHECKING:
    from bgetune.models import Encoder
    from bgetune.scoring import Scorer


class Run:
    """What a run made; everything is read when it is first asked for.

    Args:
        folder: of the run, such as runs/demo; a relative one is relative to the repository.

    Raises:
        InputError: if there is no finished stage.
    """

    def __init__(self, folder: str | Path):
        self.folder = ROOT / folder
        self.stages = manifest.read_manifest(self.folder)["stages"]
        if not self.stages:
            raise InputError(
                _("{folder}: there is no run, or none of its notebooks has finished; run ./run_all.sh first").format(
                    folder=self.folder
                )
            )
        self.tables = Tables(self.folder, self.stages)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Stage -> what its notebook measured."""
        return {stage: entry.get("metrics", {}) for stage, entry in self.stages.items()}

    @cached_property
    def model(self) -> Encoder:
        """The tuned model: `run.model.encode(texts)` gives vectors of length 1."""
        from bgetune.models import Encoder

        self._require("04_train")
        return Encoder(manifest.artifact_path(self.folder, "model"))

    @cached_property
    def scorer(self) -> Scorer:
        """Similarities, probabilities and thresholds, as production uses them."""
        from bgetune.scoring import Scorer

        self._require("05_calibrate")
        return Scorer.load(self.folder)

    def _require(self, stage: str) -> None:
        if not any(manifest.notebook_of(name) == stage for name in self.stages):
            words = _("{folder}: {stage} has not finished; run ./run_all.sh for this profile first")
            raise InputError(words.format(folder=self.folder, stage=stage))

    def __repr__(self) -> str:
        return f"<run {self.folder.name}: {', '.join(self.stages)}; tables: {', '.join(dir(self.tables))}>"


class Tables:
    """The tables of a run as attributes, each of the last stage that wrote it; `dir` and the Tab key list them."""

    def __init__(self, folder: Path, stages: dict[str, Any]):
        self._folder = folder
        self._known = {
            name
            for entry in stages.values()
            for name, record in entry.get("outputs", {}).items()
            if record["path"].endswith(".parquet")
        }

    def __dir__(self) -> list[str]:
        return sorted(self._known)

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._known:
            words = _("{folder} has no table {name}; it has {known}")
            raise InputError(words.format(folder=self._folder, name=name, known=", ".join(dir(self))))
        table = pd.read_parquet(manifest.artifact_path(self._folder, name))
        setattr(self, name, table)
        return table
