"""Mining of a click log's counts: what grows with the log, and what does not."""

import tracemalloc

import numpy as np
import pandas as pd

from bgetune.positives import evidence
from bgetune.positives.clicks import Counts

RULES = {"min_support": 2, "min_npmi": -1, "min_jaccard": 0.05, "hub_cap": 100, "misclick_rate": 0.05}


def mine(clicks):
    """The mined pairs of a log of these clicks (query, document, users)."""
    clicks = pd.DataFrame(clicks, columns=["query", "document", "users"]).assign(examination=1.0)
    size = int(clicks[["query", "document"]].to_numpy().max()) + 1
    numbers = [f"{number:016x}" for number in range(size)]
    texts = pd.DataFrame({"text_id": numbers, "text": numbers, "kind": "query", "count": 1})
    rewrites = pd.DataFrame({"query": [], "rewrite": [], "users": []}, dtype="int64")
    return evidence.mine(Counts(texts, clicks, rewrites, pd.DataFrame()), **RULES)


def test_a_query_of_thousands_of_documents_needs_little_memory():
    tracemalloc.start()
    mine([(0, 1 + number, 1) for number in range(20_000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20  # every two documents of the query: gigabytes


def test_such_a_query_changes_nothing_for_others():
    # two queries whose users click both pages of their meaning
    clicks = [(query, page, 5) for query in (0, 1) for page in (2, 3)]
    alone = mine(clicks).edges
    among = mine([*clicks, *((4, 10 + number, 1) for number in range(2_000))]).edges
    assert len(alone) == 5
    pd.testing.assert_frame_equal(alone, among[among["a"] < 4].reset_index(drop=True))


def test_the_first_of_each_group_by_keys():
    groups = np.array([0, 0, 0, 1, 1, 2])
    users = np.array([1, 5, 5, 2, 3, 9])
    numbers = np.array([7, 9, 8, 1, 2, 3])
    assert evidence._first_of_each(groups, -users, numbers, count=1).tolist() == [2, 4, 5]
    assert evidence._first_of_each(groups, -users, numbers, count=2).tolist() == [1, 2, 3, 4, 5]
