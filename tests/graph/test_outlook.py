"""Whether dev and test can be judged is known before anything is trained."""

import pandas as pd
import pytest

from bgetune.graph import outlook

EMPTY = pd.DataFrame({"a_id": [], "b_id": [], "label": [], "split": []}, dtype=object)


def world(**sizes):
    """Tables of clusters of three texts, two edges in each: split -> how many."""
    texts, edges = [], []
    for split, count in sizes.items():
        for number in range(count):
            names = [f"{split}{number}{letter}" for letter in "abc"]
            texts += [(name, f"{split}{number}", split) for name in names]
            edges += [(names[0], names[1], "qa"), (names[1], names[2], "qa"), (names[0], names[1], "recall")]
    return (
        pd.DataFrame(edges, columns=["a_id", "b_id", "source"]),
        pd.DataFrame(texts, columns=["text_id", "cluster_id", "split"]),
    )


def labelled(**counts):
    labels = {split: [1] * same + [0] * other for split, (same, other) in counts.items()}
    rows = [("a", "b", label, split) for split, given in labels.items() for label in given]
    return pd.DataFrame(rows, columns=["a_id", "b_id", "label", "split"])


def count(edges, clusters, graded=EMPTY, **changed):
    parameters = {"heldout_per_cluster": 20, "min_labelled": 100, "precisions": [0.9, 0.95, 0.99], "confidence": 0.95}
    return outlook.count_pairs(edges, clusters, graded, **parameters | changed)


def test_enough_pairs_are_counted_once_and_said_in_a_sentence():
    found = count(*world(train=9, dev=200, test=30))
    assert found.enough
    assert found.table.to_dict("index")["dev"] == {
        "clusters": 200,
        "positive pairs": 400,
        "labelled same": 0,
        "labelled different": 0,
    }
    assert found.sentence == (
        "Models will be judged on 60 held-out positive pairs of test and calibrated on 400 of dev."
    )


@pytest.mark.parametrize("sizes", [{"dev": 0, "test": 9}, {"dev": 9, "test": 1}, {"dev": 0, "test": 0}])
def test_too_few_to_judge_say_what_to_add(sizes):
    found = count(*world(train=50, **sizes))
    assert not found.enough
    assert "Too few to judge a model: dev holds" in found.sentence
    for way in ("more data", "dev_fraction", "use: heldout", "100 labelled pairs"):
        assert way in found.sentence


def test_labelled_pairs_judge_where_there_are_enough_of_them():
    few, many = labelled(dev=(5, 5), test=(5, 5)), labelled(dev=(400, 100), test=(120, 100))
    assert not count(*world(train=9), few).enough
    assert count(*world(train=9), few, min_labelled=5).enough
    found = count(*world(train=9), many)
    assert "judged on 120 labelled positive pairs of test and calibrated on 400 of dev" in found.sentence


def test_promises_that_dev_cannot_carry_are_named():
    found = count(*world(train=9, dev=25, test=12))
    assert found.enough
    assert "Too few in dev to promise a precision: 95% needs 59, 99% needs 299 at least" in found.sentence
    assert "With fewer than 50 in test only large differences are more than chance" in found.sentence


def sourced(source, **sizes):
    """The same world with edges of one source."""
    edges, clusters = world(**sizes)
    return edges.assign(source=source), clusters


def test_the_best_evidence_of_which_there_is_enough_judges():
    people, generated, parts = (sourced(name, dev=12, test=12) for name in ("qa", "generated", "same_document"))
    assert outlook.judged_by(*people) == "held out"
    assert outlook.judged_by(*generated) == "generated"
    assert outlook.judged_by(*parts) == "documents"
    both = pd.concat([generated[0], parts[0]]), generated[1]
    assert outlook.judged_by(*both) == "generated"
    few, clusters = sourced("qa", dev=9, test=12)
    assert outlook.judged_by(few, clusters) == "held out", "there is nothing else"
    assert outlook.judged_by(pd.concat([few, few.assign(source="generated")]), clusters) == "generated"
    assert outlook.judged_by(*sourced("recall", dev=12, test=12)) == "held out"


def test_what_no_person_made_is_said_before_it_judges():
    found = count(*sourced("same_document", dev=200, test=60))
    assert found.enough
    assert found.sentence.startswith("No log and no person says")
    assert "parts of one document" in found.sentence
    promised = count(*world(train=50), generating=True)
    assert promised.enough
    assert "queries that a language model writes" in promised.sentence
    assert "language model" not in count(*world(train=50, dev=20, test=20), generating=True).sentence
    assert not count(*world(train=50, dev=1, test=1)).enough


def test_a_large_cluster_counts_as_far_as_it_is_judged():
    edges = pd.DataFrame([(f"t{i}", f"t{i + 1}", "qa") for i in range(59)], columns=["a_id", "b_id", "source"])
    clusters = pd.DataFrame({"text_id": [f"t{i}" for i in range(60)], "cluster_id": "c", "split": "dev"})
    found = count(edges, clusters)
    assert found.table.loc["dev", "positive pairs"] == 20
    assert not found.enough
