"""Speed, memory and quality of the mining of click logs.

    python tests/benchmarks/bench_positives.py            # 1 and 10 million rows, a popular document, the demo world
    python tests/benchmarks/bench_positives.py --quick    # the same in small, under a minute

Prints a table; the last line is one JSON object. Each size is measured in a process of its own, on two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS, MEMORY = 2, "2GB"

SETTINGS = {
    "session_gap_minutes": 30,
    "rewrite_window_seconds": 120,
    "robot_searches_per_day": 300,
    "min_dwell_seconds": 2,
}
RULES = {"min_support": 2, "min_npmi": 0.1, "min_jaccard": 0.05, "hub_cap": 100, "misclick_rate": 0.05}


def make_log(rows: int, file: Path, hub: int = 0, sessions: bool = True) -> None:
    """A click log as Parquet, drawn by hashes of the row number, so that every run makes the same one.

    A meaning (one for every 40 rows, popular ones more often) has up to 12 wordings and 3 pages. One search in five is
    abandoned and rephrased; 7 clicks of 100 go astray. `hub` is the number of distinct queries that click one page.
    Without `sessions` there are no session ids, and they have to be made from users and times.
    """
    import duckdb

    digits = "'0123456789', '支付密码登录转账贷款'"
    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY})
    connection.execute("CREATE MACRO u(i, salt) AS (hash(i * 1000 + salt) % 1000003) / 1000003.0")
    connection.execute(
        f"""COPY (
            WITH drawn AS (
                SELECT i, (i // 4) AS session,
                    floor(pow(u(i // 4, 1), 2) * {rows // 40})::BIGINT AS meaning,
                    floor(pow(u(i, 2), 2) * 12)::INT AS wording, floor(pow(u(i, 3), 2) * 3)::INT AS page,
                    u(i, 4) < 0.2 AS abandoned, u(i, 5) < 0.07 AS astray, u(i, 6) < 0.02 AS junk
                FROM range({rows}) AS r(i)
            )
            SELECT TIMESTAMP '2026-01-01' + to_seconds(session * 40 + i % 4 * 20) AS time,
                'u' || (hash(session) % {max(rows // 12, 50)}) AS user_id,
                {"'s' || session" if sessions else "NULL::VARCHAR"} AS session_id,
                CASE WHEN junk THEN 'www.example.com/' || i % 1000
                    ELSE translate(meaning::VARCHAR, {digits}) || '怎么办' || wording END AS query,
                CASE WHEN NOT abandoned THEN 'https://example.com/' || target || '/' || page END AS url,
                CASE WHEN NOT abandoned THEN translate(target::VARCHAR, {digits}) || '的说明' || page END AS title,
                1 + hash(i) % 8 AS rank, 1 + hash(i + 7) % 90 AS dwell
            FROM (
                SELECT *, CASE WHEN astray THEN (meaning * 7 + 3) % {rows // 40} ELSE meaning END AS target FROM drawn
            )
            UNION ALL
            SELECT TIMESTAMP '2026-01-01' + to_seconds(i), 'h' || i, {"'h' || i" if sessions else "NULL"},
                translate(i::VARCHAR, {digits}) || '首页', 'https://example.com/', '首页', 1, 30
            FROM range({hub}) AS r(i)
        ) TO '{file}' (FORMAT parquet)"""
    )


def mine(file: Path) -> dict[str, float]:
    """Mine one log; seconds, peak memory and what was found."""
    import ibis

    from bgetune.positives import clicks, evidence

    with tempfile.TemporaryDirectory() as folder:
        options = {"threads": THREADS, "memory_limit": MEMORY, "temp_directory": folder}
        log = ibis.duckdb.connect(f"{folder}/work.duckdb", **options).read_parquet(file)
        started, cpu = time.perf_counter(), time.process_time()  # without what imports take
        counts = clicks.count(log, **SETTINGS)
        counted = time.perf_counter()
        mined = evidence.mine(counts, **RULES)
        done = time.perf_counter()
        cpu = time.process_time() - cpu
    return {
        "seconds": round(done - started, 2),
        "count_seconds": round(counted - started, 2),
        "mine_seconds": round(done - counted, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "queries": int((counts.texts.kind == "query").sum()),
        "clicks": len(counts.clicks),
        "rewrites": len(counts.rewrites),
        "edges": len(mined.edges),
    }


def measure(rows: int, folder: Path, hub: int = 0, sessions: bool = True) -> dict[str, float]:
    file = folder / "log.parquet"
    make_log(rows, file, hub, sessions)
    command = [sys.executable, __file__, "--mine", str(file)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    file.unlink()
    return {"rows": rows, "hub": hub, "session_ids": sessions} | json.loads(answer.splitlines()[-1])


def demo_quality(world: str) -> dict[str, dict[str, float]]:
    """What notebook 01 prints of a demo world against its known truth, from the raw log to the whole graph."""
    import bgetune_demo
    from bgetune import paths, pipeline
    from bgetune.runs import manifest

    os.environ.update(pipeline.ENVIRONMENT)
    bgetune_demo.prepare(world)
    with tempfile.TemporaryDirectory() as name:
        profile = Path(name) / "profile.yaml"
        text = (paths.ROOT / "params/demo.yaml").read_text("utf-8")
        profile.write_text(text.replace("demo://standard/", f"demo://{world}/"), "utf-8")
        pipeline.run_notebook("01_positives", profile, Path(name))
        return manifest.read_manifest(Path(name))["stages"]["01_positives"]["metrics"]["quality"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--mine", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mine:
        print(json.dumps(mine(arguments.mine)))
        return
    small, large, hub = (100_000, 500_000, 20_000) if arguments.quick else (1_000_000, 10_000_000, 100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [
            measure(small, folder),
            measure(small, folder, hub),
            measure(small, folder, sessions=False),
            measure(large, folder),
        ]
    print(f"{'rows':>12} {'hub':>8} {'session ids':>12} {'seconds':>8} {'cpu':>8} {'MiB':>6} {'edges':>10}")
    for run in runs:
        line = "{rows:12,} {hub:8,} {session_ids!s:>12} {seconds:8.1f} {cpu_seconds:8.1f} {peak_mib:6,} {edges:10,}"
        print(line.format(**run))
    growth = {name: runs[-1][name] / runs[0][name] / (large / small) for name in ("seconds", "cpu_seconds")}
    grown = ", ".join(f"{name} by rows x {value:.2f}" for name, value in growth.items())
    print(f"from {small:,} to {large:,} rows time grows: {grown}")
    quality = demo_quality("small" if arguments.quick else "standard")
    print("\nNotebook 01 on the demo world, against its known truth (wanted: precision 0.97, recall 0.80, none mixed)")
    print(f"{'':20} {'pairs':>12} {'precision':>10} {'recall':>8} {'mixed clusters':>15}")
    for method, row in quality.items():
        line = "{pairs:12,.0f} {precision:10.3f} {recall:8.3f} {mixed_clusters:15,.0f}"
        print(f"{method:20} " + line.format(**row))
    print(json.dumps({"runs": runs, "growth": growth, "quality": quality}))


if __name__ == "__main__":
    main()
