"""What is generated from the parameters' models: `python -m bgetune.config.generate` rewrites it.

That is `params/template.yaml` and the same in other languages, `params/schema.json`, the `parameters` cell of every
notebook, the checksums of the notebooks' code by which an edited notebook is told from the released one, and the
reference of a run's artifacts, `docs/artifacts.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import textwrap
import typing
import unicodedata
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bgetune.config.annotations import choices, models_in, plain_type
from bgetune.config.sources import SOURCE_EXAMPLES, Sources
from bgetune.config.stages import ROUND, STAGES, ProfileModel, Shared
from bgetune.data import artifacts
from bgetune.locale import _, using
from bgetune.paths import ROOT

ARTIFACTS = {"en": "docs/artifacts.md", "zh": "docs/artifacts.zh-CN.md"}
CHECKSUMS = "notebooks/checksums.txt"
"""A line a notebook: `checksum` and name. It tells an edited notebook from the released one where there is no git."""
TEMPLATES = {"en": "params/template.yaml", "zh": "params/template.zh-CN.yaml"}
WIDTH = 108
"""Of the comments of a template; a Chinese character counts for two."""


def template() -> str:
    """`params/template.yaml`: every key with its default, range and meaning, in the language in use."""
    lines = [
        "# " + _("Every parameter there is, at its default. Copy this file, keep what you change, delete the rest."),
        "# " + _("Made by `python -m bgetune.config.generate`. Relative paths are relative to the repository."),
        "# " + _("Shared parameters stand at the top; a section may give any of its own another value."),
        "",
        "# name: my_run                 # " + _("names the run's folder, runs/my_run; default: this file's name"),
        "# base: params/demo.yaml       # " + _("another profile, whose values hold where this one gives none"),
        "# study:                       # " + _("values to try: every combination is a run, and a page compares them"),
        "#   04_train.scale: [10, 20, 50]",
        *_template_lines(ProfileModel, "", {"rounds", "language"}),
        *_template_lines(Shared, ""),
    ]
    for stage, model in STAGES.items():
        own = {name for name in model.model_fields if name not in Shared.model_fields}
        lines += ["", f"# {_(str(model.__doc__))}", f"{stage}:" if own else f"{stage}: {{}}"]
        lines += _template_lines(model, "  ", own)
    return "\n".join(lines) + "\n"


def _template_lines(model: type[BaseModel], indent: str, only: set[str] | None = None) -> list[str]:
    lines = []
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        lines += [f"{indent}# {line}" for line in _wrapped(_help(field))]
        inner = next(models_in(field.annotation), None)
        if inner is None:
            lines.append(f"{indent}{name}: {_default(field)}")
        elif field.default is None:
            lines.append(f"{indent}{name}: null")
            lines += [f"{indent}#  {key}: {_default(f)}  # {_help(f)}" for key, f in inner.model_fields.items()]
        elif typing.get_origin(field.annotation) is list:
            lines.append(f"{indent}{name}: []")
            for number, (key, item) in enumerate(inner.model_fields.items()):
                lines.append(f"{indent}#  {'- ' if number == 0 else '  '}{key}: {_default(item)}  # {_help(item)}")
                for deeper in models_in(item.annotation):
                    fields = deeper.model_fields.items()
                    lines += [f"{indent}#      {name}: {_default(f)}  # {_help(f)}" for name, f in fields]
            for title, values in SOURCE_EXAMPLES.get(name, {}).items() if model is Sources else ():
                lines += [f"{indent}# {line}" for line in _wrapped(_("Example: {what}.").format(what=_(title)))]
                example = yaml.safe_dump([values], allow_unicode=True, sort_keys=False, width=100)
                lines += [f"{indent}#  {line}" for line in example.splitlines()]
        else:
            lines += [f"{indent}{name}:", *_template_lines(inner, indent + "  ")]
    return lines


def _wrapped(text: str) -> list[str]:
    """The lines of a comment. Chinese has no blanks to break at: a line may break at any character but punctuation."""
    if text.isascii():
        return textwrap.wrap(text, WIDTH)
    lines, width = [""], 0
    for word in re.findall(r"[^\u3000-\uffef\s]+|\s|.[，。；：、！？）》”]*", text):
        added = sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in word)
        if width + added > WIDTH:
            lines, width = [*lines, ""], 0
        lines[-1], width = lines[-1] + word, width + added
    return [line.strip() for line in lines]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6).split("\n")[0]


def _help(field: FieldInfo) -> str:
    """The description in the language in use, with the range or the choices where there are any."""
    bounds = []
    for rule in field.metadata:
        # no "=" sign: papermill counts those in a parameter's line
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if getattr(rule, name, None) is not None:
                bounds.append(f"{sign} {getattr(rule, name)}")
    notes = ", ".join(bounds) or " | ".join(str(value) for value in choices(field.annotation))
    description = _(str(field.description))
    return _("{help} ({notes})").format(help=description, notes=notes) if notes else description


def schema() -> str:
    """`params/schema.json`: the JSON schema of a profile, for editors."""
    return json.dumps(ProfileModel.model_json_schema(by_alias=True), ensure_ascii=False, indent=2) + "\n"


def parameters_cell(
    stage: str, *, profile: str = "params/demo.yaml", run_dir: str | None = None, round_number: int = 1
) -> str:
    """The source of a notebook's cell tagged `parameters`: typed, commented, None for "as the profile says".

    The comments are in the language in use.

    Args:
        profile, run_dir, round_number: values other than those of the stored notebook, for a copy.
    """
    file = _("The profile: a YAML file like params/template.yaml")
    folder = _("Folder of the run. None: runs/NAME, by the profile's name")
    round_help = _("Which round of mining and training; in a later one the model tuned last mines")
    lines = [
        f"profile: str = {_string(profile)}  # {file}",
        f"run_dir: str = {run_dir and _string(run_dir)}  # {folder}",
        *([f"round_number: int = {round_number}  # {round_help}"] * (stage in ROUND)),
        "# " + _("Below, None means: as the profile says, else the default in [brackets]."),
    ]
    for name, field in STAGES[stage].model_fields.items():
        kind = plain_type(field.annotation)
        default = "" if kind == "dict" else f" [{_default(field)}]"
        lines.append(f"{name}: {kind} = None  # {_help(field)}{default}")
    lacking = _("This kernel does not have bgetune; ./run_all.sh lab starts JupyterLab with one that has")
    lines += [
        'if __import__("importlib.util").util.find_spec("bgetune") is None:',
        f"    raise SystemExit({_string(lacking)})",
    ]
    return "\n".join(lines)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def is_parameters(cell: dict) -> bool:
    """Whether a notebook's cell is tagged `parameters`."""
    return "parameters" in cell["metadata"].get("tags", ())


def checksum(notebook: dict) -> str:
    """SHA-256 of a notebook's code cells, that of the parameters and all outputs left out."""
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code" and not is_parameters(cell)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def write_generated() -> list[Path]:
    """Rewrite what follows from the models; returns the files that changed."""
    import nbformat

    wanted = {ROOT / "params/schema.json": schema()}
    for language, path in TEMPLATES.items():
        with using(language):
            wanted[ROOT / path] = template()
            wanted[ROOT / ARTIFACTS[language]] = artifacts.reference()
    checksums = []
    for stage in STAGES:
        file = ROOT / "notebooks" / f"{stage}.ipynb"
        if file.exists():
            notebook = nbformat.read(file, as_version=4)
            with using("en"):
                next(filter(is_parameters, notebook.cells)).source = parameters_cell(stage)
            wanted[file] = nbformat.writes(notebook) + "\n"
            checksums.append(f"{checksum(notebook)}  {stage}\n")
    wanted[ROOT / CHECKSUMS] = "".join(checksums)
    changed = [file for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    for file in changed:
        file.write_text(wanted[file], encoding="utf-8")
    return changed


if __name__ == "__main__":
    argparse.ArgumentParser(description=_("Rewrite the files that are generated from the parameters.")).parse_args()
    for changed_file in write_generated():
        print(_("wrote {file}").format(file=changed_file.relative_to(ROOT)))
