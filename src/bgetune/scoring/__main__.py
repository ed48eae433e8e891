"""Scores pairs of texts from a file or stdin: `python -m bgetune.scoring --run runs/demo pairs.csv`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bgetune.errors import InputError
from bgetune.files import temporary_name
from bgetune.locale import _

BLOCK = 10_000
"""Pairs scored and written at a time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m bgetune.scoring",
        description=_("Adds similarity and calibrated probability (and match, with --precision) to pairs of texts."),
    )
    parser.add_argument("pairs", nargs="?", default="-", help=_("csv, tsv or jsonl file; - (default) is csv on stdin"))
    parser.add_argument("--run", required=True, help=_("folder of a finished run, for example runs/demo"))
    parser.add_argument("--columns", default="query,document", help=_("the two text columns (default: %(default)s)"))
    parser.add_argument("--precision", type=float, help=_("also say which pairs match at this guaranteed precision"))
    task = parser.add_mutually_exclusive_group()
    task.add_argument(
        "--query-to-query", action="store_true", help=_("both texts are of one kind, two queries for example")
    )
    task.add_argument("--query-to-document", action="store_true", help=_("queries that search documents"))
    parser.add_argument("--output", default="-", help=_("csv file to write; - (default) is stdout"))
    parser.add_argument("--device", default="auto", help=_("auto, cpu, cuda... (default: %(default)s)"))
    options = parser.parse_args(arguments)
    try:
        _score(options)
    except InputError as error:
        print(_("error: {message}").format(message=error), file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
    return 0


def _score(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from bgetune.scoring.files import check_target, read_pairs, without_text
    from bgetune.scoring.scorer import Scorer

    if options.output != "-":
        check_target(options.output)
    scorer = Scorer.load(options.run, device=options.device)
    threshold = None if options.precision is None else scorer.threshold(options.precision)
    # a file that was scored before is scored anew
    ours = ["similarity", "probability", *([] if threshold is None else ["match"])]
    pairs = read_pairs(options.pairs, options.columns).drop(columns=ours, errors="ignore")
    empty = without_text(pairs, scorer.normal)
    symmetric = True if options.query_to_query else False if options.query_to_document else None
    written = None if options.output == "-" else temporary_name(Path(options.output))
    for start in tqdm(range(0, max(len(pairs), 1), BLOCK), desc=_("scoring"), disable=len(pairs) <= BLOCK):
        block = pairs.iloc[start : start + BLOCK].copy()
        scored = block[~empty[start : start + BLOCK]]
        similarities = scorer.similarity(scored["query"], scored["document"], symmetric=symmetric)
        block.loc[scored.index, "similarity"] = similarities.round(6)
        block.loc[scored.index, "probability"] = scorer.calibrate(similarities).round(6)
        if threshold is not None:
            block["match"] = 0
            block.loc[scored.index, "match"] = (similarities >= threshold).astype(int)
        block.to_csv(written or sys.stdout, index=False, header=start == 0, mode="w" if start == 0 else "a")
    if written is not None:
        written.replace(options.output)


if __name__ == "__main__":
    sys.exit(main())
