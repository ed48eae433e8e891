"""JupyterLab on working copies: `./run_all.sh lab [NAME]` calls `python -m bgetune.lab`.

    work/NAME/         copies of the notebooks; whoever explores may edit them
    runs/NAME-lab/     the run they write to, which starts from copies of the artifacts of runs/NAME

The stored notebooks and the batch run runs/NAME are only read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bgetune import files, locale, runs
from bgetune.config.profile import Profile, language_of, load_profile
from bgetune.config.stages import STAGES
from bgetune.errors import InputError, explain
from bgetune.locale import _
from bgetune.paths import ROOT
from bgetune.pipeline import ENVIRONMENT
from bgetune.runs import manifest
from bgetune.runs.copies import copy_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: prepares the copies and becomes JupyterLab. Returns only when something is wrong."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh lab",
        description=_(
            "Prepare working copies of the notebooks for a profile, and open JupyterLab at the repository's root."
        ),
    )
    parser.add_argument(
        "profile", nargs="?", default="demo", metavar="PROFILE", help=_("as of ./run_all.sh; default: demo")
    )
    options, passed_on = parser.parse_known_args(arguments)
    locale.use(language_of(options.profile))
    try:
        first = prepare(load_profile(options.profile))
    except (InputError, OSError) as error:
        explained = (2, str(error)) if isinstance(error, InputError) else explain(error)
        if explained is None:
            raise
        print("\n" + _("error: {message}").format(message=explained[1]), file=sys.stderr)
        return explained[0]
    environment = ENVIRONMENT | os.environ
    opened = f"--LabApp.default_url=/lab/tree/{quote(str(first.relative_to(ROOT)))}"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", opened, *passed_on]
    os.execve(sys.executable, command, environment)


def prepare(profile: Profile) -> Path:
    """Make the working copies of a profile and the run they write to, and say where they are.

    Returns:
        The copy of the first notebook.

    Raises:
        InputError: if the folder of the run belongs to another profile.
    """
    locale.use(profile.language)
    run_dir = runs.run_folder(profile)
    lab_dir = run_dir.with_name(f"{run_dir.name}-lab")
    copied = start_from(run_dir, lab_dir)
    file = profile.path.relative_to(ROOT) if profile.path.is_relative_to(ROOT) else profile.path
    placed = []
    for stage in STAGES:
        fresh = copy_notebook(stage, profile=str(file), run_dir=str(lab_dir.relative_to(ROOT)))
        copy = ROOT / "work" / profile.name / f"{stage}.ipynb"
        placed.append(place(fresh, copy))
        if placed[-1] != copy:
            words = _("kept your {file}; the notebook as released now is beside it: {new}")
            print(words.format(file=copy.relative_to(ROOT), new=placed[-1].name))
    print(_("notebooks: {folder} (working copies, yours to edit)").format(folder=placed[0].parent))
    words = _("run:       {folder} ({stages} taken from {batch})")
    print(words.format(folder=lab_dir, stages=", ".join(copied) or _("no stage"), batch=run_dir), flush=True)
    return placed[0]


def start_from(run_dir: Path, lab_dir: Path) -> list[str]:
    """Copy a batch run's artifacts into the run of the lab; no file is shared, so that none changes in both.

    From the first stage on that was made or changed in the lab, everything there stays as it is. (Delete the folder to
    start from the batch run again.)

    Returns:
        The stages that are now as in the batch run.
    """
    theirs, own = manifest.read_manifest(run_dir), manifest.read_manifest(lab_dir)
    if own["stages"] and "lab_of" not in own:
        raise InputError(
            _("{folder} is the run of another profile; rename that profile, {name} explores there").format(
                folder=lab_dir, name=run_dir.name
            )
        )
    origin = os.path.relpath(run_dir, lab_dir)
    equal = []
    for stage in manifest.stages(run_dir):
        theirs["stages"].get(stage, {}).pop("executed", None)  # the executed notebook stays with the batch run
        entry, mine = theirs["stages"].get(stage), own["stages"].get(stage)
        if entry is None or manifest.changed_output(entry, run_dir):
            break
        if mine is not None and ("taken_from" not in mine or manifest.changed_output(mine, lab_dir)):
            break
        if mine is None or mine != {**entry, "taken_from": origin}:
            files.remove(lab_dir / stage)
            for record in entry.get("outputs", {}).values():
                _copy(run_dir / record["path"], lab_dir / record["path"])
            own["stages"][stage] = {**entry, "taken_from": origin}
        equal.append(stage)
    manifest.write_manifest(lab_dir, own | {"lab_of": origin, "rounds": theirs.get("rounds", 1)})
    return equal


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def place(fresh: NotebookNode, file: Path) -> Path:
    """Write a working copy, unless one is there that somebody edited: then beside it, with a number.

    Returns:
        Where the copy of what is released now lies: the file, or the numbered one.
    """
    import nbformat

    fresh.metadata["bgetune"] = {"copied": _digest(fresh)}
    number = 1
    while True:
        target = file if number == 1 else file.with_suffix(f".{number}.ipynb")
        copied, now = _digests(target)
        if copied == fresh.metadata["bgetune"]["copied"]:
            return target
        if copied == now:
            files.write_atomic(target, nbformat.writes(fresh) + "\n")
            return target
        number += 1


def _digests(file: Path) -> tuple[str | None, str | None]:
    """Of a working copy: the digest when it was made, and that of today. Of a file that is not there: None twice."""
    if not file.exists():
        return None, None
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        return notebook["metadata"].get("bgetune", {}).get("copied"), _digest(notebook)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, "not a notebook"


def _digest(notebook: dict) -> str:
    """SHA-256 of a notebook's cells without outputs."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
