import numpy as np
import pandas as pd

from bgetune.training import graded


def table():
    """Pairs 0 to 39; of every second one three others follow."""
    rows = [(f"q{i}", f"t{i}", i % 2, i) for i in range(40)]
    rows += [(f"q{i} as {n}", f"t{i}", i % 2, i) for i in range(0, 40, 2) for n in range(3)]
    return pd.DataFrame(rows, columns=["query", "text", "grade", "pair"])


def test_each_epoch_reads_every_pair_once_half_of_the_time_as_one_that_follows():
    rows = graded.rows_of_epochs(table(), 50, seed=3)
    assert graded.count(table()) == 40
    assert rows["pair"].to_numpy().reshape(50, 40).tolist() == [list(range(40))] * 50
    changed = rows["query"].str.contains("as").to_numpy().reshape(50, 40)
    assert not changed[:, 1::2].any()
    assert 0.45 < changed[:, ::2].mean() < 0.55
    assert rows["query"].nunique() == len(table())  # all of them have their turn
    assert rows.equals(graded.rows_of_epochs(table(), 50, seed=3))
    assert not rows.equals(graded.rows_of_epochs(table(), 50, seed=4))


def test_pairs_from_which_none_follow_are_read_as_they_are():
    plain = table().drop(columns="pair")
    assert graded.count(plain) == len(plain)
    assert graded.count(None) == 0
    rows = graded.rows_of_epochs(plain, 2, seed=0)
    pd.testing.assert_frame_equal(rows, pd.concat([plain, plain], ignore_index=True))
    data = graded.dataset(plain, 2, seed=0)
    assert data["label"] == rows["grade"].tolist()
    assert data.column_names == ["query", "text", "label"]


def test_a_part_keeps_what_follows_from_its_pairs():
    some = graded.part(table(), np.array([0, 3]))
    assert sorted(some["query"]) == ["q0", "q0 as 0", "q0 as 1", "q0 as 2", "q3"]
    assert graded.count(some) == 2
    assert set(graded.rows_of_epochs(some, 20, seed=0)["pair"]) == {0, 3}
