"""Compares two runs on new traffic, before the new model replaces the old one.

python -m bgetune.compare_traffic runs/old runs/new log.csv
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.reports import tables
from bgetune.scoring import shadow
from bgetune.scoring.files import at_most, check_limit, check_target, read_pairs, without_text
from bgetune.scoring.scorer import Scorer


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m bgetune.compare_traffic",
        description=_("Compare two runs on new traffic, before the new model replaces the old one."),
    )
    parser.add_argument("old", help=_("folder of the run in production"))
    parser.add_argument("new", help=_("folder of the run that is to replace it"))
    parser.add_argument(
        "log", help=_("pairs of new traffic: whatever a profile's source can be; - reads csv from stdin")
    )
    parser.add_argument("--columns", default="query,document", help=_("of the two texts (default: %(default)s)"))
    parser.add_argument("--query", help=_("SQL query, where LOG is a database"))
    parser.add_argument(
        "--limit",
        type=int,
        default=20_000,
        help=_("most pairs to score; a random sample of more (default: %(default)s)"),
    )
    parser.add_argument(
        "--adapter",
        metavar="FILE",
        help=_(
            "also fit a linear map from vectors of the old model to the new one, for an index that cannot "
            "be rebuilt at once; measure what it loses, and write the better of two to FILE (safetensors)"
        ),
    )
    parser.add_argument("--json", action="store_true", help=_("one JSON object instead of text"))
    options = parser.parse_args(arguments)
    try:
        check_limit(options.limit)
        if options.adapter:
            check_target(options.adapter)
        old, new = Scorer.load(options.old), Scorer.load(options.new)
        pairs = read_pairs(options.log, options.columns, sql=options.query)
        unread = without_text(pairs, old.normal) | pairs["query"].map(new.normal).eq("")
        pairs = at_most(pairs[~unread], options.limit)
        if pairs.empty:
            raise InputError(_("{file}: no pairs to compare; give a file with some").format(file=options.log))
        found = shadow.compare(old, new, pairs)
        measured = None
        if options.adapter:
            adapters, measured = shadow.indexes(old, new)
            best = max(adapters, key=lambda name: measured["recall"].get(name, 0.0))
            adapters[best].save(Path(options.adapter))
    except InputError as error:
        print(_("error: {message}").format(message=error), file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(shadow.as_json(found, measured), ensure_ascii=False))
    else:
        print(describe(found, measured))
    return 0


def describe(found: shadow.Shadow, measured: pd.DataFrame | None) -> str:
    """The comparison as text for a terminal."""
    vectors = (
        _("stored vectors: both models give the same ones; the index can stay")
        if found.same_vectors
        else _(
            "stored vectors: the models differ; encode the index with the new one before you switch, and switch model, "
            "thresholds and index at once"
        )
    )
    correlation = "–" if found.rank_correlation is None else f"{found.rank_correlation:.3f}"
    parts = [
        _("{pairs:,} pairs, rank correlation of the cosines {correlation}").format(
            pairs=found.pairs, correlation=correlation
        ),
        vectors,
        _("decisions at each guaranteed precision (shares of the pairs):"),
        tables.table(pd.DataFrame(found.decisions), digits=3).text,
        _("the largest changes of the probability:"),
        tables.table(pd.DataFrame(found.examples), digits=3).text,
    ]
    if measured is not None:
        parts += [
            _("what an index finds for test queries of the new run, by the vectors that it holds:"),
            tables.table(measured, digits=3).text,
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
