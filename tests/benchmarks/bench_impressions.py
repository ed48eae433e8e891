"""What results that users saw and passed over add to a click log, against the demo world's truth.

    python tests/benchmarks/bench_impressions.py [--world small]

Mines the log with all results that were shown, from the log alone (no reranker, no other source), with and without the
pairs that users passed over, for a lower and lower `min_support`. Prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json

import ibis
import pandas as pd

import bgetune_demo
from bgetune.data.text import STANDARD
from bgetune.graph import clusters as graph
from bgetune.metrics.truth import same_meaning
from bgetune.positives import clicks, evidence, quality
from bgetune_demo import shown, world as worlds

SETTINGS = {
    **{"session_gap_minutes": 30, "rewrite_window_seconds": 120},
    **{"robot_searches_per_day": 300, "min_dwell_seconds": 2},
}
RULES = {"min_npmi": 0.1, "min_jaccard": 0.05, "hub_cap": 100}
CASES = {
    "default": {"min_support": 2, "misclick_rate": 0.05},
    "mis-clicks assumed rarer": {"min_support": 2, "misclick_rate": 0.01},
    "a user is enough": {"min_support": 1, "misclick_rate": 0.01},
}
MAX_CLUSTER_SIZE = 60


def log_of(table: pd.DataFrame) -> ibis.Table:
    """What `read_clicks` makes of the log."""
    table = table.rename(columns={"dwell_seconds": "dwell"})
    table = table.assign(time=pd.to_datetime(table["time"]), clicked=table["clicked"] == 1, rank=table["rank"])
    return ibis.memtable(table[[*clicks.LOG, "clicked"]], schema={**clicks.LOG, "clicked": "boolean"})


def measure(world: str) -> list[dict[str, float | str]]:
    tables = worlds.make(bgetune_demo.WORLDS[world])
    for maker in (worlds.corpus, worlds.synonyms):
        maker(tables)  # they note the texts that mean nothing
    counts = clicks.count(log_of(shown.results(tables)), **SETTINGS)
    meaning = {STANDARD.text_id(text): value for text, (value, _) in tables.meaning.items()}
    texts, representative = graph.merge_duplicates(counts.used_texts())
    supported = graph.to_representatives(quality.raw_pairs(counts), representative).drop_duplicates()
    nobody = pd.DataFrame({"a_id": [], "b_id": []}, dtype=str)
    rows = []
    for case, rules in CASES.items():
        mined = evidence.mine(counts, **RULES, **rules)
        edges = graph.merge_edges(graph.to_representatives(evidence.to_tables(counts, mined.edges), representative))
        passed = graph.to_representatives(evidence.kept_apart(counts, mined, nobody, nobody), representative)
        wrong = same_meaning(passed["a_id"], passed["b_id"], meaning)
        for name, different in (("clicks alone", nobody), ("and passed over", passed)):
            apart = different[["a_id", "b_id"]].to_numpy().tolist()
            clusters = graph.cluster(
                texts["text_id"], graph.combine_sources(edges), max_cluster_size=MAX_CLUSTER_SIZE, different=apart
            )
            kept = edges[graph.within_clusters(edges, clusters)].drop_duplicates(["a_id", "b_id"])
            right = same_meaning(kept["a_id"], kept["b_id"], meaning)
            every = same_meaning(edges["a_id"], edges["b_id"], meaning)
            found = {"edges": len(kept), "edge_precision": right.mean(), "edge_recall": right.sum() / every.sum()}
            found |= quality.pair_quality(clusters, meaning, supported)
            given = {"passed_over": len(apart), "passed_over_right": 1 - wrong.mean() if apart else float("nan")}
            rows.append({"case": case, "evidence": name, **given, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="standard", choices=bgetune_demo.WORLDS)
    rows = measure(parser.parse_args().world)
    print(pd.DataFrame(rows).set_index(["case", "evidence"]).round(4).to_string())
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
