"""Run profiles: check, execute the notebooks in order with papermill, write the reports and the index page.

Several runs in one call, the profiles given or the combinations of a study, are a batch: what a run would compute just
as one before it is taken over from there, a failed one does not stop the others, and a page compares them all.

`./run_all.sh` calls `python -m bgetune.pipeline`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from bgetune import files, runs
from bgetune.checks import check, load
from bgetune.config.profile import Profile, resolve
from bgetune.config.stages import STAGES
from bgetune.errors import InputError
from bgetune.paths import ROOT
from bgetune.reports import comparison, report
from bgetune.runs import manifest

ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # the kernels fork nothing; silences a warning on every run
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's home
    "PYTHONHASHSEED": "0",
}


class NotebookError(RuntimeError):
    """A notebook's cell failed with something else than bad input; the message names notebook and cell."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, 1 for a failed notebook, 2 for bad input, 130 for Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})
    try:
        profiles = load(options.profiles, options.set)
        first = first_stage(options.start)
        for warning in check(profiles):
            print(f"warning: {warning}", file=sys.stderr)
        return run_batch(profiles, first=first, force=options.force)
    except InputError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command continues where it was", file=sys.stderr)
        return 130


def run_batch(profiles: Sequence[Profile], *, first: str | None = None, force: bool = False) -> int:
    """Run profiles one after the other, the others too when one fails, and compare them when there are several.

    Args:
        first, force: see `run_profile`.

    Returns:
        The exit status: 0, or that of the failure met last: 1 for a failed notebook, 2 for bad input.
    """
    status, failures = 0, {}
    folders = {profile.name: runs.run_folder(profile) for profile in profiles}
    for number, profile in enumerate(profiles):
        try:
            done = list(folders.values())[:number]
            run_profile(profile, first=first, force=force, others=done)
        except (InputError, NotebookError) as error:
            status = 2 if isinstance(error, InputError) else 1
            failures[profile.name] = str(error)
            print(f"\nerror: {f'{profile.name}: ' if len(profiles) > 1 else ''}{error}", file=sys.stderr)
    if len(profiles) > 1:
        page, table = comparison.compare(profiles, folders, failures)
        print(f"\n{table}\n\n  comparison: {page}", flush=True)
    return status


def first_stage(number: str | None) -> str | None:
    """The stage that `--from` names: "03", "3" or "03_hard_negatives"."""
    if number is None:
        return None
    for stage in STAGES:
        if number in (stage, stage[:2], stage[:2].lstrip("0")):
            return stage
    raise InputError(f"--from {number}: no such notebook; known: {', '.join(STAGES)}")


def run_profile(
    profile: Profile, *, first: str | None = None, force: bool = False, others: Sequence[Path] = ()
) -> Path:
    """Run a profile's notebooks that are not up to date, then write its index page.

    Args:
        first: this notebook and those after it run even when they are up to date.
        force: all run.
        others: folders of runs just made; a stage that would be the same as there is taken over.

    Returns:
        The run's folder.
    """
    started = time.monotonic()
    run_dir = runs.run_folder(profile)
    print(f"{profile.name}: {profile.path} -> {run_dir}", flush=True)
    resolved = run_dir / "profile.yaml"
    files.write_atomic(resolved, yaml.safe_dump(profile.values | {"name": profile.name}, allow_unicode=True))
    manifest.set_rounds(run_dir, profile.rounds)
    stages = manifest.order(profile.rounds)
    changed = False
    for number, stage in enumerate(stages, start=1):
        values, _ = resolve(manifest.notebook_of(stage), profile)
        forced = force or (first is not None and number > stages.index(first))
        reason = "forced" if forced else manifest.out_of_date(stage, values, run_dir)
        label = f"  [{number}/{len(stages)}] {stage:<{max(map(len, stages))}}"
        if number > 1:
            require_judgeable(run_dir)
        if reason is None:
            print(f"{label} up to date", flush=True)
            continue
        other = next((other for other in others if manifest.take_over(stage, values, run_dir, other)), None)
        if other is not None:
            print(f"{label} taken over from {other.name}", flush=True)
            executed = run_dir / "notebooks" / f"{stage}.ipynb"
        else:
            print(f"{label} running ({reason})", flush=True)
            begun = time.monotonic()
            executed = run_notebook(stage, resolved, run_dir)
            print(f"{label} done in {time.monotonic() - begun:.0f} s", flush=True)
        report.write_report(executed, run_dir / f"{stage}.html", profile.name)
        changed = True
    index = run_dir / "index.html"
    if changed or not index.exists():
        report.write_index(run_dir, profile.name)
    print(f"  report: {index}   ({time.monotonic() - started:.0f} s)", flush=True)
    return run_dir


def require_judgeable(run_dir: Path) -> None:
    """Stop before anything is trained where 01 found that dev and test cannot be judged.

    Raises:
        InputError: with its sentence, which says what to add.
    """
    metrics = manifest.read_manifest(run_dir)["stages"].get("01_positives", {}).get("metrics", {})
    judging = metrics.get("judging", {"enough": True})
    if not judging["enough"]:
        raise InputError(
            f"{judging['sentence']} Nothing was trained; what 01 found is in {run_dir / '01_positives.html'}"
        )


def run_notebook(stage: str, profile: Path, run_dir: Path) -> Path:
    """Execute the notebook of a stage by papermill; returns the executed copy.

    Raises:
        InputError: what the notebook says of bad input.
        NotebookError: any other failure, naming the cell and the executed copy.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    executed = run_dir / "notebooks" / f"{stage}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    executed.unlink(missing_ok=True)  # papermill writes into it, and another run may have taken it over
    again = {} if manifest.round_of(stage) == 1 else {"round_number": manifest.round_of(stage)}
    try:
        papermill.execute_notebook(
            ROOT / "notebooks" / f"{manifest.notebook_of(stage)}.ipynb",
            executed,
            parameters={"profile": str(profile), "run_dir": str(run_dir), **again},
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            progress_bar=False,
            config=Config(
                {
                    # sockets of this user's alone, not TCP ports that everybody on the machine can read
                    "KernelManager": {"transport": "ipc"},
                    # a kernel says on the terminal that it was asked to stop; a notebook's own errors are in its copy
                    "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]},
                }
            ),
            # the notebooks' own progress bars, where somebody watches
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
        )
    except PapermillExecutionError as error:
        place = f"notebook {stage}, cell {error.cell_index + 1} (In [{error.exec_count}]); executed copy: {executed}"
        if error.ename == InputError.__name__:
            raise InputError(f"{error.evalue}\n  in {place}") from None
        raise NotebookError(f"{error.ename}: {error.evalue}\n  in {place}") from None
    return executed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Run the five notebooks for each profile and write runs/NAME/index.html. "
        "What is unchanged since the last run is not run again. Several profiles, or a study, are compared on a page.",
        epilog="Also: ./run_all.sh test (lint and tests), ./run_all.sh lab (JupyterLab), ./run_all.sh --help.",
    )
    parser.add_argument(
        "profiles", nargs="*", default=["params/demo.yaml"], metavar="PROFILE.yaml", help="default: params/demo.yaml"
    )
    parser.add_argument("--from", dest="start", metavar="NN", help="run notebook NN and those after it in any case")
    parser.add_argument("--force", action="store_true", help="run all notebooks in any case")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.PARAMETER=VALUE",
        help="replace a value of the profile, for example --set 04_train.epochs=2; may be repeated; a list such as "
        "--set '04_train.scale=[10, 20, 50]' makes a run for each value and compares them",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
