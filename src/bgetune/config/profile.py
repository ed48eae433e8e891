"""Profiles: one YAML file of shared parameters and a section per notebook.

A value is looked up in the notebook's own arguments first, then in its section, then at the top level of the
profile, and last comes the default in `bgetune.config.stages`. A profile may start from another one (`base`), and may
be a study: a grid of values (`study`), each combination a run of its own.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import typing
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bgetune.config.annotations import marks, models_in, plain_type
from bgetune.config.base import Embeds, Section
from bgetune.config.complaints import describe, shown
from bgetune.config.reading import line_of, read_mapping, read_value
from bgetune.config.stages import RENAMED, RENAMED_VALUES, STAGES, ProfileModel, Shared, Train
from bgetune.errors import InputError
from bgetune.locale import LANGUAGES, _
from bgetune.paths import ROOT

MAX_RUNS = 1000
"""Of a study."""
MAX_NAME = 200
"""Bytes of a folder's name: file systems take 255, and temporary names are longer."""
MAX_LABEL = 160
"""Characters of the name of a study's run."""


@dataclass(frozen=True)
class Line:
    """A line of a file; how messages name it is said in the language in use then."""

    file: Path
    number: int

    def __str__(self) -> str:
        return line_of(self.file, self.number)


Places = dict[tuple, Line | str]
"""Where keys stand: a line, or the option that gave them."""


@dataclass(frozen=True)
class Profile:
    """A run as the user wrote it, checked as a whole: a profile, or one combination of a study's values.

    Attributes:
        name: names the run's folder; of a study, the study's name and the values tried: study_temperature/scale=10.
        path: the file it was read from.
        values: what the file and its base say, with `--set` applied: shared values and one dictionary per section.
        places: where each key stands, ("04_train", "epochs") -> FILE, line 12.
    """

    name: str
    path: Path
    values: dict[str, Any]
    places: Places = field(default_factory=dict, repr=False, compare=False)

    @property
    def rounds(self) -> int:
        """How often 03 and 04 run."""
        return self.values.get("rounds", 1)

    @property
    def language(self) -> str | None:
        """Of pages and figures; None: that of the system's locale."""
        return self.values.get("language")

    def place(self, parameter: str) -> str:
        """File and line of a parameter, or of the section it is in; the file alone where the profile has neither."""
        key = tuple(int(part) if part.isdigit() else part for part in parameter.split("."))
        return str(_place(key, self.places, self.path))


def load_profiles(path: str | Path, overrides: typing.Sequence[str] = ()) -> list[Profile]:
    """Read and check a profile: one run, or of a study one for each combination of its values.

    Args:
        path: a YAML file, relative to the working directory or to the repository.
        overrides: `key=value` or `section.key=value`, values in YAML. A list for a parameter that takes a single
            value (a list of lists for one that takes a list) is a study of these values.

    Raises:
        InputError: naming file, line and key, and for an unknown key the nearest known one.
    """
    file = find_file(path)
    values, places = _read_profile(file)
    for override in overrides:
        _apply_override(values, override, places)
    _check(values, places, file)
    name = values.get("name") or file.stem
    check_name(name, _place(("name",), places, file))
    study = values.pop("study", {})
    if not study:
        return [Profile(name, file, values, places)]
    at = {key: _place(("study", key), places, file) for key in study}
    variants = _variants(values, study, at, places, file)
    places = places | {tuple(key.split(".")): place for key, place in at.items()}
    return [Profile(f"{name}/{label}", file, variant, places) for label, variant in variants.items()]


def load_profile(path: str | Path, overrides: typing.Sequence[str] = ()) -> Profile:
    """Read and check the profile of a single run; see `load_profiles`."""
    profiles = load_profiles(path, overrides)
    if len(profiles) > 1:
        raise InputError(
            _(
                "{path} is a study of {number} runs: ./run_all.sh {path} runs them; in a notebook, take "
                "the profile of one of them: runs/{name}/profile.yaml"
            ).format(path=path, number=len(profiles), name=profiles[0].name)
        )
    return profiles[0]


def language_of(path: str | Path) -> str | None:
    """The language that a profile asks for, of one that cannot be used as well, so that its user can read why."""
    try:
        text = find_file(path).read_text(encoding="utf-8", errors="replace")
    except (InputError, OSError):
        return None
    found = re.search(rf"^language:[ \t]*[\"']?({'|'.join(LANGUAGES)})\b", text, re.MULTILINE)
    return found[1] if found else None


def find_file(path: str | Path) -> Path:
    """A file given relative to the working directory or to the repository, as an absolute path.

    A plain name such as demo is `params/demo.yaml`.
    """
    candidates = [Path(path).expanduser(), ROOT / path]
    if Path(path).name == str(path):
        candidates.append(ROOT / "params" / f"{path}.yaml")
    for candidate in candidates:
        try:
            if candidate.is_file():
                return candidate.resolve()
            folder = candidate.is_dir()
        except (OSError, ValueError):  # no name that a file can have
            folder = False
        if folder:
            raise InputError(_("{path}: a folder; give a file in it").format(path=path))
    raise InputError(
        _("{file}: no such file (looked in {working}, {root} and {params}); correct it").format(
            file=shown(path, quoted=False), working=Path.cwd(), root=ROOT, params=ROOT / "params"
        )
    )


def resolve(stage: str, profile: Profile, arguments: dict[str, Any] | None = None) -> tuple[Embeds, dict[str, str]]:
    """One notebook's parameters and where each came from.

    Args:
        stage: a key of `STAGES`.
        arguments: the notebook's own variables; None means "as the profile says". Names that are no
            parameters of the notebook are passed over.

    Returns:
        The checked model, and for each field one of "notebook", "profile" (its section), "profile (shared)", "default".

    Raises:
        InputError: naming the parameter.
    """
    model = STAGES[stage]
    section = profile.values.get(stage) or {}
    layers = {
        "notebook": {key: value for key, value in (arguments or {}).items() if value is not None},
        "profile": section,
        "profile (shared)": {key: value for key, value in profile.values.items() if key not in STAGES},
    }
    values, origins = {}, {}
    for name in model.model_fields:
        origin = next((label for label, layer in layers.items() if name in layer), "default")
        origins[name] = origin
        if origin != "default":
            values[name] = layers[origin][name]
    try:
        return model.model_validate(values), origins
    except ValidationError as error:
        found = _("{place}: {problem}")
        raise InputError(
            "\n".join(found.format(place=stage, problem=describe(issue, model)) for issue in error.errors())
        ) from None


def require_model(values: Embeds, profile: Profile) -> None:
    """Raise an `InputError` if a notebook's parameters name no embedding model (none is right for everybody), or no
    reranker to tune."""
    if values.model is None:
        raise InputError(
            _(
                "{file}: model is not given; name the embedding model to tune at the top, for example "
                "model: BAAI/bge-small-zh-v1.5 (a hub name), a folder, or demo://standard/encoder"
            ).format(file=profile.path)
        )
    if isinstance(values, Train) and values.tune_reranker and values.reranker is None:
        raise InputError(
            _(
                "{file}: 04_train: tune_reranker needs a reranker to start from; name one, for example reranker: "
                "BAAI/bge-reranker-base"
            ).format(file=profile.path)
        )


def model_locations(values: typing.Mapping[str, Section]) -> list[tuple[str, str]]:
    """Every model that the notebooks of a profile will load: location and parameter, each such pair once."""
    found: dict[tuple[str, str], None] = {}
    for stage, section in values.items():
        if getattr(section, "enabled", True):
            for location, parameter in _locations(section, stage):
                shared = parameter.removeprefix(f"{stage}.")
                found[location, shared if shared in Shared.model_fields else parameter] = None
    return list(found)


def _locations(value: Any, name: str) -> typing.Iterator[tuple[str, str]]:
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _locations(item, f"{name}.{number}")
    elif isinstance(value, BaseModel):
        for field, info in type(value).model_fields.items():
            inner = getattr(value, field)
            if isinstance(inner, str) and ("model" in info.metadata or "model" in marks(info.annotation)):
                yield inner, f"{name}.{field}"
            else:
                yield from _locations(inner, f"{name}.{field}")


# --- reading and checking -----------------------------------------------------------------------------------------


def _read_profile(file: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Places]:
    """The mapping in a file laid over that of its base, and of every key in it the place."""
    values, lines = read_mapping(file)
    places: Places = {key: Line(file, line) for key, line in lines.items()}
    _rename(values, places)
    base = values.pop("base", None)
    if base is None:
        return values, places
    if not isinstance(base, str):
        raise InputError(
            _("{place}: base: the path of another profile, not {base!r}").format(place=places["base",], base=base)
        )
    try:
        found = find_file(base)
    except InputError as error:
        raise InputError(_("{place}: base: {problem}").format(place=places["base",], problem=error)) from None
    if found in (*above, file):
        raise InputError(
            _("{place}: base: {found} is based on this file itself; leave one base out").format(
                place=places["base",], found=found
            )
        )
    merged, merged_places = _read_profile(found, (*above, file))
    merged.pop("name", None)
    _merge(merged, values, (), merged_places)
    return merged, merged_places | places


def _rename(values: dict[str, Any], places: Places) -> None:
    """Give parameters under their old names, and the values of a study to try for them, the new ones."""
    for (stage, old), new in RENAMED.items():
        for holder, key, name, path in (
            (values.get(stage), old, new, (stage,)),
            (values.get("study"), f"{stage}.{old}", f"{stage}.{new}", ("study",)),
        ):
            if isinstance(holder, dict) and key in holder:
                place = places.get((*path, key), "")
                _new_name(f"{stage}.{old}", place)
                holder.setdefault(name, _new_value(f"{stage}.{old}", holder.pop(key)))
                places.setdefault((*path, name), place)


def _new_name(key: str, place: Line | str) -> str:
    """The name of a parameter now, with a warning if the given one is its old name."""
    stage, _dot, old = key.partition(".")
    new = RENAMED.get((stage, old))
    if new is None:
        return key
    message = _("{place}: {key} is now called {name}; the old name stops working in the next version")
    pairs = RENAMED_VALUES.get((stage, old), {}).items()
    if pairs:
        message = _(
            "{place}: {key} is now called {name}; the old name stops working in the next version, and so do its old "
            "values: {values}"
        )
    values = ", ".join(_("{old} is {new}").format(old=before, new=now) for before, now in pairs)
    message = message.format(place=place, key=key, name=f"{stage}.{new}", values=values)
    warnings.warn(message, FutureWarning, stacklevel=2)
    return f"{stage}.{new}"


def _new_value(key: str, value: Any) -> Any:
    """The value of a parameter now, or the values of a study, where `key` is an old name whose values were renamed."""
    stage, _dot, old = key.partition(".")
    names = RENAMED_VALUES.get((stage, old), {})
    if isinstance(value, list):
        return [_new_value(key, item) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _merge(under: dict[str, Any], over: dict[str, Any], prefix: tuple, places: Places) -> None:
    """Lay a mapping over another: mappings are merged, other values replaced, and with them what `places` says."""
    for key, value in over.items():
        place = (*prefix, key)
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _merge(under[key], value, place, places)
        else:
            under[key] = value
            _forget(places, place)


def _forget(places: Places, place: tuple) -> None:
    """Remove a key and everything below it from `places`, for another value stands there now."""
    for old in [old for old in places if old[: len(place)] == place]:
        del places[old]


def check_name(name: str, place: Line | str) -> None:
    """Raise for a name that is no folder's on some system, or leads out of `runs/`."""
    for part in name.split("/"):
        plain = part == Path(part).name and part == part.strip() and part.isprintable()
        if not part or not plain or part.startswith(".") or re.search(r'[<>:"\\|?*]', part):
            raise InputError(
                _("{place}: name must be a plain folder name, not {name}").format(place=place, name=shown(name))
            )
        if len(part.encode("utf-8")) > MAX_NAME:
            raise InputError(
                _("{place}: name of {length} characters is too long for a folder; shorten it").format(
                    place=place, length=len(part)
                )
            )


def _apply_override(values: dict[str, Any], override: str, places: Places) -> None:
    """Replace a value, and in `places` the line where it stood."""
    given = f"--set {shown(override, quoted=False)}"
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(re.fullmatch(r"\w+", part) for part in key.split(".")):
        raise InputError(
            _("{given}: write --set section.parameter=value, for example 04_train.epochs=2").format(given=given)
        )
    if key == "base":
        raise InputError(_("{given}: the base of a profile is given in its file; write it there").format(given=given))
    value = _new_value(key, read_value(text, given))
    key = _new_name(key, given)
    study = values.get("study")
    if _is_study(key, value):
        _assign(values, "study", (study if isinstance(study, dict) else {}) | {key: value}, given)
        places["study", key] = "--set"
        return
    if isinstance(study, dict):
        study.pop(key, None)
    _assign(values, key, value, given)
    place = tuple(key.split("."))
    _forget(places, place)
    places[place] = "--set"


def _assign(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Set `section.parameter`, making the sections on the way."""
    *sections, name = key.split(".")
    for part in sections:
        if values.get(part) is None:
            values[part] = {}
        values = values[part]
        if not isinstance(values, dict):
            raise InputError(
                _(
                    "{origin}: {part} is not a section; write section.parameter=value, as in params/template.yaml"
                ).format(origin=origin, part=part)
            )
    values[name] = value


def _is_study(key: str, value: Any) -> bool:
    """Whether `--set key=value` gives several values to try: a list for a parameter that takes none."""
    model: type[BaseModel] = ProfileModel
    field: FieldInfo | None = None
    for part in key.split("."):
        field = next((field for name, field in model.model_fields.items() if part == (field.alias or name)), None)
        if field is None:
            return False
        model = next(models_in(field.annotation), BaseModel)
    if field is None or not isinstance(value, list):
        return False
    return plain_type(field.annotation) != "list" or (
        bool(value) and all(item is None or isinstance(item, list) for item in value)
    )


def _variants(
    values: dict[str, Any], study: dict[str, list[Any]], at: typing.Mapping[str, Line | str], places: Places, file: Path
) -> dict[str, dict[str, Any]]:
    """The values of each run of a study, checked, by the run's label; `at`: the place of each key of the study."""
    for key in study.keys() & {"name", "base", "study"}:
        raise InputError(
            _("{place}: study: {key} is no parameter to try values of; take it out").format(place=at[key], key=key)
        )
    runs = math.prod(map(len, study.values()))
    if runs > MAX_RUNS:
        sizes = " x ".join(str(len(tried)) for tried in study.values())
        raise InputError(
            _(
                "{place}: study: {runs:,} runs ({sizes} values), {most:,} is the most; try fewer values, "
                "or one parameter after the other"
            ).format(place=next(iter(at.values())), runs=runs, sizes=sizes, most=MAX_RUNS)
        )
    # a complaint about a value that is tried names its line in the study
    steps = {key: tuple(key.split(".")) for key in study}
    sections = {place[:depth]: at[key] for key, place in steps.items() for depth in range(1, len(place))}
    places = sections | places | {place: at[key] for key, place in steps.items()}
    combinations = [dict(zip(study, chosen, strict=True)) for chosen in itertools.product(*study.values())]
    variants = dict(zip(_labels(combinations), (copy.deepcopy(values) for _run in combinations), strict=True))
    for chosen, variant in zip(combinations, variants.values(), strict=True):
        for key, value in chosen.items():
            _assign(variant, key, value, _("{place}: study: {key}").format(place=at[key], key=key))
        _check(variant, places, file)
    return variants


def _labels(combinations: list[dict[str, Any]]) -> list[str]:
    """Names of folders for the runs of a study: scale=10,loss=gist; odd characters are replaced, long values cut."""
    short = {key: key.rsplit(".", 1)[-1] for key in combinations[0]}
    names = {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}
    labels = []
    for chosen in combinations:
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in chosen.items()
        }
        safe = {key: re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:40] for key, text in texts.items()}
        labels.append(",".join(f"{names[key]}={text}" for key, text in safe.items())[:MAX_LABEL])
    return [label if labels.count(label) == 1 else f"{label},{n}" for n, label in enumerate(labels, start=1)]


def _check(values: dict[str, Any], places: Places, file: Path) -> None:
    """Raise what the models object to, each with its place."""
    try:
        ProfileModel.model_validate(values)
    except ValidationError as error:
        found = _("{place}: {problem}")
        raise InputError(
            "\n".join(
                found.format(place=_place(issue["loc"], places, file), problem=describe(issue, ProfileModel))
                for issue in error.errors()
            )
        ) from None


def _place(key: tuple, places: Places, file: Path) -> Line | str:
    while key and key not in places:
        key = key[:-1]
    return places[key] if key else str(file)
