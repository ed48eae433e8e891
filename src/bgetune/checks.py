"""What can be known before the first notebook is said before it: all of it at once, each with file, line and remedy.

One function for each kind of finding. What a single section says of itself is checked where parameters are defined
(`bgetune.config`); here is what takes a look at files, models, packages, the environment or several sections.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from bgetune import runs
from bgetune.config.augmentation import Endpoint, Judged, Service
from bgetune.config.base import Embeds, Section
from bgetune.config.profile import Profile, load_profiles, model_locations, require_model, resolve
from bgetune.config.stages import STAGES, Backtranslate, HardNegatives, Positives, Shared, Train
from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.paths import locate, prepare_demo
from bgetune.runs import manifest

IGNORED_BY_FLAGEMBEDDING = (
    "loss", "loss_scope", "symmetric", "orthogonality_weight", "matryoshka", "guide", "guide_margin", "graded_loss",
    "mixing", "positives", "mini_batch_size", "lora_rank", "eval_steps", "patience",
)  # fmt: skip
"""Parameters of 04_train that the official trainer has nothing for."""
LABELLED = ("graded", "groups", "triplets", "qrels")
"""Kinds of sources that say of pairs how much they mean the same, whatever their parameters."""
SAMPLED_BYTES = 200 << 20
"""Of a file: larger ones are not read for a sample of their texts."""
NEEDS_RERANKER = {
    "01_positives": ("recall_reranker_score", "recall_max_pairs", "veto_reranker_score"),
    "03_hard_negatives": ("veto_score", "promote_score"),
}
"""What says how a reranker is used."""


@dataclass
class Findings:
    """What was found, each once, in the order in which it was met.

    Attributes:
        errors: what would stop a run.
        warnings: what is merely odd.
    """

    errors: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)

    def error(self, problem: str, place: object = "") -> None:
        self.errors[_at(place, problem)] = None

    def warn(self, problem: str, place: object = "") -> None:
        self.warnings |= {_at(place, problem): None} if problem else {}

    @contextmanager
    def catch(self, place: object = "") -> Iterator[None]:
        """Each line that the block says of bad input becomes an error, after the place unless it names it."""
        try:
            yield
        except InputError as error:
            for line in str(error).splitlines():
                self.error(line, "" if line.startswith(str(place)) else place)

    def stop(self) -> None:
        """Raise an `InputError` with all errors, a line each, if there are any."""
        if len(self.errors) > 1:
            first = _("{number} things to correct first").format(number=len(self.errors))
            raise InputError("\n".join([first, *self.errors]))
        if self.errors:
            raise InputError(next(iter(self.errors)))


def _at(place: object, problem: str) -> str:
    return _("{place}: {problem}").format(place=place, problem=problem) if place else problem


@dataclass(frozen=True)
class Part:
    """A section of a profile, its values resolved.

    Attributes:
        folders: of the models that are there, by location.
    """

    profile: Profile
    stage: str
    values: Embeds
    origins: Mapping[str, str]
    folders: Mapping[str, Path]

    def name(self, parameter: str) -> str:
        """What a user writes: `model` where it is shared, else with the section before it."""
        own = self.origins.get(parameter.split(".")[0]) in ("profile", "notebook")
        return parameter if parameter in Shared.model_fields and not own else f"{self.stage}.{parameter}"

    def at(self, parameter: str) -> str:
        """How a message begins: file, line and parameter."""
        name = self.name(parameter)
        return _at(self.profile.place(name), name)

    def within(self, parameter: str) -> str:
        """How a message begins that names the parameter itself: file, line and section."""
        return _at(self.profile.place(self.name(parameter)), self.stage)

    def given(self, parameter: str) -> bool:
        """Whether the profile says anything of a parameter."""
        return self.origins.get(parameter, "default") != "default"


def load(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> list[Profile]:
    """The runs of all profiles.

    Raises:
        InputError: with what is wrong with any of them, or if two runs have one name.
    """
    found, profiles = Findings(), []
    for path in paths:
        with found.catch():
            profiles += load_profiles(path, overrides)
    names = [profile.name for profile in profiles]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.error(
            _("two profiles are named {name}: their runs would overwrite each other; change `name`").format(name=name)
        )
    found.stop()
    return profiles


def check(profiles: Sequence[Profile]) -> list[str]:
    """Check everything that can be checked before the first notebook of the first profile starts.

    Returns:
        What is odd and stops nothing, a line each.

    Raises:
        InputError: with everything that would stop a run, a line each: file, line, parameter and the remedy.
    """
    found = Findings()
    folders: dict[str, Path] = {}
    tried: set[tuple[str, ...]] = set()
    for profile in profiles:
        parts: dict[str, Part] = {}
        for stage in STAGES:
            with found.catch(profile.path):
                parts[stage] = Part(profile, stage, *resolve(stage, profile), folders)
                require_model(parts[stage].values, profile)
        if len(parts) < len(STAGES):
            continue
        _models(profile, parts, folders, tried, found)
        for stage, part in parts.items():
            same = (stage, part.values.model_dump_json())
            if same not in tried:  # the runs of a study differ in a value or two
                tried.add(same)
                for kind in KINDS:
                    kind(part, found)
        _labels(parts, found)
        _documents_alone(parts, found)
    found.stop()
    return list(found.warnings)


# --- models -------------------------------------------------------------------------------------------------------


def _models(
    profile: Profile, parts: Mapping[str, Part], folders: dict[str, Path], tried: set[tuple[str, ...]], found: Findings
) -> None:
    """Every model is there, and is what its parameter needs; puts their folders into `folders`."""
    from bgetune.models import hub
    from bgetune.models.check import ROLES, check_model

    locations = model_locations({stage: part.values for stage, part in parts.items()})
    texts: list[str] | None = None
    for world in sorted(
        {location.split("/")[2] for location, _parameter in locations if location.startswith("demo://")}
    ):
        with found.catch(profile.place("model")):
            prepare_demo(world)
    for location, parameter in locations:
        role = ROLES[parameter.rsplit(".", 1)[-1]]
        if (location, role) in tried:
            continue
        tried.add((location, role))
        if texts is None:
            positives = parts["01_positives"].values
            assert isinstance(positives, Positives)
            texts = _texts(positives)
        with found.catch(profile.place(parameter)):
            check_model(location, parameter, role, None if role == "translator" else texts)
            folders[location] = hub.fetch(location, parameter)


def _texts(positives: Positives) -> list[str]:
    """Some of the texts that the models will read; of files that take a while to read, none."""
    from bgetune.data.recognise import sample_texts
    from bgetune.data.text import normalize

    texts: list[str] = []
    for source in positives.sources.every().values():
        # what cannot be read is a finding about sources
        with Findings().catch():
            file = locate(source.path) if source.path else None
            if file is None or (file.is_file() and file.stat().st_size < SAMPLED_BYTES):
                texts += [normalize(text, positives.opencc) for text in sample_texts(source)]
    return texts


def _device(part: Part, found: Findings) -> None:
    from bgetune.models import hub

    if part.given("device"):
        with found.catch(part.profile.place(part.name("device"))):
            hub.check_device(part.values.device, part.name("device"))


def _length(part: Part, found: Findings) -> None:
    """More tokens than a model has positions are cut off."""
    from bgetune.models.shape import positions

    for parameter in ("model", "reranker"):
        folder = part.folders.get(getattr(part.values, parameter, None) or "")
        if folder is not None and (most := positions(folder)) and part.values.max_length > most:
            length = part.values.max_length
            found.warn(
                _("{length} tokens, of which {parameter} reads the first {most} only").format(
                    length=length, parameter=parameter, most=most
                ),
                part.at("max_length"),
            )


def _layout(part: Part, found: Findings) -> None:
    """The model's prompts can be read, and the trainer that was chosen has its pooling."""
    from bgetune.models import layout
    from bgetune.models.prompts import Prompts

    folder = part.folders.get(getattr(part.values, "model", None) or "")
    if folder is not None:
        with found.catch(part.at("model")):
            Prompts.of(folder)
        if isinstance(part.values, Train) and part.values.backend == "flagembedding":
            with found.catch(part.at("backend")):
                layout.official_pooling(folder)


def _vectors(part: Part, found: Findings) -> None:
    """Vectors can only be cut to fewer numbers than they have."""
    from bgetune.models.shape import dimension

    if not isinstance(part.values, Train) or not part.values.matryoshka:
        return
    folder = part.folders.get(part.values.model)
    if folder is None:
        return
    length, longest = dimension(folder), max(part.values.matryoshka)
    if length and longest > length:
        found.error(
            _(
                "vectors of {model} have {length} numbers and cannot be cut to {longest}; give lengths below {length}"
            ).format(model=part.values.model, length=length, longest=longest),
            part.at("matryoshka"),
        )


def _index(part: Part, found: Findings) -> None:
    """FAISS can make the index and knows its search parameters."""
    from bgetune.models import index
    from bgetune.models.shape import dimension

    if isinstance(part.values, Positives | HardNegatives):
        folder = part.folders.get(part.values.model)
        length = (dimension(folder) if folder else None) or 512
        name = "search_params" if part.values.index == "Flat" and part.values.search_params else "index"
        with found.catch(part.within(name)):
            index.check(part.values.index, part.values.search_params, length)


# --- data ---------------------------------------------------------------------------------------------------------


def _sources(part: Part, found: Findings) -> None:
    """There are sources, they can be read and have the columns that the profile names."""
    from bgetune.data import sources

    if isinstance(part.values, Train) and part.values.general is not None:
        with found.catch(part.profile.place("04_train.general")):
            sources.check_source(part.values.general, "04_train.general")
    if not isinstance(part.values, Positives):
        return
    every = part.values.sources.every()
    for place, source in every.items():
        name = f"01_positives.sources.{place}"
        with found.catch(part.profile.place(name)):
            sources.check_source(source, name, part.values.engine)
    if not every:
        found.error(
            _(
                "there is no source; name a click log, QA, synonyms or labelled pairs of yours (see "
                "params/template.yaml)"
            ),
            part.at("sources"),
        )
    elif all(getattr(source, "use", "all") == "heldout" for source in every.values()):
        found.error(_("every source is heldout, so nothing is left to train on; give more sources"), part.at("sources"))


def _files(part: Part, found: Findings) -> None:
    """Files other than sources are there, and are what they should be."""
    for parameter in ("truth", "review_file"):
        location = getattr(part.values, parameter, None)
        if location is None:
            continue
        with found.catch(part.profile.place(part.name(parameter))):
            file = locate(location)
            if not file.is_file():
                raise InputError(
                    _(
                        "{parameter}: {location}: no such file ({file}); correct the path (relative ones start at the "
                        "repository), or leave {name} out"
                    ).format(parameter=part.name(parameter), location=location, file=file, name=parameter)
                )
            if parameter == "review_file":
                from bgetune.negatives.review import read_review

                read_review(file)
            else:
                _truth(file, part.name(parameter))


def _truth(file: Path, parameter: str) -> None:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            columns = [name.strip().strip('"') for name in next(lines, "").split(",")]
    except UnicodeDecodeError:
        columns = []
    if not {"text", "meaning"} <= set(columns):
        raise InputError(
            _("{parameter}: {file} is no table of text and meaning; save it as CSV in UTF-8 with these columns").format(
                parameter=parameter, file=file
            )
        )


def _opencc(part: Part, found: Findings) -> None:
    from bgetune.data.text import normalize

    if isinstance(part.values, Positives) and part.values.opencc is not None:
        with found.catch(part.within("opencc")):
            normalize("繁體", part.values.opencc)


# --- services and packages ----------------------------------------------------------------------------------------


def _keys(part: Part, found: Findings) -> None:
    """Keys of services are in the environment, and their client libraries are installed."""
    from bgetune.augment.services import LIBRARIES, variables

    options, otherwise = part.values, _("leave judge out")
    services: list[tuple[str, Endpoint]] = []
    if isinstance(options, Judged):
        services += [("judge", options.judge)] if options.judge.base_url else []
    elif isinstance(options, Backtranslate) and options.enabled:
        otherwise, writer, pivots = _("set 02_backtranslate.enabled to false"), options.generation, options.pivots
        services += [(f"pivots.{n}.service", pivot.service) for n, pivot in enumerate(pivots) if pivot.service]
        services += [("generation", writer)] if writer.base_url else []
        if writer.base_url and not (writer.queries or writer.paraphrases):
            found.warn(_("queries and paraphrases are both 0, so nothing is generated"), part.at("generation"))
        if part.given("generation") and writer.model and not writer.base_url:
            found.warn(_("without base_url nothing is generated"), part.at("generation"))
    # what a run asked for before is remembered, so it needs no key for the same texts
    remembered = part.stage in manifest.read_manifest(runs.run_folder(part.profile))["stages"]
    say: Callable[[str, str], None] = found.warn if remembered else found.error
    for place, service in services:
        for variable in variables(service):
            if not os.environ.get(variable, "").strip():
                say(
                    _(
                        "the environment variable {variable} is empty; export {variable}=... (any word for a "
                        "server that wants no key), or {otherwise}"
                    ).format(variable=variable, otherwise=otherwise),
                    part.at(place),
                )
        if isinstance(service, Service) and (module := LIBRARIES.get(service.name)) and find_spec(module) is None:
            found.error(
                _("{service} needs: pip install 'bgetune[translate]'").format(service=service.name), part.at(place)
            )


def _packages(part: Part, found: Findings) -> None:
    """What a parameter needs beyond the core package is there: an extra, or a token."""
    from bgetune.models import export
    from bgetune.training import TrainingSettings, devices, events, tracking, upload

    options, place = part.values, part.profile.place
    if isinstance(options, HardNegatives) and options.precision == "int8":
        with found.catch(part.at("precision")):
            export.require()
    if not isinstance(options, Train):
        return
    with found.catch(part.at("launcher")):
        found.warn(devices.require(TrainingSettings.of(options, epochs=1)), part.at("launcher"))
    if options.onnx:
        with found.catch(part.at("onnx")):
            export.require()
    if options.tensorboard:
        with found.catch(place("04_train.tensorboard")):
            events.require()
    if options.wandb:
        with found.catch(place("04_train.wandb")):
            tracking.require()
    if options.push_to_hub is not None:
        with found.catch(place("04_train.push_to_hub")):
            upload.require_token()
    for parameter, package in (("backend", "FlagEmbedding"), ("lora_rank", "peft")):
        wanted = options.backend == "flagembedding" if parameter == "backend" else options.lora_rank is not None
        if wanted and find_spec(package) is None:
            found.error(
                _("needs a package that is not installed: pip install {package}").format(package=package),
                part.at(parameter),
            )


# --- parameters that do not go together ---------------------------------------------------------------------------


def _ignored(part: Part, found: Findings) -> None:
    """Parameters that are given and have no effect."""
    options = part.values
    if isinstance(options, Train):
        others = {name for name in IGNORED_BY_FLAGEMBEDDING if getattr(options, name) != _default(options, name)}
        if options.backend == "flagembedding" and others:
            found.warn(
                _("flagembedding ignores {parameters}").format(parameters=", ".join(sorted(others))), part.at("backend")
            )
        if options.loss != "gist":
            for name in ("guide", "guide_margin"):
                if getattr(options, name) != _default(options, name):
                    found.warn(_("has no effect without loss: gist"), part.at(name))
        if options.mini_batch_size and options.mini_batch_size > options.batch_size:
            found.warn(_("larger than batch_size, so it saves no memory"), part.at("mini_batch_size"))
        if options.patience and options.epochs == 1 and options.eval_steps is None:
            found.warn(_("one epoch has few evaluations on dev; it may stop early or never"), part.at("patience"))
    needs = NEEDS_RERANKER.get(part.stage, ()) if getattr(options, "reranker", "") is None else ()
    for name in needs:
        if part.given(name) and getattr(options, name) is not None:
            found.warn(_("has no effect without a reranker"), part.at(name))
    if isinstance(options, Positives) and options.dev_fraction + options.test_fraction > 0.5:
        found.warn(
            _("dev and test take more than half of the texts; little is left to train on"), part.at("dev_fraction")
        )
    if isinstance(options, HardNegatives) and options.rank_max - options.rank_min + 1 < options.num_negatives:
        found.warn(
            _("rank_min to rank_max hold {candidates} candidates, fewer than {negatives}").format(
                candidates=options.rank_max - options.rank_min + 1, negatives=options.num_negatives
            ),
            part.at("num_negatives"),
        )


def _default(options: Section, name: str) -> object:
    return type(options).model_fields[name].get_default(call_default_factory=True)


def _labels(parts: Mapping[str, Part], found: Findings) -> None:
    """The metric that chooses the checkpoint can be measured on what the sources give."""
    train, positives = parts["04_train"], parts["01_positives"].values
    assert isinstance(train.values, Train)
    assert isinstance(positives, Positives)
    sources = positives.sources
    labelled = any(source.label_column for source in [*sources.pairs, *sources.qa])
    labelled = labelled or any(getattr(sources, kind, ()) for kind in LABELLED)
    if train.values.metric == "labelled_auc" and not labelled:
        found.error(
            _(
                "labelled_auc needs pairs labelled by people (sources: pairs with label_column, or "
                "graded); choose auc, average_precision or mrr@10"
            ),
            train.at("metric"),
        )


def _documents_alone(parts: Mapping[str, Part], found: Findings) -> None:
    """Documents alone teach by their own parts, unless a language model writes queries for them."""
    positives, back = parts["01_positives"], parts["02_backtranslate"].values
    kinds = {place.split(".")[0] for place in positives.values.sources.every()}  # type: ignore[attr-defined]
    if kinds == {"corpus"} and not back.writes_queries:  # type: ignore[attr-defined]
        words = _("documents alone: their own parts are weak positives; see generation in 02_backtranslate for more")
        found.warn(words, positives.at("sources"))


KINDS: tuple[Callable[[Part, Findings], None], ...] = (
    _sources, _files, _opencc, _device, _length, _layout, _vectors, _index, _keys, _packages, _ignored,
)  # fmt: skip
"""What is checked of each section."""
