import pandas as pd

from bgetune.data import tables
from bgetune.data.text import text_id
from bgetune.positives.labelled import assign_graded_splits


def graded_frame(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["a_id", "b_id", "grade", "origin", "use"])
    return table.assign(a_id=table["a_id"].map(text_id), b_id=table["b_id"].map(text_id)).astype({"grade": float})


def clusters_frame(splits: dict[str, str]) -> pd.DataFrame:
    ids = [text_id(text) for text in splits]
    return pd.DataFrame({"text_id": ids, "cluster_id": ids, "split": list(splits.values())})


def test_splits_follow_the_clusters():
    clusters = clusters_frame({"t": "train", "T": "train", "d": "dev", "D": "dev", "x": "test", "X": "test"})
    rows = [("t", "T"), ("t", "d"), ("d", "D"), ("x", "d"), ("x", "X"), ("t", "x")]
    expected = ["train", "dev", "dev", "test", "test", "test"]
    graded, dropped = assign_graded_splits(graded_frame([(*row, 1, "pairs", "all") for row in rows]), clusters)
    tables.check("graded", graded)
    assert graded["split"].tolist() == expected
    assert dropped.empty

    graded, dropped = assign_graded_splits(graded_frame([(*row, 0, "pairs", "train") for row in rows]), clusters)
    assert graded["split"].tolist() == ["train"]
    assert dropped["reason"].tolist() == ["a pair for training with a text that is held out"] * 5

    graded, dropped = assign_graded_splits(graded_frame([(*row, 0, "graded", "heldout") for row in rows]), clusters)
    assert graded["split"].tolist() == ["dev", "test", "test"]
    assert dropped["reason"].tolist() == ["a held-out pair with a text that is trained on"] * 3


def test_heldout_pairs_outside_the_clusters_never_move():
    def heldout(count: int) -> dict[str, str]:
        rows = [(f"a{n % 97}", f"b{n}", n % 2, "pairs", "heldout") for n in range(count)]
        graded, dropped = assign_graded_splits(graded_frame(rows), clusters_frame({"t": "train"}))
        assert dropped.empty
        tables.check("graded", graded)
        assert len(graded[["a_id", "split"]].drop_duplicates()) == graded["a_id"].nunique()
        return dict(zip(graded["b_id"], graded["split"], strict=True))

    few, many = heldout(300), heldout(900)
    assert few == {pair: split for pair, split in many.items() if pair in few}
    assert 0.3 < pd.Series(many).eq("dev").mean() < 0.7


def test_pairs_that_became_one_are_kept_once_if_they_agree():
    rows = [("a", "b", 1, "pairs", "all"), ("b", "a", 0.75, "graded", "all"), ("c", "d", 1, "pairs", "all")]
    rows += [("d", "c", 0, "pairs", "all"), ("e", "f", 0, "pairs", "all")]
    graded, dropped = assign_graded_splits(graded_frame(rows), clusters_frame({}))
    tables.check("graded", graded)
    assert graded["grade"].tolist() == [1, 0]
    assert dropped["reason"].tolist() == ["the same pair once more", *["the same pair with another grade"] * 2]


def test_assigning_nothing():
    graded, dropped = assign_graded_splits(graded_frame([]), clusters_frame({}))
    tables.check("graded", graded)
    assert graded.empty
    assert dropped.empty
