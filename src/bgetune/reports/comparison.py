"""Several runs on one page, ranked: what differs in their parameters, what they reach, and whether it may be chance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from bgetune import files
from bgetune.config.profile import Profile, resolve
from bgetune.config.stages import STAGES, Shared
from bgetune.reports import numbers, report, verdict
from bgetune.runs import manifest

RANKED_BY = "average_precision"
"""Of `verdict.MEASURES`, on test pairs: what the runs are ordered by. It weighs no threshold more than another."""

MEASURES = {
    RANKED_BY: verdict.MEASURES[RANKED_BY],
    **verdict.MEASURES,
    "calibration_error": ("Calibration error", "How far the calibrated probabilities are off (ECE)", "down"),
    "f1_at_own_threshold": ("F1 at dev's threshold", "At the threshold that is best on dev", "up"),
    "recall_at_0.95": (
        "Recall at 95 %",
        "Share of the positives above the threshold that promises 95 % precision",
        "up",
    ),
    "training_seconds": ("Training, s", "Seconds that notebook 04 took, all rounds together", "down"),
}
"""The columns of the page: key -> name, meaning, and whether more or less is better."""


def compare(profiles: Sequence[Profile], folders: Mapping[str, Path], failures: Mapping[str, str]) -> tuple[Path, str]:
    """Write `comparison.html` into the folder that the runs have in common.

    Args:
        profiles: the runs.
        folders: name of a run -> its folder.
        failures: name of a run that failed -> why.

    Returns:
        The page, and its main columns as text for the terminal.
    """
    page = Path(os.path.commonpath(list(folders.values()))) / "comparison.html"
    changed = differences(profiles)
    rows = _ranked(
        [
            _row(profile, folders[profile.name], failures.get(profile.name), page.parent)
            | {"changed": changed[profile.name]}
            for profile in profiles
        ]
    )
    content = report.environment().get_template("comparison.html.j2")
    text = content.render(
        run_name=page.parent.name,
        rows=rows,
        bases=_bases(rows),
        measures=MEASURES,
        ranked_by=RANKED_BY,
        parameters=list(rows[0]["changed"]),
        pairs=_same_pairs([row["judged"] for row in rows if row["judged"] is not None]),
    )
    files.write_atomic(page, text)
    return page, _text(rows)


def differences(profiles: Sequence[Profile]) -> dict[str, dict[str, str]]:
    """For each run the parameters that are not the same in all runs: name -> key in a profile -> value."""
    given = {profile.name: _parameters(profile) for profile in profiles}
    differing = {}
    for key in dict.fromkeys(key for values in given.values() for key in values):
        # a shared parameter to which a section gives no value of its own has the shared one there
        found = {name: values.get(key, values.get(key.partition(".")[2])) for name, values in given.items()}
        if any(value != found[profiles[0].name] for value in found.values()):
            differing[key] = found
    return {name: {key: _short(found[name]) for key, found in differing.items()} for name in given}


def _parameters(profile: Profile) -> dict[str, Any]:
    """All parameters of a run by their key in a profile; a shared one once, and where a section's value differs."""
    found: dict[str, Any] = {"rounds": profile.rounds}
    for stage in STAGES:
        section = resolve(stage, profile)[0].model_dump(mode="json")
        for key, value in _leaves(section):
            if key not in Shared.model_fields or found.setdefault(key, value) != value:
                found[f"{stage}.{key}"] = value
    return found


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _row(profile: Profile, folder: Path, failure: str | None, above: Path) -> dict[str, Any]:
    """What the page shows of a run; a failed one shows nothing that an earlier run has left in its folder."""
    stages = {} if failure else manifest.read_manifest(folder)["stages"]
    calibrated = stages.get("05_calibrate", {"metrics": {}, "outputs": {}})
    results = calibrated["metrics"]
    after = results.get("after", {})
    promised = [row["test_recall"] for row in results.get("thresholds", ()) if row["precision"] == 0.95]
    training = [
        stages[stage]["seconds"]
        for stage in manifest.order(profile.rounds)
        if stage in stages and manifest.notebook_of(stage) == "04_train"
    ]
    return {
        "name": profile.name.removeprefix(f"{above.name}/"),
        "values": {key: after.get(key) for key in MEASURES}
        | {
            "calibration_error": results.get("calibration", {}).get("ece"),
            "recall_at_0.95": promised[0] if promised else None,
            "training_seconds": round(sum(training)) if training else None,
        },
        "interval": after.get(f"{RANKED_BY}_interval"),
        "base": {key: results["before"].get(key) for key in MEASURES} if results else None,
        "judged": manifest.artifact_path(folder, "judged") if "judged" in calibrated["outputs"] else None,
        "link": quote(os.path.relpath(folder / "index.html", above)),
        "failure": failure,
    }


def _bases(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures of the base models, each once, with the names of the runs that started from it."""
    bases: list[dict[str, Any]] = []
    for row in rows:
        same = next((base for base in bases if base["values"] == row["base"]), None)
        if same:
            same["names"].append(row["name"])
        elif row["base"]:
            bases.append({"values": row["base"], "names": [row["name"]]})
    return bases


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows from the best to those without a result, with rank, the columns they are best in, and `tie`: the
    interval overlaps that of the best."""
    rows = sorted(rows, key=lambda row: row["values"][RANKED_BY] is None or -row["values"][RANKED_BY])
    values = {key: [row["values"][key] for row in rows if row["values"][key] is not None] for key in MEASURES}
    best = {key: (max if MEASURES[key][2] == "up" else min)(found) for key, found in values.items() if found}
    top = rows[0]["interval"]
    for number, row in enumerate(rows, start=1):
        row["rank"] = number if row["values"][RANKED_BY] is not None else None
        row["best"] = {key for key, value in row["values"].items() if value is not None and value == best[key]}
        low, high = row["interval"] or (1, 0)
        row["tie"] = bool(number > 1 and top and low <= high and low <= top[1] and top[0] <= high)
    return rows


def _same_pairs(judged: Sequence[Path]) -> dict[str, int] | None:
    """How many test pairs any run was judged on, and how many all were; None where fewer than two say."""
    columns = ["query_id", "text_id", "label", "split"]
    tables = [pd.read_parquet(file, columns=columns) for file in judged]
    pairs = [set(table[table["split"] == "test"].itertuples(index=False, name=None)) for table in tables]
    return {"any": len(set.union(*pairs)), "all": len(set.intersection(*pairs))} if len(pairs) > 1 else None


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ranking as a table for the terminal."""
    keys = [RANKED_BY, "auc", "best_f1", "calibration_error", "training_seconds"]
    cells = [["rank", "run", *(MEASURES[key][0] for key in keys)]]
    for row in rows:
        values = [numbers.number(row["values"][key]) for key in keys]
        cells.append(["" if row["rank"] is None else f"{row['rank']}{'≈' * row['tie']}", row["name"], *values])
        if row["failure"]:
            cells[-1][2:] = ["failed", *[""] * (len(keys) - 1)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(c.ljust(w) if n < 2 else c.rjust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in cells
    ]
    ties = any(row["tie"] for row in rows)
    note = ["  ≈ the 95 % interval overlaps that of the best: the difference may be chance"] if ties else []
    return "\n".join([f"  {line.rstrip()}" for line in lines] + note)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
