"""YAML as profiles are written in: values, and the line of every key. What is odd is one line that says where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from bgetune.errors import InputError, reason
from bgetune.locale import N_, _

MAX_BYTES = 1 << 20
"""Of a profile's file."""
MAX_VALUES = 20_000
"""Of a profile, what its aliases repeat counted each time."""
MAX_DEPTH = 20
"""Of mappings and lists in one another."""
_PROBLEMS = (
    *(N_("mapping values are not allowed here"), N_("found unhashable key"), N_("but found another document")),
    *(N_("found unexpected end of stream"), N_("could not find expected {value}"), N_("found unexpected {value}")),
    *(N_("found character {value} that cannot start any token"), N_("found unknown escape character {value}")),
    *(N_("expected <block end>, but found {value}"), N_("expected the node content, but found {value}")),
    *(N_("expected ',' or ']', but got {value}"), N_("expected ',' or '}', but got {value}")),
    *(N_("sequence entries are not allowed here"), N_("block sequence entries are not allowed here")),
    *(N_("could not determine a constructor for the tag {value}"), N_("found undefined alias {value}")),
    *(N_("found duplicate anchor {value}"), N_("expected alphabetic or numeric character, but found {value}")),
)
"""What PyYAML says, for the catalogues; `{value}` stands for the last text in quotes."""
DATE = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a date stays the text that it is."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError) as error:  # !!int abc, !!timestamp 2026-13-45
            problem = _("no {kind} ({problem})").format(kind=node.tag.rsplit(":", 1)[-1], problem=error)
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != DATE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_mapping(file: Path) -> tuple[dict[str, Any], dict[tuple, int]]:
    """The mapping in a file, and the line (from 1) of every key and list item in it.

    Raises:
        InputError: naming the file, the line and the remedy: it cannot be read, is not UTF-8, not YAML, no mapping, or
            larger or deeper than any profile; a key is given twice or is no text; a value is no text that can be
            written.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(
                _("{file}: {size:,} bytes; a profile has at most {most:,}").format(
                    file=file, size=file.stat().st_size, most=MAX_BYTES
                )
            )
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            _("{file}: not UTF-8 ({reason} at byte {position}); save it as UTF-8").format(
                file=file, reason=error.reason, position=error.start
            )
        ) from None
    except OSError as error:
        raise InputError(
            _("{file}: cannot be read ({reason}); a profile is a file of YAML").format(file=file, reason=reason(error))
        ) from None
    values, node = _load(text, str(file))
    if node is None or not isinstance(values, dict):
        raise InputError(
            _("{file}: a profile is a mapping of parameters (key: value); see params/template.yaml").format(file=file)
        )
    lines: dict[tuple, int] = {}
    _collect_lines(node, (), lines, file)
    return values, lines


def line_of(file: object, line: int) -> str:
    """How messages name a line."""
    return _("{file}, line {line}").format(file=file, line=line)


def read_value(text: str, where: str) -> Any:
    """A single value, as given after `--set key=`; `where` begins the message of an `InputError`."""
    return _load(text, where)[0]


def _load(text: str, where: str) -> tuple[Any, yaml.Node | None]:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, where)
        return loader.construct_document(node), node
    except RecursionError:
        raise InputError(
            _("{where}: lists and mappings deeper than {depth} in one another; write it flat").format(
                where=where, depth=MAX_DEPTH
            )
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = line_of(where, mark.line + 1) if mark else where
        problem = _problem(error)
        message = _("{place}: not YAML: {problem}; put texts with : # {{ [ in quotes")
        if "'\\t'" in problem:
            message = _("{place}: not YAML: {problem}; indent with blanks, not tabs")
        raise InputError(message.format(place=place, problem=problem)) from None
    finally:
        if loader is not None:
            loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, in the language in use where PyYAML says it often."""
    if isinstance(error, yaml.reader.ReaderError):
        return _("unacceptable character {code}").format(code=f"#x{error.character:04x}")
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    quoted = re.findall("'[^']*'", problem)
    if not quoted:
        return _(problem)
    before, value, after = problem.rpartition(quoted[-1])
    message = before + "{value}" + after
    return _(message).replace("{value}", value)


def _measure(root: yaml.Node, where: str) -> None:
    """Refuse what would take long to walk: an alias may repeat a value that repeats others, a million times."""
    count, nodes = 0, [(root, 1)]
    while nodes:
        node, depth = nodes.pop()
        count += 1
        line = node.start_mark.line + 1
        if count > MAX_VALUES:
            raise InputError(
                _("{where}: more than {most:,} values, aliases (*name) counted; write fewer").format(
                    where=where, most=MAX_VALUES
                )
            )
        if depth > MAX_DEPTH:
            raise InputError(
                _("{where}: lists and mappings deeper than {depth} in one another; write it flat").format(
                    where=line_of(where, line), depth=MAX_DEPTH
                )
            )
        if isinstance(node, yaml.ScalarNode):
            if re.search("[\0\ud800-\udfff]", node.value):
                raise InputError(
                    _("{where}, line {line}: a NUL or half a character in a text; take it out").format(
                        where=where, line=line
                    )
                )
        elif isinstance(node, yaml.MappingNode):
            nodes += [(part, depth + 1) for pair in node.value for part in pair]
        else:
            nodes += [(item, depth + 1) for item in node.value]


def _collect_lines(node: yaml.Node, prefix: tuple, lines: dict[tuple, int], file: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(
                    _("{file}, line {line}: a key is a text, not a list or a mapping").format(file=file, line=line)
                )
            place = (*prefix, key.value)
            if place in lines:
                raise InputError(
                    _("{file}, line {line}: {key} is given twice (first in line {first}); keep one").format(
                        file=file, line=line, key=key.value, first=lines[place]
                    )
                )
            lines[place] = line
            _collect_lines(value, place, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            lines[(*prefix, position)] = item.start_mark.line + 1
            _collect_lines(item, (*prefix, position), lines, file)
