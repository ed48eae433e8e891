"""What people share: one self-contained HTML file per executed notebook, and the index page of a run.

The pages hold no script and load nothing; a Content-Security-Policy says so to the browser, so text from a log
could not run even if it slipped through escaping.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune import files
from bgetune.config.stages import ROUND
from bgetune.runs import manifest

if TYPE_CHECKING:
    import jinja2

WIDGETS = "application/vnd.jupyter.widget-view+json"

HEADLINES = {
    "auc": ("AUC", "Probability that a positive pair scores above a negative one", "up"),
    "average_precision": ("Average precision", "Area under the precision-recall curve", "up"),
    "f1_at_0.8": ("F1 at the fixed 0.8", "What the usual fixed threshold gives", "up"),
    "best_f1": ("Best F1", "At each model's own best threshold", "up"),
    "overlap": ("Overlap", "Share that positive and negative score distributions have in common", "down"),
    "share_0.6_0.9": ("Share in 0.6-0.9", "Pairs whose score says little", "down"),
    "mean_squared_cosine_random": ("Drift", "Mean squared cosine of random pairs", "down"),
}


def write_report(notebook: Path, target: Path, run_name: str) -> None:
    """The HTML of an executed notebook without its code; logs and progress bars (stderr) are left out."""
    import nbformat
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, as_version=4)
    content.metadata.pop("widgets", None)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_for_readers(output)]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(content)
    stages = manifest.stages(target.parent)
    position = stages.index(target.stem) if target.stem in stages else 0
    page = environment().get_template("report.html.j2")
    files.write_atomic(
        target,
        page.render(
            title=target.stem,
            run_name=run_name,
            body=body,
            previous=stages[position - 1] if position else None,
            following=stages[position + 1] if position + 1 < len(stages) else None,
        ),
    )


def _is_for_readers(output: dict[str, Any]) -> bool:
    """Not a log, not a progress bar. A widget that has an HTML form loses its live one, which needs a kernel."""
    if output.get("name") == "stderr":
        return False
    data = output.get("data", {})
    return data.pop(WIDGETS, None) is None or "text/html" in data


def write_index(run_dir: Path, run_name: str) -> None:
    """`index.html` of a run, from its manifest: headline numbers, the figure, thresholds, rounds, stages, links."""
    stages = manifest.read_manifest(run_dir)["stages"]
    names = manifest.stages(run_dir)
    results = stages.get("05_calibrate", {}).get("metrics", {})
    page = environment().get_template("index.html.j2")
    files.write_atomic(
        run_dir / "index.html",
        page.render(
            run_name=run_name,
            headlines=_headlines(results),
            results=results,
            figure=_figure(run_dir, stages),
            rounds=_rounds([stages.get(name, {}) for name in names if manifest.notebook_of(name) in ROUND]),
            stages=[(name, stages.get(name)) for name in names],
            base_model=stages.get("05_calibrate", {}).get("parameters", {}).get("model"),
        ),
    )


def _headlines(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a measure that the calibration notebook recorded for both models."""
    before, after = results.get("before", {}), results.get("after", {})
    rows = []
    for key, (name, meaning, wanted) in HEADLINES.items():
        if before.get(key) is None or after.get(key) is None:
            continue
        better = after[key] > before[key] if wanted == "up" else after[key] < before[key]
        rows.append(
            {
                "name": name,
                "meaning": meaning,
                "before": before[key],
                "after": after[key],
                "interval": after.get(f"{key}_interval"),
                "wanted": wanted,
                "better": better,
            }
        )
    return rows


def _rounds(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What a mining and a training in turn gave, a row a round; None where there is only one."""
    if len(entries) <= len(ROUND):
        return None
    rows = []
    for mined, trained in zip(entries[::2], entries[1::2], strict=True):
        after = trained.get("metrics", {}).get("after", {})
        seconds = [entry["seconds"] for entry in (mined, trained) if entry]
        rows.append({"mined": mined.get("metrics", {}), "dev": after, "seconds": round(sum(seconds))})
    metric = entries[1].get("parameters", {}).get("metric")
    ranked = [(row["dev"][metric], number) for number, row in enumerate(rows, start=1) if metric in row["dev"]]
    best = max(ranked)[1] if ranked else None
    return {"rows": rows, "metric": metric, "best": best}


def _figure(run_dir: Path, stages: dict[str, Any]) -> str | None:
    record = stages.get("05_calibrate", {}).get("outputs", {}).get("figures/score_distribution.png")
    if record is None:
        return None
    return base64.b64encode((run_dir / record["path"]).read_bytes()).decode()


def number(value: Any) -> str:
    """A value as the pages show it: three digits after the point, a dash for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


@cache
def environment() -> jinja2.Environment:
    """The templates of the pages; what they are given is escaped."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("bgetune.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["number"] = number
    return made
