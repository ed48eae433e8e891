"""The pages of a run are outputs like any other: written when they are missing or made from something else."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bgetune import locale
from bgetune.files import files_below, sha256
from bgetune.locale import _
from bgetune.paths import ROOT
from bgetune.reports import report
from bgetune.runs import manifest

if TYPE_CHECKING:
    from IPython.display import Markdown

    from bgetune.runs import Stage


def write_pages(run_dir: Path, run_name: str) -> list[Path]:
    """Write the pages of a run's stages and its index that are missing or stale.

    The manifest records what each page was made from: the executed notebook or the stages' records, the run's name and
    stages, the language in use, and this package.

    Returns:
        The pages written.
    """
    names = manifest.stages(run_dir)
    run = manifest.read_manifest(run_dir)
    written = []
    for stage in names:
        page, notebook = run_dir / f"{stage}.html", run_dir / "notebooks" / f"{stage}.ipynb"
        if manifest.is_executed(stage, run_dir):
            source = _hash(sha256(notebook), run_name, names)
            if _is_stale(page, source):
                report.write_report(notebook, page, run_name)
                _record(page, source)
                written.append(page)
    index = run_dir / "index.html"
    source = _hash(run["stages"], run_name, names, report.comparisons(run_dir))
    if _is_stale(index, source):
        report.write_index(run_dir, run_name)
        _record(index, source)
        written.append(index)
    return written


def links(stage: Stage) -> Markdown | None:
    """In JupyterLab, links to the run's index, written anew, and to the notebook's report as it was last saved.

    None in a batch run, which writes its pages when the notebook has ended.
    """
    from IPython.display import Markdown

    if not stage.in_lab:
        return None
    notebook = ROOT / os.environ.get("JPY_SESSION_NAME", "")  # of the notebook, by Jupyter's server
    page, index = stage.run_dir / f"{stage.name}.html", stage.run_dir / "index.html"
    name = stage.run_dir.name
    report.write_index(stage.run_dir, name)
    lines = [_("Index of this run: [{name}]({link})").format(name=index.name, link=_link(index, notebook))]
    if notebook.suffix == ".ipynb" and notebook.is_file():
        report.write_report(notebook, page, name)
        words = _("Report of this notebook, as it was last saved: [{name}]({link})")
        lines.append(words.format(name=page.name, link=_link(page, notebook)))
    return Markdown("  \n".join(lines))


def _link(page: Path, notebook: Path) -> str:
    return quote(os.path.relpath(page, notebook.parent if notebook.suffix else ROOT))


def _is_stale(page: Path, source: str) -> bool:
    record = manifest.read_manifest(page.parent).get("pages", {}).get(page.name, {})
    return not page.is_file() or record != {"source": source, "sha256": sha256(page)}


def _record(page: Path, source: str) -> None:
    content = manifest.read_manifest(page.parent)
    content.setdefault("pages", {})[page.name] = {"source": source, "sha256": sha256(page)}
    manifest.write_manifest(page.parent, content)


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps([_package(), locale.language(), *parts], sort_keys=True).encode()).hexdigest()


@cache
def _package() -> str:
    """SHA-256 of the code, the templates and the catalogues that make pages."""
    folders = (Path(__file__).parent, locale.FOLDER)
    sources = [file for folder in folders for file in files_below(folder) if "__pycache__" not in file.parts]
    return hashlib.sha256("".join(map(sha256, sources)).encode()).hexdigest()
