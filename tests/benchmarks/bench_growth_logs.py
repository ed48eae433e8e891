"""How the counting of click logs grows: 1, 3 and 10 million rows on DuckDB, 1 million on Spark, equal results.

    python tests/benchmarks/bench_growth_logs.py                # all of it; needs PySpark and Java for Spark
    python tests/benchmarks/bench_growth_logs.py --quick        # 30, 90 and 300 thousand rows, and 30 thousand on Spark
    python tests/benchmarks/bench_growth_logs.py --no-spark

Each size is counted in a process of its own, on two threads. CPU seconds include what DuckDB's threads and Spark's Java
take; memory is the peak of the process and of Java. The last line is one JSON object. Exit status 1 where CPU seconds
grow faster than 1.2 times the rows, or the results differ.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_positives import SETTINGS, make_log

LIMIT = 1.2
"""How much faster than the rows CPU seconds may grow."""
ROWS = (1_000_000, 3_000_000, 10_000_000)
SOURCE = {
    **{"session_column": "session_id", "title_column": "title", "rank_column": "rank", "dwell_column": "dwell"},
    "timezone": "UTC",
}


def counted(file: Path, engine: str) -> dict[str, object]:
    """Read and count one log; seconds, peak memory and what was found."""
    import pandas as pd

    from bgetune.config.sources import ClickSource
    from bgetune.data import backends
    from bgetune.data.sources import read_clicks
    from bgetune.positives import clicks

    started, cpu = time.perf_counter(), time.process_time()
    log, dropped = read_clicks(ClickSource(path=str(file), **SOURCE), engine)
    counts = clicks.count(log, **SETTINGS)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    digest = hashlib.sha256()
    for table in (dropped.drop(columns="source"), counts.texts, counts.clicks, counts.rewrites, counts.dropped):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    digest.update(repr((counts.searches, counts.abandoned, counts.users, counts.days)).encode())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if engine != "duckdb":
        import psutil

        for java in psutil.Process().children(recursive=True):
            cpu += sum(java.cpu_times()[:2])
            memory += int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{java.pid}/status").read_text())[1])
        backends.disconnect(engine)
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib": round(memory / 1024),
        "queries": int((counts.texts["kind"] == "query").sum()),
        "clicks": len(counts.clicks),
        "rewrites": len(counts.rewrites),
        "digest": digest.hexdigest()[:16],
    }


def measure(file: Path, rows: int, engine: str) -> dict[str, object]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--count", str(file), "--engine", engine]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {"rows": rows, "engine": engine} | json.loads(answer.splitlines()[-1])
    line = (
        "{engine:>10} {rows:12,} {seconds:9.1f} {cpu_seconds:9.1f} {peak_mib:7,} {clicks:10,} {rewrites:10,}  {digest}"
    )
    print(line.format(**found), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--no-spark", action="store_true", help="DuckDB alone")
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="duckdb", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        print(json.dumps(counted(arguments.count, arguments.engine)))
        return 0
    sizes = [rows * 3 // 100 if arguments.quick else rows for rows in ROWS]
    print(f"{'engine':>10} {'rows':>12} {'seconds':>9} {'cpu':>9} {'MiB':>7} {'clicks':>10} {'rewrites':>10}")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            file = Path(folder) / f"log{rows}.parquet"
            make_log(rows, file)
            runs.append(measure(file, rows, "duckdb"))
            if rows == sizes[0] and not arguments.no_spark:
                os.environ.setdefault(
                    "PYSPARK_SUBMIT_ARGS", "--conf spark.ui.enabled=false --driver-memory 2g pyspark-shell"
                )
                runs.append(measure(file, rows, "local[2]"))
            file.unlink()
    by_duckdb = [run for run in runs if run["engine"] == "duckdb"]
    others = [run["digest"] == by_duckdb[0]["digest"] for run in runs if run["engine"] != "duckdb"]
    equal = all(others) if others else None
    growth = [
        later["cpu_seconds"] / before["cpu_seconds"] / (later["rows"] / before["rows"])
        for before, later in itertools.pairwise(by_duckdb)
    ]
    shown = ", ".join(f"{one:.2f}" for one in growth)
    print(f"CPU seconds grow as rows x {shown} (at most {LIMIT}); results of Spark equal: {equal}")
    print(json.dumps({"runs": runs, "growth": growth, "equal": equal}))
    return int(equal is False or max(growth) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
