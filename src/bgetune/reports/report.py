"""What people share: one self-contained HTML file per executed notebook, and the index page of a run.

The pages hold no script and load nothing; a Content-Security-Policy says so to the browser, so text from a log
could not run even if it slipped through escaping.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgetune import files, locale
from bgetune.config.stages import ROUND
from bgetune.reports import numbers, reranking, sections, verdict
from bgetune.runs import manifest

if TYPE_CHECKING:
    import jinja2

WIDGETS = "application/vnd.jupyter.widget-view+json"
FIGURE, NARROW = "figures/score_distribution.png", "figures/score_distribution_narrow.png"
"""The picture of the scores: its panels side by side, and under one another for phones."""

HANDED_OVER = ("model", "reranker", "scoring.json", "train.jsonl", "review.csv")
"""Artifacts that people take from a run: the index page links to them."""

_HEADING = re.compile(r'<h([23])[^>]* id="([^"]+)"[^>]*>(.*?)</h\1>', re.DOTALL)
_ANCHOR_LINK = re.compile(r'<a class="anchor-link"[^>]*>[^<]*</a>')
_TAG = re.compile(r"<[^>]+>")


def write_report(notebook: Path, target: Path, run_name: str) -> None:
    """The HTML of an executed notebook without its code; logs and progress bars (stderr) are left out."""
    import nbformat
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, as_version=4)
    content.metadata.pop("widgets", None)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = [_with_narrow(output) for output in cell.outputs if _is_for_readers(output)]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _resources = exporter.from_notebook_node(content)
    body = _ANCHOR_LINK.sub("", body)
    stages = manifest.stages(target.parent)
    position = stages.index(target.stem) if target.stem in stages else 0
    page = environment().get_template("report.html.j2")
    files.write_atomic(
        target,
        page.render(
            title=target.stem,
            run_name=run_name,
            body=body,
            contents=[(level, anchor, _TAG.sub("", text)) for level, anchor, text in _HEADING.findall(body)],
            previous=stages[position - 1] if position else None,
            following=stages[position + 1] if position + 1 < len(stages) else None,
        ),
    )


def _is_for_readers(output: dict[str, Any]) -> bool:
    """Not a log, a progress bar or an empty line.

    A widget that has an HTML form loses its live one, which needs a kernel.
    """
    if output.get("name") == "stderr" or (output.get("output_type") == "stream" and not output["text"].strip()):
        return False
    data = output.get("data", {})
    return data.pop(WIDGETS, None) is None or "text/html" in data


def _with_narrow(output: dict[str, Any]) -> dict[str, Any]:
    """A figure that has a form for phones, as HTML that lets the browser choose."""
    metadata = output.get("metadata", {}).get("image/png", {})
    if "narrow" not in metadata:
        return output
    page = environment().get_template("figure.html.j2")
    html = page.render(wide=output["data"]["image/png"], **metadata)
    return output | {"data": {"text/html": html}, "metadata": {}}


def write_index(run_dir: Path, run_name: str) -> None:
    """`index.html` of a run: the verdict, what it stands on, and where everything comes from."""
    recorded = manifest.read_manifest(run_dir)["stages"]
    names = manifest.stages(run_dir)
    stages = {name: recorded[name] for name in names if name in recorded}
    calibrated = stages.get("05_calibrate", {})
    results = calibrated.get("metrics", {})
    page = environment().get_template("index.html.j2")
    files.write_atomic(
        run_dir / "index.html",
        page.render(
            run_name=run_name,
            stages=stages,
            results=results,
            sentences=verdict.sentences(results) if results else [],
            outcome=verdict.outcome(results) if results else "unknown",
            next_step=verdict.next_step(stages, results) if results else None,
            evidence=verdict.size_of_evidence(results),
            figure_says=verdict.figure_in_words(results),
            figure=_figure(run_dir, stages, FIGURE),
            narrow=_figure(run_dir, stages, NARROW),
            headline=sections.headline(results, verdict.MEASURES),
            context=sections.headline(results, verdict.CONTEXT),
            recalls=sections.recalls(results.get("recalls", ())),
            thresholds=sections.thresholds(results, calibrated.get("parameters", {}).get("confidence", 0.95)),
            decisions=sections.decisions(results),
            reranking=reranking.table(results.get("reranking", ())),
            reranker_says=reranking.in_words(results["reranking"]) if results.get("reranking") else None,
            search=sections.search(results),
            mistakes=sections.mistakes(run_dir, stages),
            funnel=sections.funnel(run_dir, stages),
            false_negatives=sections.false_negatives(stages),
            failed=verdict.calibration_failed(results),
            rounds=_rounds([stages.get(name, {}) for name in names if manifest.notebook_of(name) in ROUND]),
            base_model=calibrated.get("parameters", {}).get("model"),
            data_files=sections.data_files(stages),
            changed=sections.changed_parameters(stages),
            machine=sections.machine(stages),
            times=sections.times(run_dir, stages),
            comparisons=comparisons(run_dir),
            judging=stages.get("01_positives", {}).get("metrics", {}).get("judging"),
            files=[
                record["path"]
                for entry in stages.values()
                for name, record in entry.get("outputs", {}).items()
                if name in HANDED_OVER
            ],
        ),
    )


def comparisons(run_dir: Path) -> list[str]:
    """The comparison pages that a run stands on, as links from its folder: those of its study and of its batch."""
    return [up for up in ("../comparison.html", "../../comparison.html") if (run_dir / up).exists()]


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
    return {"table": sections.rounds(rows), "count": len(rows), "metric": metric, "best": best}


def _figure(run_dir: Path, stages: dict[str, Any], name: str) -> str | None:
    record = stages.get("05_calibrate", {}).get("outputs", {}).get(name)
    if record is None:
        return None
    return base64.b64encode((run_dir / record["path"]).read_bytes()).decode()


@cache
def environment() -> jinja2.Environment:
    """The templates of the pages; what they are given is escaped, and `_` translates."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("bgetune.reports"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["number"] = numbers.number
    made.globals |= {"_": locale._, "language": locale.language, "share": numbers.share, "interval": numbers.interval}
    return made
