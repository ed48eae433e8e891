"""Does successive halving find the learning rate that is best in the end?

    python tests/benchmarks/bench_rates.py [--quick] [--worlds known] [--rates 1e-4,1e-3,5e-3] [--epochs 3]

Prints what `learning_rates` tries and chooses, and for every rate a whole training: its metric on dev, AUC and average
precision on test, and processor seconds. Worlds are those of `bench_separation`, with positives alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench_separation import dev_pairs, prepared, shared_settings
from separation_judging import judge
from separation_worlds import task


def compare(world: str, rates: list[float], epochs: int, quick: bool) -> None:
    from bgetune.training import halving, train

    job = task(world, quick)
    groups, cluster_of, _graded, _mined = prepared(job, False, None, {})
    dev, settings = dev_pairs(job), replace(shared_settings(job, 0, epochs=epochs), learning_rate=rates[0])
    given = (job.model, groups, cluster_of)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        chosen, tried = halving.choose_learning_rate(*given, settings, rates[1:], Path(folder) / "tried", pairs=dev)
        print(tried.to_string(index=False))
        print(f"{world}: chosen {chosen.learning_rate:g} in {time.process_time() - begun:.0f} s", flush=True)
        for rate in rates:
            begun = time.process_time()
            at_rate = replace(settings, learning_rate=rate)
            trained = train(*given, at_rate, Path(folder) / f"{rate:g}", pairs=dev)
            seconds = time.process_time() - begun
            on_dev = trained.log.set_index("step").loc[trained.best_step, settings.metric]
            found, _ = judge(trained.model, job, [])
            shown = "  ".join(f"{name} {found[name]:.4f}" for name in ("auc", "average_precision"))
            print(f"{rate:g}  dev {on_dev:.4f}  {shown}  {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small demo world, one epoch")
    parser.add_argument("--worlds", default="known")
    parser.add_argument("--rates", default="1e-4,1e-3,5e-3")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    for world in options.worlds.split(","):
        compare(world, rates, 1 if options.quick else options.epochs, options.quick)


if __name__ == "__main__":
    main()
