import math

import pandas as pd
import pytest

from bgetune.data.text import Normalizer, text_id
from bgetune.errors import InputError
from bgetune.metrics import truth


def test_pairs_mean_the_same_or_not_or_nobody_knows():
    known = {"a1": "A", "a2": "A", "b1": "B", "junk": ""}
    pairs = pd.DataFrame([("a1", "a2"), ("a1", "b1"), ("junk", "junk"), ("a1", "new"), ("new", "new")])
    right = truth.same_meaning(pairs[0], pairs[1], known)
    assert right[:3].tolist() == [1.0, 0.0, 0.0]
    assert right[3:].map(math.isnan).all()
    assert truth.same_meaning(pairs[0].head(0), pairs[1].head(0), known).dtype == float


def test_texts_are_brought_into_the_form_of_the_run(tmp_path):
    file = tmp_path / "truth.csv"
    file.write_text("text,meaning\nＡＰＰ 13800000001,A\nnull,\n", encoding="utf-8")
    masked = {text_id("app <电话>"): "A", text_id("null"): ""}
    assert truth.read_truth(file, Normalizer(("phone",))) == masked
    assert text_id("app 13800000001") in truth.read_truth(file, Normalizer(()))


def test_a_missing_column_is_named(tmp_path):
    file = tmp_path / "truth.csv"
    file.write_text("text,sense\nx,A\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column meaning"):
        truth.read_truth(file, Normalizer())
