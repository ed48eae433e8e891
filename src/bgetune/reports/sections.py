"""The tables of a run's index page, each from the manifest and the artifacts that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bgetune.config.stages import STAGES
from bgetune.locale import N_, _
from bgetune.locale.words import said
from bgetune.metrics import worth
from bgetune.reports import numbers, tables, verdict
from bgetune.reports.tables import Table
from bgetune.runs import manifest

Stages = Mapping[str, Mapping[str, Any]]

ORDERS = {
    "before": N_("model before tuning"),
    "after": N_("model after tuning"),
    "after, untuned reranker": N_("after, ordered by the untuned reranker"),
    "after, reranker": N_("after, ordered by the reranker"),
    "after, both": N_("after, ordered by both"),
}
"""The orders of the search results in notebook 05, in words."""


def headline(results: Mapping[str, Any], measures: Mapping[str, tuple[str, str, str]]) -> Table | None:
    """Before, after and the interval of the difference, one row a measure that both models have.

    Args:
        measures: `verdict.MEASURES` or `verdict.CONTEXT`.
    """
    before, after, difference = (results.get(name, {}) for name in ("before", "after", "difference"))
    keys = [key for key in measures if before.get(key) is not None and after.get(key) is not None]
    if not keys:
        return None
    rows = []
    for key in keys:
        name, meaning, wanted = measures[key]
        rows.append(
            {
                N_("measure"): f"{_(name)} {'↑' if wanted == 'up' else '↓'}",
                N_("before"): numbers.number(before[key]),
                N_("after"): numbers.number(after[key]),
                N_("difference"): numbers.signed(difference.get(key)),
                N_("95 % interval of the difference"): numbers.interval(difference.get(f"{key}_interval"), signs=True),
                N_("verdict"): verdict.in_words(results, key),
                N_("what it says"): _(meaning),
            }
        )
    looks = [verdict.look(results, key) for key in keys]
    return tables.table(
        pd.DataFrame(rows).set_index("measure"),
        looks={
            **dict.fromkeys(("before", "difference", "95 % interval of the difference"), ["number"] * len(keys)),
            "after": [f"number {look}" for look in looks],
            "verdict": looks,
            "what it says": ["note"] * len(keys),
        },
    )


def recalls(recorded: Sequence[Mapping[str, Any]]) -> Table | None:
    """Recall on test at each guaranteed precision, before and after.

    Args:
        recorded: rows of `scoring.gain.recall_at_guarantees`, None for NaN.
    """
    rows = []
    for row in recorded:
        both = [_of_model(row, name) for name in ("before", "after")]
        missing = row["before"] is None and row["after"] is None
        rows.append(
            {
                N_("guaranteed precision"): numbers.share(row["precision"]),
                N_("recall before"): both[0],
                N_("recall after"): both[1],
                N_("difference"): "" if missing else numbers.signed(row["difference"]),
                N_("95 % interval of the difference"): ""
                if missing
                else numbers.interval([row["difference_low"], row["difference_high"]], signs=True),
            }
        )
    if not rows:
        return None
    better = [("good" if (row["difference_low"] or 0) > 0 else "") for row in recorded]
    columns = ("recall before", "difference", "95 % interval of the difference")
    looks = {name: ["number"] * len(rows) for name in columns} | {"recall after": [f"number {look}" for look in better]}
    return tables.table(pd.DataFrame(rows).set_index("guaranteed precision"), looks=looks)


def _of_model(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return _("no threshold")
    return f"{numbers.share(row[name])} ({numbers.share(row[f'{name}_low'])} – {numbers.share(row[f'{name}_high'])})"


def thresholds(results: Mapping[str, Any], confidence: float) -> Table | None:
    """The threshold of each guaranteed precision, and what it reaches on test."""
    missing = {row["precision"]: row for row in results.get("recalls", ())}
    mark = worth.mark(results.get("pairs", {}).get("pairs"))
    rows = []
    for row in results.get("thresholds", ()):
        kept = row["cosine"] is not None
        needed, recall = (missing.get(row["precision"], {}).get(key) for key in ("needed", "needed_recall"))
        if kept:
            guarantee = _("holds with {confidence} confidence").format(confidence=numbers.share(confidence))
            guarantee = _("{guarantee}, for {pairs}").format(guarantee=guarantee, pairs=mark) if mark else guarantee
        elif needed and recall:
            text = _("too few pairs: about {needed} are needed, and the recall would be about {recall}")
            guarantee = text.format(needed=numbers.count(needed), recall=numbers.share(recall))
        elif needed:
            guarantee = _("too few pairs: {needed} are needed").format(needed=numbers.count(needed))
        elif why := results.get("pairs", {}).get("doubt"):
            guarantee = _(worth.NOTES[why])
        else:
            guarantee = _("no threshold is that precise")
        rows.append(
            {
                N_("guaranteed precision"): numbers.share(row["precision"]),
                N_("cosine from"): numbers.number(row["cosine"]),
                N_("calibrated score from"): numbers.number(row["probability"]),
                N_("precision on test"): numbers.number(row["test_precision"]),
                N_("recall on test"): numbers.number(row["test_recall"]),
                N_("guarantee"): guarantee,
            }
        )
    return tables.table(pd.DataFrame(rows).set_index("guaranteed precision")) if rows else None


def decisions(results: Mapping[str, Any]) -> Table | None:
    """Recall at each guaranteed precision by cosine, reranker and both, and their time."""
    rows = [
        {
            N_("guaranteed precision"): numbers.share(row["precision"]),
            N_("decided by"): _(row["decided by"]),
            N_("threshold"): numbers.number(row["threshold"]),
            N_("precision on test"): _with_bounds(row),
            N_("recall on test"): numbers.number(row["test_recall"]),
            N_("ms a pair"): numbers.number(row["ms a pair"], 1),
            N_("ms a query"): numbers.number(row["ms a query"], 1),
        }
        for row in results.get("decisions", ())
    ]
    return tables.table(pd.DataFrame(rows).set_index("guaranteed precision")) if rows else None


def _with_bounds(row: Mapping[str, Any]) -> str:
    """The precision on test and its 95 % interval."""
    low, high = row.get("test_low"), row.get("test_high")
    value = numbers.number(row["test_precision"])
    return value if low is None else f"{value} ({numbers.interval([low, high])})"


def search(results: Mapping[str, Any]) -> Table | None:
    """How good search results are before, after, and with the reranker."""
    ranking = results.get("retrieval", {})
    rows = []
    for name, row in ranking.items():
        gain = "" if name == "after" else numbers.interval([row.get("gain_low"), row.get("gain_high")], signs=True)
        rows.append(
            {
                N_("order of the results"): _(ORDERS.get(name, name)),
                "MRR": f"{numbers.number(row['mrr'])} ({numbers.interval([row['mrr_low'], row['mrr_high']])})",
                "nDCG": f"{numbers.number(row['ndcg'])} ({numbers.interval([row['ndcg_low'], row['ndcg_high']])})",
                N_("recall"): numbers.number(row["recall"]),
                N_("MRR over that of the tuned model"): gain,
            }
        )
    return tables.table(pd.DataFrame(rows).set_index("order of the results")) if rows else None


def mistakes(run_dir: Path, stages: Stages) -> dict[str, Table]:
    """The hardest mistakes by side, as notebook 05 wrote them."""
    found = _artifact(run_dir, stages, "05_calibrate", "mistakes")
    if found is None:
        return {}
    columns = {
        "query": N_("text"),
        "text": N_("other text"),
        "before": N_("cosine before"),
        "after": N_("cosine after"),
        "probability": N_("calibrated score"),
    }
    sides = {"missed": N_("One meaning, rejected"), "accepted": N_("Different meanings, accepted")}
    return {
        _(title): tables.table(found.loc[found["side"] == side, list(columns)].rename(columns=columns), digits=3)
        for side, title in sides.items()
        if (found["side"] == side).any()
    }


def rounds(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What each round of mining and training gave.

    Args:
        rows: one a round: ``mined`` (metrics of 03), ``dev`` (what 04 measured on dev), ``seconds``.
    """
    table = []
    for number, row in enumerate(rows, start=1):
        by = _("the base model") if number == 1 else _("the model of round {number}").format(number=number - 1)
        mined, dev = row["mined"], row["dev"]
        table.append(
            {
                N_("round"): number,
                N_("mined by"): by,
                N_("false negatives expected"): mined.get("expected_false_negatives"),
                N_("90 % interval of them"): numbers.interval(
                    [mined.get(f"expected_false_negatives_{side}") for side in ("low", "high")]
                ),
                N_("false negatives"): mined.get("false_negatives"),
                N_("queries with negatives"): mined.get("with_negatives"),
                N_("negatives a query"): mined.get("negatives_per_query"),
                N_("their similarity"): mined.get("similarity"),
                N_("AUC, dev"): dev.get("auc"),
                N_("average precision, dev"): dev.get("average_precision"),
                N_("share in 0.6-0.9, dev"): dev.get("share_0.6_0.9"),
                N_("seconds"): row["seconds"],
            }
        )
    return tables.table(pd.DataFrame(table), digits=3)


# --- where the rows went ------------------------------------------------------------------------------------------


def funnel(run_dir: Path, stages: Stages) -> Table | None:
    """From the raw rows to the training groups: what each notebook was left with, and every drop with its reason."""
    rows: list[tuple[str, int | None, str]] = []
    for stage, entry in stages.items():
        rows.append((stage, None, "heading"))
        before, after = _counted(manifest.notebook_of(stage), entry)
        rows += [(_(what), number, "kept") for what, number in before if number is not None]
        drops = _artifact(run_dir, stages, stage, "dropped")
        if drops is not None and len(drops):
            lost = drops.groupby(["source", "reason"], sort=False)["rows"].sum()
            rows += [(f"{_(source)}: {said(reason)}", -number, "note") for (source, reason), number in lost.items()]
        for rule, number in entry.get("metrics", {}).get("rules", {}).items():
            if number and rule != "(taken)":
                rows.append((_("candidates: {rule}").format(rule=_(rule)), -number, "note"))
        rows += [(_(what), number, "kept") for what, number in after if number is not None]
        if rows[-1][2] == "heading":
            rows.pop()
    if not rows:
        return None
    shown = ["" if n is None else f"\u2212{-n:,}" if n < 0 else f"{n:,}" for _what, n, _look in rows]
    frame = pd.DataFrame({N_("what"): [what for what, *_rest in rows], N_("number"): shown})
    looks = [look for *_rest, look in rows]
    return tables.table(frame, looks={"what": looks, "number": [f"number {look}" for look in looks]}, cards=False)


def false_negatives(stages: Stages) -> str | None:
    """What is expected of the hard negatives of the last mining, and the truth where it is known, in words."""
    runs = [name for name in stages if manifest.notebook_of(name) == "03_hard_negatives"]
    mined = stages[runs[-1]].get("metrics", {}) if runs else {}
    expected, true = mined.get("expected_false_negatives"), mined.get("false_negatives")
    if expected is None:
        return None
    bounds = [mined.get(f"expected_false_negatives_{side}") for side in ("low", "high")]
    words = _("Of the hard negatives, {share} are expected to be unknown positives (90 % interval {bounds}).").format(
        share=numbers.share(expected, 1), bounds=numbers.interval(bounds)
    )
    return words if true is None else words + " " + _("Truly, it is {share}.").format(share=numbers.share(true, 1))


def _counted(notebook: str, entry: Mapping[str, Any]) -> tuple[list[tuple[str, int | None]], ...]:
    """What a notebook began with and what it was left with, in words and numbers."""
    metrics, outputs = entry.get("metrics", {}), entry.get("outputs", {})
    rules = metrics.get("rules", {})
    return {
        "01_positives": (
            [(N_("rows read"), sum(metrics.get("rows", {}).values()) or None)],
            [
                (N_("texts"), metrics.get("texts")),
                (N_("edges"), outputs.get("edges", {}).get("rows")),
                (N_("clusters of two texts or more"), metrics.get("clusters")),
            ],
        ),
        "02_backtranslate": (
            [(N_("paraphrases made"), metrics.get("candidates"))],
            [(N_("paraphrases kept"), metrics.get("kept"))],
        ),
        "03_hard_negatives": (
            [
                (N_("queries of the train split"), metrics.get("queries")),
                (N_("candidates found for them"), sum(rules.values()) or None),
            ],
            [(N_("hard negatives taken"), rules.get("(taken)")), (N_("training groups"), metrics.get("groups"))],
        ),
        "04_train": ([], [(N_("groups that trained"), metrics.get("groups"))]),
    }.get(notebook, ([], []))


# --- where it comes from ------------------------------------------------------------------------------------------


def data_files(stages: Stages) -> Table | None:
    """The files outside the run that its notebooks read: rows where they were counted, size, hash."""
    counted = stages.get("01_positives", {}).get("metrics", {}).get("rows", {})
    found: dict[str, dict[str, Any]] = {}
    for entry in stages.values():
        for location, record in entry.get("inputs", {}).items():
            if "bytes" in record or "hub" in record:
                found.setdefault(location, record)
    rows = [
        {
            N_("file, folder or model"): location,
            N_("rows"): counted.get(location),
            N_("bytes"): record.get("bytes"),
            "SHA-256": record.get("sha256", "")[:16],
        }
        for location, record in found.items()
    ]
    return tables.table(pd.DataFrame(rows)) if rows else None


def changed_parameters(stages: Stages) -> Table | None:
    """The parameters that are not at their defaults, by notebook; those with one value everywhere stand once."""
    found: dict[str, dict[str, str]] = {}
    for stage, entry in stages.items():
        notebook = manifest.notebook_of(stage)
        for name, value in entry.get("parameters", {}).items():
            field = STAGES[notebook].model_fields.get(name)
            if field is None or value == _default(field):
                continue
            found.setdefault(name, {})[notebook] = _short(_given(field, value))
    rows = []
    for name, values in found.items():
        where = [(", ".join(values), next(iter(values.values())))] if len(set(values.values())) == 1 else values.items()
        rows += [{N_("parameter"): name, N_("value"): value, N_("notebook"): place} for place, value in where]
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    if len(stages) > 1:
        everywhere = ", ".join(dict.fromkeys(map(manifest.notebook_of, stages)))
        frame["notebook"] = frame["notebook"].replace(everywhere, _("all"))
    return tables.table(frame.set_index("parameter"), looks={"parameter": ["name"] * len(frame)})


def _given(field: Any, value: Any) -> Any:
    """A recorded value without the keys of models in it that stand at their defaults."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(field.annotation)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json", exclude_defaults=True)
    except ValidationError:  # recorded by another version
        return value


def _default(field: Any) -> Any:
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True)
    return default.model_dump(mode="json") if hasattr(default, "model_dump") else json.loads(json.dumps(default))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:297] + "..."


def machine(stages: Stages) -> Table | None:
    """Revision, device and versions, as the last notebook that ran recorded them."""
    if not stages:
        return None
    entry = list(stages.values())[-1]
    rows = {
        _("revision"): entry.get("git") or tables.MISSING,
        _("computed on"): ", ".join(filter(None, map(entry.get, ("device", "machine")))) or tables.MISSING,
        _("seed"): str(entry.get("seed", tables.MISSING)),
        **entry.get("versions", {}),
    }
    return tables.table(pd.DataFrame(rows.items(), columns=[N_("what"), N_("value")]).set_index("what"))


def times(run_dir: Path, stages: Stages) -> Table:
    """Every notebook of the run: seconds, when, and what it wrote."""
    rows = []
    for name in manifest.stages(run_dir):
        entry = stages.get(name)
        wrote = [f"{key} {out['rows']:,}" for key, out in (entry or {}).get("outputs", {}).items() if "rows" in out]
        if entry and entry.get("taken_from"):
            wrote.insert(0, _("taken over from {run}").format(run=entry["taken_from"]))
        rows.append(
            {
                N_("notebook"): name,
                N_("seconds"): entry["seconds"] if entry else None,
                N_("made (UTC)"): entry["started"][:19].replace("T", " ") if entry else _("not run"),
                N_("rows written"): ", ".join(wrote),
            }
        )
    looks = {name: ["name"] * len(rows) for name in ("notebook", "made (UTC)")}
    return tables.table(pd.DataFrame(rows), digits=1, looks=looks)


def _artifact(run_dir: Path, stages: Stages, stage: str, name: str) -> pd.DataFrame | None:
    """A table that a stage of this run wrote; None where it did not, or the file is gone."""
    record = stages.get(stage, {}).get("outputs", {}).get(name)
    file = run_dir / record["path"] if record else None
    return pd.read_parquet(file) if file is not None and file.exists() else None
