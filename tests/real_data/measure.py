"""Run the real-data profiles and print what they measured.

    python tests/real_data/measure.py [bank] [sogouq]

Needs ../shared (third-party data and a model that are not part of the repository).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bgetune import pipeline, runs
from bgetune.config.profile import load_profile
from bgetune.paths import ROOT
from bgetune.reports import verdict
from bgetune.runs import manifest

HERE = Path(__file__).parent


def bank() -> None:
    """Train on one labelled set of bank questions, calibrate and judge on another."""
    if status := pipeline.main([str(HERE / "bank.yaml")]):
        sys.exit(status)
    metrics = manifest.read_manifest(runs.run_folder(load_profile(HERE / "bank.yaml")))["stages"]["05_calibrate"][
        "metrics"
    ]
    print(f"\n{'':28}before   after")
    for key in verdict.MEASURES | verdict.CONTEXT:
        print(f"{key:28}{metrics['before'][key]:6.3f}  {metrics['after'][key]:6.3f}")
    for row in metrics["thresholds"]:
        print(row)


def sogouq() -> None:
    """What a real click log yields: counts only, its queries are real people's."""
    profile = load_profile(HERE / "sogouq.yaml")
    run_dir = runs.run_folder(profile)
    pipeline.check([profile])
    pipeline.run_notebook("01_positives", profile.path, run_dir)
    print(manifest.read_manifest(run_dir)["stages"]["01_positives"]["metrics"])


if __name__ == "__main__":
    profiles = {"bank": bank, "sogouq": sogouq}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "profiles", nargs="*", choices=[[], *profiles], metavar="PROFILE", help="bank, sogouq; none: both"
    )
    named = parser.parse_args().profiles or list(profiles)
    if not (ROOT.parent / "shared" / "data").is_dir():
        sys.exit("needs ../shared (third-party data), which is not part of the repository")
    for name in named:
        profiles[name]()
