import pandas as pd
import pytest

from bgetune.augment.targets import documents_without_query, texts_to_paraphrase
from bgetune.data import tables
from bgetune.data.text import text_id
from bgetune.graph.extend import extend


def table_of(rows):
    """texts and clusters from (text, kind, cluster's first text or None, split)."""
    texts = pd.DataFrame(
        {
            "text_id": [text_id(text) for text, *_ in rows],
            "text": [text for text, *_ in rows],
            "kind": [kind for _, kind, *_ in rows],
            "count": 1,
        }
    )
    placed = [(text_id(text), text_id(home), split) for text, _, home, split in rows if home]
    return texts, pd.DataFrame(placed, columns=["text_id", "cluster_id", "split"])


ROWS = [
    *((f"训练问题{letter}", "query", "训练问题甲", "train") for letter in "甲乙丙丁"),
    ("另一个问题", "query", "另一个问题", "train"),
    ("www.example.com", "query", "www.example.com", "train"),
    ("7659", "query", "7659", "train"),
    ("开发集问题", "query", "开发集问题", "dev"),
    ("测试集问题", "query", "测试集问题", "test"),
    ("训练文档", "document", "训练问题甲", "train"),
    ("没有人问的文档", "document", "没有人问的文档", "train"),
    ("游离文档", "document", None, None),
    ("测试集文档", "document", "测试集文档", "test"),
]


def test_only_queries_of_the_train_split_are_paraphrased():
    texts, clusters = table_of(ROWS)
    found = texts_to_paraphrase(texts, clusters, None, seed=1)
    assert sorted(found["text"]) == sorted([f"训练问题{letter}" for letter in "甲乙丙丁"] + ["另一个问题"])
    assert list(found.columns) == list(texts.columns)


def test_every_cluster_comes_once_before_one_comes_twice():
    texts, clusters = table_of(ROWS)
    for seed in range(10):
        first_two = texts_to_paraphrase(texts, clusters, 2, seed)["text"]
        assert "另一个问题" in set(first_two)
    orders = {tuple(texts_to_paraphrase(texts, clusters, None, seed)["text"]) for seed in range(10)}
    assert len(orders) > 1


def test_the_choice_does_not_depend_on_order_or_limit():
    texts, clusters = table_of(ROWS)
    whole = texts_to_paraphrase(texts, clusters, None, seed=1)["text"].tolist()
    shuffled = texts_to_paraphrase(texts[::-1], clusters.sample(frac=1, random_state=0), 3, seed=1)["text"].tolist()
    assert shuffled == whole[:3]


def test_documents_without_a_query():
    texts, clusters = table_of(ROWS)
    edges = pd.DataFrame({"a_id": [], "b_id": [], "source": []}, dtype=str)
    found = documents_without_query(texts, edges, clusters, None, 1, heldout=False)
    assert sorted(found["text"]) == ["没有人问的文档", "游离文档"]
    found = documents_without_query(texts, edges, clusters, None, 1, heldout=True)
    assert sorted(found["text"]) == ["没有人问的文档", "测试集文档", "游离文档"]


def test_a_part_of_a_document_is_no_query_of_it():
    rows = [("标题一", "query", "文档一", "train"), ("文档一", "document", "文档一", "train")]
    rows += [("问题二", "query", "文档二", "train"), ("文档二", "document", "文档二", "train")]
    texts, clusters = table_of(rows)
    pairs = [("标题一", "文档一", "same_document"), ("问题二", "文档二", "same_document"), ("问题二", "文档二", "qa")]
    edges = pd.DataFrame(
        [(text_id(a), text_id(b), source) for a, b, source in pairs], columns=["a_id", "b_id", "source"]
    )
    assert documents_without_query(texts, edges, clusters, None, 1, heldout=False)["text"].tolist() == ["文档一"]


@pytest.fixture
def extended():
    texts, clusters = table_of(ROWS)
    edges = pd.DataFrame({"a_id": ["0" * 16], "b_id": ["1" * 16], "source": "qa", "support": 1, "weight": 0.8})
    paraphrases = pd.DataFrame(
        {
            "origin_id": [text_id("训练问题乙"), text_id("游离文档"), text_id("训练问题乙")],
            "text_id": [text_id("乙的改写"), text_id("关于游离"), text_id("错的改写")],
            "text": ["乙的改写", "关于游离", "错的改写"],
            "source": ["back_translation", "generated", "back_translation"],
            "support": [3, 1, 1],
            "reranker": [0.9, float("nan"), 0.1],
            "reason": ["", "", "reranker"],
        }
    )
    return (texts, edges, clusters), extend(texts, edges, clusters, paraphrases)


def test_kept_paraphrases_join_their_origins_cluster_and_split(extended):
    _, (texts, _, clusters) = extended
    place = clusters.set_index("text_id")
    assert place.loc[text_id("乙的改写"), "cluster_id"] == text_id("训练问题甲")
    assert place.loc[text_id("乙的改写"), "split"] == "train"
    # a document of no cluster founds one, to train on only
    assert place.loc[text_id("关于游离")].tolist() == [text_id("游离文档"), "train"]
    assert place.loc[text_id("游离文档")].tolist() == [text_id("游离文档"), "train"]
    assert text_id("错的改写") not in place.index
    assert "错的改写" not in set(texts["text"])


def test_nothing_but_train_grows(extended):
    (_, _, before), (_, _, after) = extended
    grown = after["split"].value_counts() - before["split"].value_counts()
    assert grown.to_dict() == {"train": 3, "dev": 0, "test": 0}


def test_edges_weigh_less_than_human_evidence(extended):
    _, (_, edges, _) = extended
    new = edges[edges["source"] != "qa"].set_index("source")
    assert new["weight"].to_dict() == pytest.approx({"back_translation": 0.6 * 0.9, "generated": 0.5})
    assert new["support"].to_dict() == {"back_translation": 3, "generated": 1}
    assert new["weight"].max() < min(tables.SOURCES[s] for s in ("given", "co_click", "rewrite", "qa", "synonym"))


def test_the_tables_stay_in_form(extended):
    for name, table in zip(("texts", "edges", "clusters"), extended[1], strict=True):
        tables.check(name, table)


def test_without_paraphrases_the_tables_pass_through():
    texts, clusters = table_of(ROWS)
    edges = pd.DataFrame({"a_id": [], "b_id": [], "source": [], "support": [], "weight": []})
    none = pd.DataFrame({"reason": []})
    same = extend(texts, edges, clusters, none)
    assert all(a is b for a, b in zip(same, (texts, edges, clusters), strict=True))
