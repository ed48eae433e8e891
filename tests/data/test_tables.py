import pandas as pd
import pytest

from bgetune.data import tables
from bgetune.errors import InputError, InternalError

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
    with pytest.raises(InternalError, match="table edges"):
        tables.check("edges", edges(**changes))


def test_missing_and_surplus_columns_are_refused():
    with pytest.raises(InternalError, match="weight"):
        tables.check("edges", edges().drop(columns="weight"))
    with pytest.raises(InternalError, match="extra"):
        tables.check("edges", edges(extra=1))


def test_duplicate_pair_of_one_source_is_refused():
    with pytest.raises(InternalError, match="table edges"):
        tables.check("edges", pd.concat([edges(), edges()]))


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_an_empty_table_takes_the_types_of_its_schema(name, tmp_path):
    """Columns of no rows have no type: what pandas makes of them must not fail, and must be read back the same."""
    columns = list(tables.SCHEMAS[name].columns)
    for empty in (pd.DataFrame(columns=columns), pd.DataFrame({column: [] for column in columns})):
        table = tables.check(name, empty)
        table.to_parquet(tmp_path / "empty.parquet", index=False)
        again = tables.check(name, pd.read_parquet(tmp_path / "empty.parquet"))
        pd.testing.assert_frame_equal(again, table)
        assert object not in set(table.dtypes)


def test_types_are_changed_only_where_no_value_is():
    assert tables.check("edges", edges(support=2.0))["support"].tolist() == [2]
    assert tables.check("edges", edges(weight=1))["weight"].tolist() == [1.0]
    with pytest.raises(InternalError, match=r"column support: not of type int64, for example 1\.5"):
        tables.check("edges", edges(support=1.5))
    with pytest.raises(InternalError, match="column source"):
        tables.check("edges", edges(source=None))


def test_a_table_that_breaks_its_schema_is_our_fault():
    with pytest.raises(InternalError) as caught:
        tables.check("edges", edges(weight=1.1))
    assert not isinstance(caught.value, InputError)
    assert str(caught.value) == (
        "table edges: column weight: 1.1 (less_than_or_equal_to). This is a bug of bgetune, not a fault of your data; "
        "please report it"
    )


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_every_table_and_column_is_described(name):
    schema = tables.SCHEMAS[name]
    assert schema.description
    assert [column for column, rule in schema.columns.items() if not rule.description] == []


def test_columns_that_were_not_measured_are_left_out():
    log = pd.DataFrame({"loss": [0.5], "step": 1})
    assert list(tables.check("training_log", log).columns) == ["step", "loss"]
