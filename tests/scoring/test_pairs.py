import hashlib

import numpy as np
import pandas as pd
import pytest

from bgetune.data import tables
from bgetune.errors import InputError
from bgetune.models.prompts import Prompts
from bgetune.scoring import pairs


def name(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def table(rows, columns):
    return pd.DataFrame(rows, columns=columns)


def graded_pairs(count):
    """`count` pairs of each grade 0, 0.5, 0.75 (which means the same) and 1, in dev, test and train each."""
    rows = [
        (name(f"{split}{grade}{i}a"), name(f"{split}{grade}{i}b"), grade, int(grade >= 0.75), "graded", split)
        for split in ("dev", "test", "train")
        for grade in (0.0, 0.5, 0.75, 1.0)
        for i in range(count)
    ]
    return tables.check("graded", table(rows, ["a_id", "b_id", "grade", "label", "origin", "split"]))


def heldout_pairs(kinds=("positive", "hard_negative", "random")):
    rows = [
        (name(f"{split}{kind}{i}a"), name(f"{split}{kind}{i}b"), int(kind == "positive"), kind, split)
        for split in ("dev", "test")
        for kind in kinds
        for i in range(4)
    ]
    return tables.check("heldout", table(rows, ["query_id", "text_id", "label", "kind", "split"]))


def test_enough_labels_of_people_are_preferred():
    found, origin = pairs.evaluation_pairs(heldout_pairs(), graded_pairs(10), min_labelled=20)
    assert origin == "labelled"
    assert set(found["split"]) == {"dev", "test"}
    # 0.75 and 1 count as positive, 0 and 0.5 do not
    assert pairs.balance(found)[["positives", "negatives"]].to_numpy().tolist() == [[20, 20], [20, 20]]


def test_otherwise_the_heldout_pairs_serve_without_random_ones():
    for graded in (graded_pairs(10), None):
        found, origin = pairs.evaluation_pairs(heldout_pairs(), graded, min_labelled=21)
        assert origin == "held out"
        assert set(found["kind"]) == {"positive", "hard_negative"}
        assert len(found) == 16
    assert set(pairs.random_pairs(heldout_pairs())["kind"]) == {"random"}


def test_pairs_that_no_person_made_keep_their_name_unless_people_label_enough():
    for graded, enough, expected in ((None, 20, "generated"), (graded_pairs(10), 20, "labelled")):
        found, origin = pairs.evaluation_pairs(heldout_pairs(), graded, min_labelled=enough, judged="generated")
        assert origin == expected
        assert len(found)


def test_a_pair_in_both_directions_counts_once():
    heldout = heldout_pairs()
    back = heldout.rename(columns={"query_id": "text_id", "text_id": "query_id"})[heldout.columns]
    found, _ = pairs.evaluation_pairs(pd.concat([heldout, back.head(3)]), None)
    assert len(found) == 16
    assert len(pairs.random_pairs(pd.concat([heldout, back]))) == 8


def test_pairs_of_one_kind_are_an_error_with_a_remedy():
    with pytest.raises(InputError, match=r"each need two positive and two negative pairs.*Give labelled pairs"):
        pairs.evaluation_pairs(heldout_pairs(("positive", "random")), None)


def test_the_order_of_the_tables_does_not_matter():
    heldout = heldout_pairs()
    shuffled = heldout.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(pairs.evaluation_pairs(heldout, None)[0], pairs.evaluation_pairs(shuffled, None)[0])


@pytest.fixture
def corpus():
    written = {"q1": "query", "q2": "query", "a long query": "query", "d1": "document", "d2": "document"}
    rows = [
        (name(text), text, kind, count) for (text, kind), count in zip(written.items(), [1, 5, 30, 1, 1], strict=True)
    ]
    return tables.check("texts", table(rows, ["text_id", "text", "kind", "count"]))


class FakeEncoder:
    """Vectors that tell whether the query's prompt was used."""

    prompts = Prompts("ask: ")

    def encode(self, texts, *, prompt=None, progress=True):
        return np.array([[1.0, 0.0] if prompt else [0.6, 0.8] for _ in texts], dtype=np.float32)


def test_only_queries_of_documents_get_the_instruction(corpus):
    rows = table([(name("q1"), name("d1")), (name("q1"), name("q2"))], ["query_id", "text_id"])
    np.testing.assert_allclose(pairs.similarities(FakeEncoder(), rows, corpus), [0.6, 1.0], atol=1e-6)
    swapped = rows.rename(columns={"query_id": "text_id", "text_id": "query_id"})
    np.testing.assert_allclose(pairs.similarities(FakeEncoder(), swapped, corpus), [0.6, 1.0], atol=1e-6)
    documents = table([(name("d1"), name("d2"))], ["query_id", "text_id"])
    np.testing.assert_allclose(pairs.similarities(FakeEncoder(), documents, corpus), [1.0], atol=1e-6)
    with pytest.raises(InputError, match="not in the table texts"):
        pairs.similarities(FakeEncoder(), table([(name("q1"), name("?"))], ["query_id", "text_id"]), corpus)


def test_slices_and_clusters(corpus):
    clusters = table(
        [(name("q1"), name("c1"), "dev"), (name("d1"), name("c1"), "dev"), (name("q2"), name("c2"), "dev")],
        ["text_id", "cluster_id", "split"],
    )
    rows = table([(name(q), name("d2")) for q in ("q1", "q2", "a long query")], ["query_id", "text_id"])
    rows["cluster_id"] = pairs.cluster_of(rows, clusters)
    assert rows["cluster_id"].tolist() == [name("c1"), name("c2"), name("a long query")]
    a, b = sorted([name("q1"), name("d1")])
    edges = table(
        [(a, b, "recall", 1, 0.5), (a, b, "co_click", 1, 0.5)], ["a_id", "b_id", "source", "support", "weight"]
    )
    found = pairs.slices(rows, corpus, edges, clusters)
    assert list(found["source"]) == ["co_click", "no edge", "no edge"]  # the most trusted one
    assert list(found["frequency"]) == ["seen once", "2 to 9 times", "10 times or more"]
    assert found["length"][2] == found["length"].categories[2]
    assert found["length"][0] == "up to 2 characters"


def test_relevance_is_the_cluster_and_high_grades(corpus):
    clusters = table(
        [(name(t), name(c), "test") for t, c in (("q1", "c1"), ("d1", "c1"), ("q2", "c2"), ("d2", "c3"))],
        ["text_id", "cluster_id", "split"],
    )
    graded = table(
        [
            (name("q2"), name("d2"), 0.75, 1, "graded", "test"),
            (name("q1"), name("d2"), 0.5, 0, "graded", "test"),
            (name("q1"), name("d1"), 0.75, 1, "graded", "test"),
        ],
        ["a_id", "b_id", "grade", "label", "origin", "split"],
    )
    documents = pd.Index([name("d1"), name("d2")])
    found = pairs.relevance(clusters, documents, clusters, graded)
    assert found == {name("q1"): {name("d1"): 4}, name("q2"): {name("d2"): 3}}
    assert pairs.relevance(clusters, documents, clusters, None) == {name("q1"): {name("d1"): 4}}
