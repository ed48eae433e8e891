"""What is wrong with a value of a profile, in words: pydantic's complaints in the language in use."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from bgetune.config.annotations import models_in
from bgetune.config.base import SECRET
from bgetune.config.secrets import mask_secrets
from bgetune.config.stages import STAGES
from bgetune.errors import joined
from bgetune.locale import N_, _

MOVED = {
    "05_calibrate.positive_grade": N_("it holds for all notebooks now: give positive_grade at the top of the profile"),
}
"""Keys of an earlier version, and what became of them."""

COMPLAINTS = {
    "greater_than": N_("Input should be greater than {gt}"),
    "greater_than_equal": N_("Input should be greater than or equal to {ge}"),
    "less_than": N_("Input should be less than {lt}"),
    "less_than_equal": N_("Input should be less than or equal to {le}"),
    "finite_number": N_("Input should be a finite number"),
    "literal_error": N_("Input should be {expected}"),
    "string_type": N_("Input should be a valid string"),
    "string_too_short": N_("String should have at least {min_length} characters"),
    "int_type": N_("Input should be a valid integer"),
    "int_parsing": N_("Input should be a valid integer, unable to parse string as an integer"),
    "int_from_float": N_("Input should be a valid integer, got a number with a fractional part"),
    "int_parsing_size": N_("Unable to parse input string as an integer, exceeded maximum size"),
    "float_type": N_("Input should be a valid number"),
    "float_parsing": N_("Input should be a valid number, unable to parse string as a number"),
    "bool_type": N_("Input should be a valid boolean"),
    "bool_parsing": N_("Input should be a valid boolean, unable to interpret input"),
    "list_type": N_("Input should be a valid list"),
    "tuple_type": N_("Input should be a valid tuple"),
    "dict_type": N_("Input should be a valid dictionary"),
    "model_type": N_("Input should be a valid mapping of parameters (key: value)"),
    "too_short": N_("There should be at least {min_length} items"),
    "too_long": N_("There should be at most {max_length} items"),
    "missing": N_("Field required"),
    "invalid_key": N_("a key is a name, such as 04_train or epochs"),
}
"""Type of pydantic's complaint -> its words."""


def describe(issue: Mapping[str, Any], model: type[BaseModel]) -> str:
    """A complaint of pydantic (see `pydantic.ValidationError.errors`) about a model's parameter, which it names."""
    name = ".".join(map(str, issue["loc"]))
    if issue["type"] == "extra_forbidden":
        return _unknown(issue["loc"], name, model)
    told = _words(issue)
    # values that do not go together, and secrets, are not shown
    if issue["type"] == SECRET or (issue["type"] == "value_error" and isinstance(issue["input"], dict)):
        return _("{place}: {problem}").format(place=name, problem=told)
    return _("{parameter}: {problem}, not {value}").format(parameter=name, problem=told, value=shown(issue["input"]))


def _words(issue: Mapping[str, Any]) -> str:
    message = COMPLAINTS.get(issue["type"])
    if message is None:  # of our own validators
        return issue["msg"].removeprefix("Value error, ")
    facts = dict(issue.get("ctx", {}))
    if issue["type"] == "literal_error":
        others, between, last = facts["expected"].rpartition(" or ")
        facts["expected"] = _("{others} or {last}").format(others=others, last=last) if between else last
    return _(message).format(**facts)


def _unknown(loc: tuple, name: str, model: type[BaseModel]) -> str:
    """A key that is none, with the nearest one that is."""
    if (moved := MOVED.get(name)) is not None:
        return _("{place}: {problem}").format(place=name, problem=_(moved))
    *place, key = loc
    known = _known_keys(model, tuple(place))
    owners = [stage for stage, section in STAGES.items() if key in section.model_fields and not place]
    # 03 of 03_hard_negatives, label of label_column
    begun = [name for name in known if name.startswith(str(key)) and (name in STAGES or name == f"{key}_column")]
    near = begun or difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.5)
    if owners:
        hint = _("it belongs in the section {section}").format(section=owners[0])
    elif near:
        hint = _("did you mean {name}?").format(name=near[0])
    else:
        hint = _("known here: {names}").format(names=", ".join(known))
    return joined(_("unknown key {name}").format(name=shown(name, quoted=False)), hint)


def _known_keys(model: type[BaseModel], place: tuple) -> dict[str, str]:
    """The keys that are known at a place of a profile, by the name a user writes."""
    for step in place:
        if isinstance(step, int):
            continue
        field = next(f for name, f in model.model_fields.items() if step in (name, f.alias))
        model = next(iter(models_in(field.annotation)))
    return {field.alias or name: name for name, field in model.model_fields.items()}


def shown(value: Any, *, quoted: bool = True) -> str:
    """A value for a message: in a line, without secrets, cut."""
    text = mask_secrets(json.dumps(value, ensure_ascii=False, default=str) if quoted else str(value))
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 80 else text[:77] + "..."
