"""Run profiles: check, execute the notebooks in order with papermill, write the reports and the index page.

Several runs in one call, the profiles given or the combinations of a study, are a batch: a failed one does not stop the
others, and a page compares them all. What a run would compute just as an earlier one, of this call or of any other, it
takes over from there.

`./run_all.sh` calls `python -m bgetune.pipeline`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bgetune import files, locale, runs
from bgetune.checks import check, load
from bgetune.config.profile import Profile, language_of, resolve
from bgetune.config.stages import STAGES
from bgetune.errors import InputError, InternalError, explain
from bgetune.locale import _
from bgetune.locale.words import said
from bgetune.paths import cache_root, work_root
from bgetune.reports import comparison, pages
from bgetune.runs import manifest
from bgetune.runs.copies import edits
from bgetune.runs.execute import NotebookError, run_notebook
from bgetune.runs.folder import owned

if TYPE_CHECKING:
    from bgetune.estimate import Estimate
    from bgetune.estimate.costs import Cost

ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",  # the kernels fork nothing; silences a warning on every run
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's home
    "PYTHONHASHSEED": "0",
}


def _refuse_launcher() -> None:
    """Raise an `InputError` in the processes of torchrun, mpirun or Slurm's srun: each would run the whole pipeline."""
    for variable in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        number = os.environ.get(variable, "1")
        if number.isdecimal() and int(number) > 1:
            raise InputError(
                _(
                    "{number} processes were started ({variable}), and each would run the whole pipeline; start it "
                    "once, and let it start its own: launcher: {{processes: {number}}}"
                ).format(number=number, variable=variable)
            )


@dataclass(frozen=True)
class Course:
    """Which notebooks run.

    Attributes:
        first: this one and those after it run even when they are up to date.
        last: none after this one runs.
        force: all run.
    """

    first: str | None = None
    last: str | None = None
    force: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, 1 for a failed notebook, 2 for bad input, 130 for Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if key not in os.environ})
    locale.use(language_of(options.profiles[0]))
    try:
        _refuse_launcher()
        profiles = load(options.profiles, options.set)
        locale.use(profiles[0].language)
        course = Course(stage_named("--from", options.start), stage_named("--until", options.until), options.force)
        for warning in check(profiles):
            print(_("warning: {message}").format(message=warning), file=sys.stderr)
        for profile in profiles if options.check else ():
            locale.use(profile.language)
            can_run = _("{profile}: {file} can run").format(profile=profile.name, file=profile.path)
            print("\n".join([can_run, *_standing(profile), *Forecast(profile).of(_waiting(profile, course))]))
        return 0 if options.check else run_batch(profiles, course)
    except InputError as error:
        return _say(2, str(error))
    except InternalError as error:
        return _say(1, str(error))
    except OSError as error:
        explained = explain(error)
        if explained is None:
            raise
        return _say(*explained)
    except KeyboardInterrupt:
        print("\n" + _("stopped"), file=sys.stderr)
        return 130


def _say(status: int, message: str) -> int:
    print("\n" + _("error: {message}").format(message=message), file=sys.stderr)
    return status


def run_batch(profiles: Sequence[Profile], course: Course = Course()) -> int:
    """Run profiles one after the other, the others too when one fails, and compare them when there are several.

    Returns:
        The exit status: 0, or that of the failure met last: 1 for a failed notebook or machine, 2 for bad input.
    """
    for sentence in (sentence for notebook in STAGES for sentence in edits(notebook)):
        print(_("note: {message}").format(message=sentence), flush=True)
    files.remove_abandoned(cache_root() / "data" / "cache")
    files.remove_abandoned_private(work_root())
    status, failures = 0, {}
    folders = {profile.name: runs.run_folder(profile) for profile in profiles}
    for number, profile in enumerate(profiles):
        try:
            run_profile(profile, course, others=list(folders.values())[:number])
        except KeyboardInterrupt:
            print(file=sys.stderr)
            for each in profiles:
                _print_standing(each, len(profiles) > 1)
            raise
        except Exception as error:
            status, failures[profile.name] = _failure(error, folders[profile.name])
            _say(status, f"{f'{profile.name}: ' if len(profiles) > 1 else ''}{failures[profile.name]}")
            _print_standing(profile, named=False)
    if len(profiles) > 1:
        page, table = comparison.compare(profiles, folders, failures)
        print(f"\n{table}\n\n ", _("comparison: {page}").format(page=page), flush=True)
    return status


def _failure(error: Exception, run_dir: Path) -> tuple[int, str]:
    """The exit status of a run that failed, and what is said: of an error that nobody foresaw, that it is our fault."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, (InternalError, NotebookError)):
        return 1, str(error)
    if isinstance(error, OSError) and (explained := explain(error)) is not None:
        return explained
    trace = "".join(traceback.format_exception(error))
    file = run_dir / "failure.txt"
    try:
        files.write_atomic(file, trace)
    except OSError:
        print(trace, file=sys.stderr)
    lines = str(error).splitlines() or [""]
    message = str(InternalError(f"{type(error).__name__}: {lines[0]}"))
    return 1, "\n".join([message, "  " + _("full traceback: {file}").format(file=file)]) if file.exists() else message


def _print_standing(profile: Profile, named: bool) -> None:
    lines = _standing(profile)
    for line in [f"{profile.name}:", *lines] if named and lines else lines:
        print(line, file=sys.stderr)


def _standing(profile: Profile) -> list[str]:
    """What of a run is finished, where its report is, and how it goes on: no line where nothing can be said."""
    run_dir = runs.run_folder(profile)
    try:
        reasons = {stage: _reason(stage, profile, run_dir) for stage in manifest.order(profile.rounds)}
    except Exception:  # said once already: the run's folder itself, or our code, is what is wrong
        return []
    done = [stage for stage, reason in reasons.items() if reason is None]
    waiting = [f"{stage} ({reason})" for stage, reason in reasons.items() if reason is not None]
    lines = []
    if done:
        page = run_dir / "index.html"
        lines.append("  " + _("finished: {stages}; report: {page}").format(stages=", ".join(done), page=page))
    if waiting:
        lines.append("  " + _("to run: {stages}; the same command goes on there").format(stages=", ".join(waiting)))
    return lines


def _waiting(profile: Profile, course: Course) -> list[str]:
    """The stages that are going to run: from the first that is not up to date, or is forced, to the last wanted."""
    run_dir, stages = runs.run_folder(profile), manifest.order(profile.rounds)
    last = stages.index(course.last) + 1 if course.last in stages else len(stages)
    for number, stage in enumerate(stages):
        if _is_forced(stage, stages, course) or _reason(stage, profile, run_dir) is not None:
            return stages[number:last]
    return []


def _is_forced(stage: str, stages: Sequence[str], course: Course) -> bool:
    return course.force or (course.first is not None and stages.index(stage) >= stages.index(course.first))


class Forecast:
    """What the stages of a run take, as `bgetune.estimate` says it; nothing where that fails: a run never fails by it.

    Args:
        profile: a checked one.
    """

    def __init__(self, profile: Profile):
        self.profile = profile
        self.costs: dict[str, Cost] = {}
        self._estimate: Estimate | None = None

    def of(self, stages: Sequence[str]) -> list[str]:
        """Estimate stages that come one after the other; what to print of it, in lines."""
        if not stages:
            return []
        try:
            from bgetune.estimate import Estimate, table  # here: a run that is up to date needs none of it

            if self._estimate is None:
                self._estimate = Estimate(self.profile)
            self.costs = self._estimate.costs(stages, known=manifest.notebook_of(stages[0]) != "01_positives")
            return table(self.costs).splitlines()
        except Exception as error:
            lines = str(error).splitlines() or [""]
            words = _("how long it takes could not be estimated ({reason})")
            return ["  " + words.format(reason=f"{type(error).__name__}: {lines[0]}")]

    def about(self, stage: str) -> list[str]:
        """The time of a stage in words, if there are any."""
        if stage not in self.costs:
            return []
        from bgetune.estimate import about

        return [about(self.costs[stage])]

    def seconds(self, stage: str) -> float | None:
        """The time of a stage, None where it is not known."""
        return self.costs[stage].seconds if stage in self.costs else None

    def learn(self, stage: str, seconds: float, left: Sequence[str]) -> None:
        """Estimate the stages that are left again, by what one that is done took and made."""
        if self._estimate is not None and stage in self.costs:
            self._estimate.learn(self.costs[stage], seconds)
            self.of(left)


def _reason(stage: str, profile: Profile, run_dir: Path) -> str | None:
    """Why a stage must run (again), or None."""
    values, _origins = resolve(manifest.notebook_of(stage), profile)
    reason = manifest.out_of_date(stage, values, run_dir)
    if reason is None and not manifest.is_executed(stage, run_dir):
        return _("stopped before its notebook was saved")
    return reason and said(reason)


def stage_named(option: str, number: str | None) -> str | None:
    """The stage that `--from` or `--until` names: "03", "3" or "03_hard_negatives"."""
    if number is None:
        return None
    for stage in STAGES:
        if number in (stage, stage[:2], stage[:2].lstrip("0")):
            return stage
    raise InputError(
        _("{option} {number}: no such notebook; known: {known}").format(
            option=option, number=number, known=", ".join(STAGES)
        )
    )


def run_profile(profile: Profile, course: Course = Course(), *, others: Sequence[Path] = ()) -> Path:
    """Run a profile's notebooks that are not up to date; the pages follow each of them.

    Args:
        others: folders of runs made in this call. A stage that would be the same as there, or in any other run of the
            repository unless it is forced, is taken over.

    Returns:
        The run's folder.

    Raises:
        InputError: if another process owns the folder, or a notebook says so.
        NotebookError: if a notebook fails otherwise.
        OSError: if the folder cannot be written.
    """
    started = time.monotonic()
    locale.use(profile.language)
    run_dir = runs.run_folder(profile)
    print(f"{profile.name}: {profile.path} -> {run_dir}", flush=True)
    with owned(run_dir) as descriptor:
        if manifest.is_lab(run_dir):
            raise InputError(
                _("{folder} belongs to ./run_all.sh lab; give the profile another name").format(folder=run_dir)
            )
        resolved = run_dir / "profile.yaml"
        files.write_atomic(resolved, yaml.safe_dump(profile.values | {"name": profile.name}, allow_unicode=True))
        manifest.set_rounds(run_dir, profile.rounds)
        stages = manifest.order(profile.rounds)
        forecast = Forecast(profile)
        for number, stage in enumerate(stages, start=1):
            forced = _is_forced(stage, stages, course)
            reason = _("forced") if forced else _reason(stage, profile, run_dir)
            label = f"  [{number}/{len(stages)}] {stage:<{max(map(len, stages))}}"
            if number > 1:
                require_judgeable(run_dir)
            if reason is None:
                print(label, _("up to date"), flush=True)
            elif (other := _take_over(stage, profile, run_dir, others, forced)) is not None:
                print(label, _("taken over from {run}").format(run=other.name), flush=True)
            else:
                left = _waiting(profile, course)
                if not forecast.costs:
                    print(*forecast.of(left), sep="\n", flush=True)
                running = [_("running ({reason})").format(reason=reason), *forecast.about(stage)]
                print(label, _(", ").join(running), flush=True)
                begun = time.monotonic()
                run_notebook(stage, resolved, run_dir, descriptor, label=label, expected=forecast.seconds(stage))
                took = time.monotonic() - begun
                print(label, _("done in {seconds} s").format(seconds=round(took)), flush=True)
                forecast.learn(stage, took, stages[number : stages.index(left[-1]) + 1] if left else ())
            pages.write_pages(run_dir, profile.name)
            if stage == course.last:
                break
    took = round(time.monotonic() - started)
    print("  " + _("report: {page}   ({seconds} s)").format(page=run_dir / "index.html", seconds=took), flush=True)
    return run_dir


def _take_over(stage: str, profile: Profile, run_dir: Path, others: Sequence[Path], forced: bool) -> Path | None:
    """The run that a stage was taken over from: one of this call or, unless forced, any other."""
    values, _origins = resolve(manifest.notebook_of(stage), profile)
    every = others if forced else [*others, *manifest.other_runs(run_dir)]
    return next((other for other in every if manifest.take_over(stage, values, run_dir, other)), None)


def require_judgeable(run_dir: Path) -> None:
    """Stop before anything is trained where 01 found that dev and test cannot be judged.

    Raises:
        InputError: with its sentence, which says what to add.
    """
    metrics = manifest.read_manifest(run_dir)["stages"].get("01_positives", {}).get("metrics", {})
    judging = metrics.get("judging", {"enough": True})
    if not judging["enough"]:
        found = _("Nothing was trained; what 01 found is in {page}").format(page=run_dir / "01_positives.html")
        raise InputError(f"{judging['sentence']} {found}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description=_(
            "Run the five notebooks for each profile and write runs/NAME/index.html. What is unchanged "
            "since the last run is not run again. Several profiles, or a study, are compared on a page."
        ),
        epilog=_("Also: ./run_all.sh test (lint and tests), ./run_all.sh lab (JupyterLab), ./run_all.sh --help."),
    )
    parser.add_argument(
        "profiles",
        nargs="*",
        default=["params/demo.yaml"],
        metavar="PROFILE",
        help=_("file, or NAME of params/NAME.yaml; default: demo"),
    )
    parser.add_argument("--from", dest="start", metavar="NN", help=_("run notebook NN and those after it in any case"))
    parser.add_argument("--until", metavar="NN", help=_("stop after notebook NN"))
    parser.add_argument(
        "--check", action="store_true", help=_("check the profiles and say what would run, run nothing")
    )
    parser.add_argument("--force", action="store_true", help=_("run all notebooks in any case"))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.PARAMETER=VALUE",
        help=_(
            "replace a value of the profile, for example --set 04_train.epochs=2; may be repeated; a list "
            "such as --set '04_train.scale=[10, 20, 50]' makes a run for each value and compares them"
        ),
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
