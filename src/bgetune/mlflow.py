"""Logs a finished run to MLflow: one MLflow run a profile, with parameters, metrics and pages from the manifest.

python -m bgetune.mlflow runs/mine
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.runs.manifest import artifact_path, read_manifest

LONGEST = 6000
"""Characters of a parameter that MLflow stores."""
BATCH = 100
"""Parameters that an MLflow server takes at once."""
LAST = "05_calibrate"


def log(run_dir: Path, *, uri: str | None = None, experiment: str = "bgetune", model: bool = False) -> str:
    """Log a finished run.

    Args:
        uri: of the tracking server or store; None: `MLFLOW_TRACKING_URI`, else as MLflow chooses.
        experiment: made if it is not there.
        model: also upload the tuned model's folder.

    Returns:
        The id of the MLflow run.

    Raises:
        InputError: if the run is not finished, or MLflow is not installed or refuses.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        message = _("{module} is missing; pip install 'bgetune[mlflow]'")
        raise InputError(message.format(module=error.name)) from None

    scoring = artifact_path(run_dir, "scoring.json")
    stages = read_manifest(run_dir)["stages"]
    shown = [*sorted(run_dir.glob("*.html")), run_dir / "manifest.json", run_dir / "profile.yaml"]
    try:
        if uri is not None:
            mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=run_dir.resolve().name) as logged:
            given = list(parameters(stages).items())
            for start in range(0, len(given), BATCH):
                mlflow.log_params(dict(given[start : start + BATCH]))
            mlflow.log_metrics(metrics(stages))
            mlflow.set_tags({"bgetune.git": stages[LAST].get("git"), "bgetune.started": stages[LAST].get("started")})
            for file in (file for file in shown if file.is_file()):
                mlflow.log_artifact(str(file))
            for file in (scoring, artifact_path(run_dir, "README.md")):
                mlflow.log_artifact(str(file), "05_calibrate")
            if model:
                mlflow.log_artifacts(str(artifact_path(run_dir, "model")), "model")
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(_("MLflow refused the run: {reason}; correct --uri").format(reason=reason)) from None
    return logged.info.run_id


def parameters(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """``STAGE.parameter`` -> its value as text, cut to what MLflow stores."""
    return {
        f"{_name(stage)}.{_name(key)}": str(value)[:LONGEST]
        for stage, entry in stages.items()
        for key, value in entry.get("parameters", {}).items()
    }


def metrics(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """``STAGE/name/name`` -> every number that a notebook recorded, and the seconds that it took; no NaN."""
    found = {}
    for stage, entry in stages.items():
        for path, value in _numbers(entry.get("metrics", {}), (stage,)):
            found["/".join(map(_name, path))] = value
        found[f"{_name(stage)}/seconds"] = float(entry.get("seconds", 0))
    return found


def _numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, (*path, str(key)))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            # rows of a table are told apart by what stays where it is when rows are added
            row = item if isinstance(item, Mapping) else {}
            named = row.get("scored by", f"{row['precision']:g}" if "precision" in row else str(place))
            score = f" {row['decided by']}" if "decided by" in row else ""
            yield from _numbers(item, (*path, named + score))
    elif isinstance(value, int | float) and math.isfinite(value):
        yield path, float(value)


def _name(text: str) -> str:
    """A name as MLflow takes it: no characters but letters, digits and a few signs; at most 60 of them."""
    return re.sub(r"[^\w\-. :]", "_", text, flags=re.ASCII)[:60]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m bgetune.mlflow", description=_("Log finished runs to MLflow. Needs bgetune[mlflow].")
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help=_("folder of a finished run, for example runs/demo"))
    parser.add_argument(
        "--uri", default=os.environ.get("MLFLOW_TRACKING_URI"), help=_("of the tracking server or store")
    )
    parser.add_argument("--experiment", default="bgetune", help=_("default: %(default)s"))
    parser.add_argument("--model", action="store_true", help=_("also upload the tuned model"))
    options = parser.parse_args(arguments)
    try:
        for run in options.runs:
            number = log(Path(run), uri=options.uri, experiment=options.experiment, model=options.model)
            print(_("{run}: logged as MLflow run {number}").format(run=run, number=number))
    except InputError as error:
        print(_("error: {message}").format(message=error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
