"""All sources of a profile checked as before a run, their complaints together."""

from bgetune.data.sources import check_source
from bgetune.errors import InputError


def check_sources(sources):
    """Raise what `check_source` says of each source, a line each."""
    problems = []
    for place, source in sources.every().items():
        kind, _, number = place.partition(".")
        try:
            check_source(source, f"sources.{kind}[{number}]")
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
