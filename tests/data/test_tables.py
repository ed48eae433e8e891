import pandas as pd
import pytest

from bgetune.data import tables
from bgetune.errors import InputError

A, B = "0" * 16, "f" * 16


def edges(**changes):
    row = {"a_id": A, "b_id": B, "source": "qa", "support": 1, "weight": 0.5} | changes
    return pd.DataFrame([row])


def test_columns_come_back_in_order():
    table = edges()[["weight", "support", "source", "b_id", "a_id"]]
    assert list(tables.check("edges", table).columns) == ["a_id", "b_id", "source", "support", "weight"]


@pytest.mark.parametrize(
    "changes", [{"a_id": B, "b_id": A}, {"weight": 0.0}, {"weight": 1.1}, {"source": "gossip"}, {"a_id": "x"}]
)
def test_bad_edge_is_refused(changes):
    with pytest.raises(InputError, match="table edges"):
        tables.check("edges", edges(**changes))


def test_missing_and_surplus_columns_are_refused():
    with pytest.raises(InputError, match="weight"):
        tables.check("edges", edges().drop(columns="weight"))
    with pytest.raises(InputError, match="extra"):
        tables.check("edges", edges(extra=1))


def test_duplicate_pair_of_one_source_is_refused():
    with pytest.raises(InputError, match="table edges"):
        tables.check("edges", pd.concat([edges(), edges()]))


def test_empty_table_is_fine():
    assert len(tables.check("edges", edges().iloc[:0])) == 0
