"""Checks the tests: changes one line of the sources at a time and runs the tests that should notice.

    python tests/mutants.py [WORD]

prints a line for each mutant, killed (a test failed) or survived, and exits with 1 if one survived. With WORD only
those whose file or change contains it. It works on a copy. Not part of the suite.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("src", "tests", "params", "notebooks", "pyproject.toml", "requirements.lock", "models", "data")

MUTANTS = [
    # file below src/bgetune, tests, before, after
    ("data/text.py", "tests/data", "[2-69][0-9]{{3}}", "[2-6][0-9]{{3}}"),  # bank cards that begin with 9
    ("data/text.py", "tests/data", "1[3-9][0-9][ -]?", "1[3-8][0-9][ -]?"),  # mobile numbers 19x
    ("data/text.py", "tests/data", "(?:19|20)[0-9]{{6}}", "(?:19)[0-9]{{6}}"),  # born since 2000
    ("data/text.py", "tests/data", 'r"(?![0-9]|\\.[0-9])"', 'r"(?![0-9])"'),  # part of a decimal fraction
    ("graph/clusters.py", "tests/graph", "if too_many or any(", "if any("),  # size of a cluster
    ("graph/clusters.py", "tests/graph", '{"test": 0, "dev": 1, "train": 2}', '{"train": 0, "dev": 1, "test": 2}'),
    ("graph/clusters.py", "tests/graph", " - heldout_clusters\n", "\n"),  # train only and heldout in one cluster
    ("graph/clusters.py", "tests/graph", "> max_cluster_size", "> max_cluster_size + 1"),
    ("negatives/mining.py", "tests/negatives", 'pairs.loc[where & pairs["rule"].eq("") &', "pairs.loc[where &"),
    ("negatives/mining.py", "tests/negatives", ' & pairs["label"].isna(), "rule"] = rule', ', "rule"] = rule'),
    ("negatives/mining.py", "tests/negatives", 'pairs["rank"] < rules.rank_min', 'pairs["rank"] <= rules.rank_min'),
    ("negatives/mining.py", "tests/negatives", "    if rules.cluster_rule:\n", "    if not rules.cluster_rule:\n"),
    ("negatives/mining.py", "tests/negatives", "both = high[back >= rules.promote_score]", "both = high"),
    (
        "scoring/thresholds.py",
        "tests/scoring/test_thresholds.py",
        "np.cumprod(passed[first:])",
        "np.r_[passed[first:]]",
    ),
    (
        "scoring/thresholds.py",
        "tests/scoring/test_thresholds.py",
        "level = risk / 2 if two else risk",
        "level = risk * 2",
    ),
    ("scoring/thresholds.py", "tests/scoring/test_thresholds.py", "(count + 1) * (1 - recall)", "count * (1 - recall)"),
    (
        "scoring/thresholds.py",
        "tests/scoring/test_thresholds.py",
        "np.maximum(np.maximum(seen, 1),",
        "np.minimum(seen,",
    ),
    ("scoring/monitor.py", "tests/scoring/test_monitor.py", "value <= max(band, SMALL)", "value <= band"),
    (
        "scoring/stores.py",
        "tests/scoring/test_stores.py",
        "np.ceil(exact) if self.rises",
        "np.floor(exact) if self.rises",
    ),
    ("metrics/calibrators.py", "tests/metrics", "if a < 0:", "if a < -1e9:"),
    ("metrics/calibrators.py", "tests/metrics", "values[0] / 2, values,", "values[0], values,"),
    ("metrics/statistics.py", "tests/metrics", "prior / share, (1 - prior)", "share / prior, (1 - prior)"),
    ("runs/manifest.py", "tests/runs", 'if entry["code"] != code_hash', 'if not entry["code"] and code_hash'),
    ("runs/manifest.py", "tests/runs", 'if entry["parameters"] != json', 'if not entry["parameters"] and json'),
    ("runs/code.py", "tests/runs", "            todo |= _imported(", "            _imported("),  # imports of imports
    ("reports/tables.py", "tests/reports", '</span>", html.escape(clean(text))', '</span>", html.escape(text)'),
    ("reports/tables.py", "tests/reports", '</span>", html.escape(clean(text))', '</span>", clean(text)'),
    ("scoring/usage.py", "tests/scoring/test_usage.py", 'if letter in "`<>&$" else', 'if letter in "`" else'),
]


def main(word: str = "") -> int:
    """Try the mutants; the number of those that survived, at most 1."""
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / part).exists():
                shutil.copy2(ROOT / part, copy / part)
        for name, tests, before, after in MUTANTS:
            if word not in f"{name} {before}":
                continue
            file = copy / "src/bgetune" / name
            text = file.read_text("utf-8")
            if text.count(before) != 1:
                print(f"outdated   {name}: {before!r} stands there {text.count(before)} times")
                survived = 1
                continue
            file.write_text(text.replace(before, after), "utf-8")
            killed = _fails(copy, tests)
            file.write_text(text, "utf-8")
            survived |= not killed
            print(
                f"{'killed  ' if killed else 'SURVIVED'}   {name}: {before.strip()!r} -> {after.strip()!r}", flush=True
            )
    return int(survived)


def _fails(copy: Path, tests: str) -> bool:
    """Whether a test fails."""
    options = ["-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
    )
    return done.returncode != 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("word", nargs="?", default="", help="only mutants whose file or change contains it")
    sys.exit(main(parser.parse_args().word))
