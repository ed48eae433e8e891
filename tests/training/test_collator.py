import numpy as np
import pytest

from bgetune.training.collator import GroupCollator, Guide
from bgetune.training.groups import Group, describe_batch


def collator(groups, cluster_of, **options):
    return GroupCollator(None, groups, cluster_of, **{"epochs": 1, "seed": 0, **options})


def labels(batch):
    """What the matrix says, by query and document."""
    return {
        (group.query, text): int(batch.labels[i, j])
        for i, group in enumerate(batch.groups)
        for j, text in enumerate(batch.documents)
    }


def test_labels_of_a_batch():
    groups = [
        Group("q1", ("p1",), ("shared", "q2's cousin")),
        Group("q2", ("p2",), ("shared", "q1's cousin", "own")),
    ]
    cluster_of = {"q1": 1, "p1": 1, "q1's cousin": 1, "q2": 2, "p2": 2, "q2's cousin": 2, "shared": 3, "own": 4}
    batch = collator(groups, cluster_of).batch([0, 1])
    assert sorted(batch.documents) == sorted({"p1", "p2", "shared", "q1's cousin", "q2's cousin", "own"})
    assert labels(batch) == {
        ("q1", "p1"): 1,
        ("q1", "p2"): 0,
        ("q1", "shared"): 0,
        ("q1", "q2's cousin"): 0,
        ("q1", "q1's cousin"): -1,  # another row's negative, but of this row's cluster
        ("q1", "own"): -1,  # nobody judged it for this row: it may be an unknown positive
        ("q2", "p1"): 0,
        ("q2", "p2"): 1,
        ("q2", "shared"): 0,
        ("q2", "q2's cousin"): -1,
        ("q2", "q1's cousin"): 0,
        ("q2", "own"): 0,
    }


def test_a_positive_of_another_cluster_masks_that_cluster():
    groups = [Group("q1", ("answer",)), Group("q2", ("p2",), ("answer's cousin",))]
    cluster_of = {"q1": 1, "answer": 2, "answer's cousin": 2, "q2": 3, "p2": 3}
    found = labels(collator(groups, cluster_of).batch([0, 1]))
    assert found["q1", "answer's cousin"] == -1
    assert found["q2", "answer's cousin"] == 0


def test_clusters_that_another_group_links_are_no_negatives_of_each_other():
    groups = [Group("q1", ("a",), ("hard",)), Group("q2", ("b",)), Group("link", ("a", "q2")), Group("q3", ("hard",))]
    cluster_of = {"q1": 0, "a": 0, "q2": 1, "b": 1, "link": 2, "q3": 3, "hard": 3}
    found = labels(collator(groups, cluster_of).batch([0, 1]))
    assert (found["q1", "b"], found["q2", "a"]) == (-1, -1)  # nobody says so, but both are positives of "link"
    assert found["q1", "hard"] == 0
    assert labels(collator(groups, cluster_of).batch([0, 3]))["q3", "a"] == 0


def test_several_positives_are_never_each_others_negatives():
    groups = [Group("q", tuple("abcd")), Group("r", ("s",))]
    cluster_of = dict.fromkeys("qabcd", 0) | dict.fromkeys("rs", 1)
    batch = collator(groups, cluster_of, epochs=2).batch([0, 1])
    row = batch.labels[0]
    assert (row == 1).sum() == 2
    assert (row == 0).sum() == 1
    assert (row == -1).sum() == 0


def test_number_of_negatives_may_differ_and_be_zero():
    groups = [Group("q", ("p",), ("m", "n")), Group("r", ("s",))]
    cluster_of = {"q": 0, "p": 0, "m": 1, "n": 2, "r": 3, "s": 3}
    batch = collator(groups, cluster_of).batch([0, 1])
    assert len(batch.documents) == len(set(batch.documents)) == 4
    assert (batch.labels == 0).sum(axis=1).tolist() == [3, 1]  # a hard negative counts for its own query alone


def test_items_of_another_epoch_choose_anew():
    groups = [Group("q", ("a", "b")), Group("r", ("s",))]
    cluster_of = dict.fromkeys("qab", 0) | dict.fromkeys("rs", 1)
    first, second = (collator(groups, cluster_of, epochs=2).batch(items).documents for items in ([0, 1], [2, 3]))
    assert {first[0], second[0]} == {"a", "b"}


def test_guide_masks_the_batch_but_no_hard_negative_of_the_row():
    angles = {"q": 0.0, "p": 0.5, "near": 0.2, "r": 2.0, "s": 2.1, "far": 3.0}
    vectors = np.array([[np.cos(a), np.sin(a)] for a in angles.values()])
    guide = Guide(vectors, {text: i for i, text in enumerate(angles)})
    cluster_of = {text: i for i, text in enumerate(angles)}
    groups = [Group("q", ("p",), ()), Group("r", ("s", "near"), ("far",))]
    found = labels(collator(groups, cluster_of, guide=guide).batch([0, 1]))
    assert found["q", "near"] == -1  # closer to q than p is
    assert found["q", "s"] == 0
    assert found["q", "p"] == 1
    groups = [Group("q", ("p",), ("near",)), Group("r", ("s",), ())]
    assert labels(collator(groups, cluster_of, guide=guide).batch([0, 1]))["q", "near"] == 0
    wide = Guide(vectors, guide.row, margin=2.0)
    assert labels(collator(groups, cluster_of, guide=wide).batch([0, 1]))["q", "s"] == -1


def test_each_task_has_its_prompts(base):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(base), device="cpu")
    groups = [Group("查询密码", ("密码查询",), (), "请问", text_prompt="我"), Group("修改订单", ("订单修改",))]
    cluster_of = {"查询密码": 0, "密码查询": 0, "修改订单": 1, "订单修改": 1}
    made = collator(groups, cluster_of)
    made.preprocess = model.preprocess
    features = made([0, 1])
    assert model.tokenizer.batch_decode(features["anchor_input_ids"], skip_special_tokens=True) == [
        "请 问 查 询 密 码",
        "修 改 订 单",
    ]
    assert model.tokenizer.batch_decode(features["document_input_ids"], skip_special_tokens=True) == [
        "我 密 码 查 询",
        "订 单 修 改",
    ]
    assert features["label"].tolist() == [[1, 0], [0, 1]]
    assert "查询密码" in describe_batch(made.groups, [0, 1])


@pytest.mark.parametrize("epochs", [1, 3])
def test_no_batch_of_an_epoch_teaches_a_false_negative(groups, cluster_of, epochs):
    from bgetune.training.groups import blocks
    from bgetune.training.sampler import ClusterBatchSampler

    sampler = ClusterBatchSampler(blocks(groups, cluster_of), 16, 0, renumber=True)
    made = collator(groups, cluster_of, epochs=epochs)
    used = set()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for items in sampler:
            batch = made.batch(items)
            for i, j in np.argwhere(batch.labels == 0):
                assert cluster_of[batch.groups[i].query] != cluster_of[batch.documents[j]]
            used |= {(batch.groups[i].query, batch.documents[j]) for i, j in np.argwhere(batch.labels == 1)}
    assert used == {(group.query, positive) for group in groups for positive in group.positives}
