"""Several runs on one page: what differs in their parameters, which is best on dev, and whether that may be chance.

The choice among runs is made on dev. Test is shown for the one that is chosen alone: the best of many test figures
would be the luckiest as much as the best.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from bgetune import files
from bgetune.config.profile import Profile, resolve
from bgetune.config.stages import STAGES, Shared
from bgetune.locale import N_, _
from bgetune.metrics.separation import crowded_band, separation
from bgetune.metrics.statistics import bootstrap, interval
from bgetune.reports import numbers, pages, report, sections, tables, verdict
from bgetune.runs import manifest

RANKED_BY = verdict.JUDGED_BY
"""On dev pairs: what the runs are ordered by. It weighs no threshold more than another."""

DEV_MEASURES = (RANKED_BY, "auc", "overlap", "crowded_share")
"""Of `verdict.MEASURES`: those that are computed on the dev pairs of the table `judged`."""

MEASURES = {key: verdict.MEASURES[key] for key in (*DEV_MEASURES, "mean_squared_cosine_random")} | {
    "recall_at_0.95": (
        N_("Recall at 95 %"),
        N_("Share of the positives above the threshold that guarantees 95 % precision"),
        "up",
    ),
    "training_seconds": (N_("Training, s"), N_("Seconds that notebook 04 took, all rounds together"), "down"),
}
"""The columns of the page: key -> name, meaning, and whether more or less is better."""

RESAMPLES = 300


def compare(profiles: Sequence[Profile], folders: Mapping[str, Path], failures: Mapping[str, str]) -> tuple[Path, str]:
    """Write `comparison.html` into the folder that the runs have in common, and link to it from their index pages.

    Args:
        profiles: the runs.
        folders: name of a run -> its folder.
        failures: name of a run that failed -> why.

    Returns:
        The page, and its main columns as text for the terminal.
    """
    page = Path(os.path.commonpath(list(folders.values()))) / "comparison.html"
    changed = differences(profiles)
    found = [
        _row(profile, folders[profile.name], failures.get(profile.name), page.parent)
        | {"changed": changed[profile.name]}
        for profile in profiles
    ]
    rows = _ranked(found + _bases(found))
    ranking = tables.table(_frame(rows), digits=3, looks=_looks(rows))
    judged = [row["judged"] for row in rows if row["judged"] is not None]
    text = (
        report.environment()
        .get_template("comparison.html.j2")
        .render(
            run_name=page.parent.name,
            rows=rows,
            ranking=ranking,
            advice=advice(rows),
            winner=next((row for row in rows if row["rank"] == 1), None),
            on_test=_on_test(rows),
            meanings=tables.table(
                pd.DataFrame(
                    [(_(name), _(meaning)) for name, meaning, _wanted in MEASURES.values()],
                    columns=[N_("measure"), N_("what it says")],
                ).set_index("measure")
            ),
            pairs=_same_pairs(judged),
        )
    )
    files.write_atomic(page, text)
    for profile in profiles:
        if profile.name not in failures and (folders[profile.name] / "index.html").exists():
            pages.write_pages(folders[profile.name], profile.name)  # the index now has a comparison to link to
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


# --- the rows -----------------------------------------------------------------------------------------------------


def _row(profile: Profile, folder: Path, failure: str | None, above: Path) -> dict[str, Any]:
    """What the page shows of a run; a failed one shows nothing that an earlier run has left in its folder."""
    stages = {} if failure else manifest.read_manifest(folder)["stages"]
    calibrated = stages.get("05_calibrate", {"metrics": {}, "outputs": {}})
    results = calibrated["metrics"]
    guaranteed = [row["recall"] for row in results.get("thresholds", ()) if row["precision"] == 0.95]
    training = [
        stages[stage]["seconds"]
        for stage in manifest.order(profile.rounds)
        if stage in stages and manifest.notebook_of(stage) == "04_train"
    ]
    judged = None
    if "judged" in calibrated["outputs"]:
        judged = pd.read_parquet(manifest.artifact_path(folder, "judged"))
    return {
        "name": profile.name.removeprefix(f"{above.name}/"),
        "values": _on_dev(judged, "after")
        | {
            "mean_squared_cosine_random": results.get("after", {}).get("mean_squared_cosine_random"),
            "recall_at_0.95": guaranteed[0] if guaranteed else None,
            "training_seconds": round(sum(training)) if training else None,
        },
        "results": results,
        "judged": judged,
        "model": "after",
        "link": quote(os.path.relpath(folder / "index.html", above)),
        "failure": failure,
    }


def _on_dev(judged: pd.DataFrame | None, model: str) -> dict[str, float | None]:
    """The measures of a model on the dev pairs of a run; None where there are none."""
    dev = judged[judged["split"] == "dev"] if judged is not None else pd.DataFrame({"label": []})
    if dev["label"].nunique() < 2:
        return dict.fromkeys(DEV_MEASURES)
    found = separation(dev[model].to_numpy(), dev["label"].to_numpy(), band=crowded_band(dev["before"].to_numpy()))
    return {key: float(found[key][0]) for key in DEV_MEASURES}


def _bases(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each untuned model, with the names of the runs that started from it."""
    bases: list[dict[str, Any]] = []
    for row in rows:
        if row["judged"] is None:
            continue
        values = _on_dev(row["judged"], "before")
        values["mean_squared_cosine_random"] = row["results"].get("before", {}).get("mean_squared_cosine_random")
        same = next((base for base in bases if base["values"].items() >= values.items()), None)
        if same:
            same["names"].append(row["name"])
        else:
            base = {"values": dict.fromkeys(MEASURES) | values, "names": [row["name"]], "judged": row["judged"]}
            empty = {"link": None, "failure": None, "results": {}, "changed": dict.fromkeys(row["changed"], "")}
            bases.append(base | {"model": "before"} | empty)
    for base in bases:
        of = "" if len(bases) == 1 else _(" of {runs}").format(runs=", ".join(base["names"]))
        base["name"] = _("base model{of}, untuned").format(of=of)
    return bases


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows from the best to those without a result, with rank, the columns they are best in, and the lead over
    the next: ``lead`` and ``lead_interval`` on the dev pairs that both were judged on."""
    rows = sorted(rows, key=lambda row: row["values"][RANKED_BY] is None or -row["values"][RANKED_BY])
    values = {key: [row["values"][key] for row in rows if row["values"][key] is not None] for key in MEASURES}
    best = {key: (max if MEASURES[key][2] == "up" else min)(found) for key, found in values.items() if found}
    for number, row in enumerate(rows, start=1):
        row["rank"] = number if row["values"][RANKED_BY] is not None else None
        row["best"] = {key for key, value in row["values"].items() if value is not None and value == best[key]}
        row["lead"] = row["lead_interval"] = None
    for row, following in pairwise(row for row in rows if row["rank"]):
        row["lead"], row["lead_interval"] = lead(row, following)
    return rows


def lead(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[float | None, list[float] | None]:
    """How far one row is ahead of another on the dev pairs that both were judged on, with the 95 % interval of that."""
    key = ["query_id", "text_id"]
    tables = [
        row["judged"]
        .loc[row["judged"]["split"] == "dev", [*key, "label", "cluster_id", row["model"]]]
        .rename(columns={row["model"]: "score"})
        for row in (first, second)
    ]
    both = tables[0].merge(tables[1], on=[*key, "label"], suffixes=("_a", "_b"))
    if both["label"].nunique() < 2:
        return None, None
    labels = both["label"].to_numpy()

    def ahead(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        a, b = (separation(both[name].to_numpy(), labels, weights)[RANKED_BY] for name in ("score_a", "score_b"))
        return {"lead": a - b}

    drawn = bootstrap(ahead, both["cluster_id_a"], RESAMPLES)["lead"]
    return float(ahead(None)["lead"][0]), interval(drawn)


def is_tie(row: Mapping[str, Any]) -> bool:
    """Whether a row's lead over the next may be chance."""
    bounds = row["lead_interval"]
    return bounds is not None and bounds[0] <= 0 <= bounds[1]


def _same_pairs(judged: Sequence[pd.DataFrame]) -> dict[str, int] | None:
    """How many dev pairs any run was judged on, and how many all were; None where fewer than two say."""
    columns = ["query_id", "text_id", "label"]
    pairs = [set(t.loc[t["split"] == "dev", columns].itertuples(index=False, name=None)) for t in judged]
    return {"any": len(set.union(*pairs)), "all": len(set.intersection(*pairs))} if len(pairs) > 1 else None


# --- what to take -------------------------------------------------------------------------------------------------


def advice(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which model to take, in a sentence or two.

    Args:
        rows: ranked, as the page shows them.
    """
    ranked = [row for row in rows if row["rank"]]
    if not ranked:
        return _("No run has finished: there is nothing to choose from.")
    winner = ranked[0]
    if winner["model"] == "before":
        return _("Keep the base model: no run ranks above it on dev.")
    tied = _tied(ranked)
    if len(tied) == 1:
        if len(ranked) == 1 or winner["lead_interval"] is None:
            return _("Take {run}.").format(run=winner["name"])
        return _("Take {run}: its lead over {next} on dev is {lead} (95 % interval {bounds}).").format(
            run=winner["name"],
            next=ranked[1]["name"],
            lead=numbers.signed(winner["lead"]),
            bounds=numbers.interval(winner["lead_interval"], signs=True),
        )
    if any(row["model"] == "before" for row in tied):
        return _(
            "Keep the base model, or judge on more pairs: {run} ranks first on dev, but its lead over the base may be "
            "chance."
        ).format(run=winner["name"])
    cheapest = min(tied, key=lambda row: row["values"]["training_seconds"] or float("inf"))
    text = _("{run} ranks first on dev, but its lead over {others} may be chance.")
    said = text.format(run=winner["name"], others=", ".join(row["name"] for row in tied[1:]))
    if cheapest is winner:
        return said + " " + _("Take it: it is also the fastest of them to train.")
    return said + " " + _("Take {run} where training time counts, the fastest of them.").format(run=cheapest["name"])


def _tied(ranked: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The winner, and those after it whose distance to it may be chance."""
    winner, *others = ranked
    tied = [winner]
    for row in others:
        bounds = winner["lead_interval"] if row is others[0] else lead(winner, row)[1]
        if bounds is None or not bounds[0] <= 0 <= bounds[1]:
            break
        tied.append(row)
    return tied


def _on_test(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Test, for the winner alone: the verdict and the headline table of its index page."""
    winner = next((row for row in rows if row["rank"] == 1), None)
    if winner is None or not winner["results"]:
        return None
    results = winner["results"]
    return {"sentences": verdict.sentences(results), "headline": sections.headline(results, verdict.MEASURES)}


# --- how it looks -------------------------------------------------------------------------------------------------


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The ranking as a table: rank, run, what differs, the lead over the next, the measures."""
    shown = []
    for row in rows:
        leads = numbers.signed(row["lead"]) if row["lead"] is not None else ""
        bounds = numbers.interval(row["lead_interval"], signs=True)
        cells = {
            N_("rank"): f"{row['rank']}{'≈' if is_tie(row) else ''}" if row["rank"] else "",
            N_("run"): row["name"] + (f": {_('failed')}" if row["failure"] else ""),
            **row["changed"],
        }
        cells |= {_arrow(key): numbers.number(row["values"][key]) for key in MEASURES}
        cells[N_("lead over the next")] = f"{leads} ({bounds})" if bounds else leads
        shown.append(cells)
    frame = pd.DataFrame(shown)
    order = ["rank", "run", *rows[0]["changed"], _arrow(RANKED_BY), "lead over the next"]
    return frame[[*order, *(name for name in frame.columns if name not in order)]].set_index(["rank", "run"])


def _arrow(key: str) -> str:
    name, _meaning, wanted = MEASURES[key]
    return f"{_(name)}\u00a0{'↑' if wanted == 'up' else '↓'}"


def _looks(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    looks = {_arrow(key): ["number good" if key in row["best"] else "number" for row in rows] for key in MEASURES}
    return looks | {"lead over the next": ["number"] * len(rows)}


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ranking as a table for the terminal."""
    keys = [RANKED_BY, "auc", "mean_squared_cosine_random", "training_seconds"]
    cells = [[_("rank"), _("run"), *(_(MEASURES[key][0]) for key in keys)]]
    for row in rows:
        values = [numbers.number(row["values"][key]) for key in keys]
        cells.append(["" if row["rank"] is None else f"{row['rank']}{'≈' * is_tie(row)}", row["name"], *values])
        if row["failure"]:
            cells[-1][2:] = [_("failed"), *[""] * (len(keys) - 1)]
    lines = tables.columns(cells, right=range(2, len(cells[0]))).splitlines()
    note = [_("≈ the lead over the next may be chance")] if any(map(is_tie, rows)) else []
    return "\n".join(f"  {line}" for line in [*lines, *note, advice(rows)])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
