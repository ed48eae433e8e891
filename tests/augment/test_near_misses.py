"""Near-misses of a language model: which are kept, and what they are negatives of."""

import numpy as np
import pandas as pd

from bgetune.augment import near_misses
from bgetune.config.augmentation import Gate
from bgetune.data import tables
from bgetune.data.text import STANDARD, text_id
from bgetune.graph.extend import add_near_misses

TEXTS = {"退款的文档": "document", "怎么退款": "query", "发票的文档": "document", "怎么开发票": "query"}
HOME = {"怎么退款": "退款的文档", "怎么开发票": "发票的文档"}
SPLIT = {"退款的文档": "test", "发票的文档": "train"}


def world():
    texts = pd.DataFrame({"text_id": map(text_id, TEXTS), "text": TEXTS.keys(), "kind": TEXTS.values(), "count": 1})
    homes = [HOME.get(text, text) for text in TEXTS]
    clusters = pd.DataFrame({"text_id": texts["text_id"], "cluster_id": map(text_id, homes)})
    return texts, clusters.assign(split=[SPLIT[home] for home in homes])


class Reranker:
    def __init__(self, scores):
        self.scores = scores

    def score(self, pairs, *, progress=True):
        assert all(TEXTS[document] == "document" for _, document in pairs)
        return np.array([self.scores.get(query, 0.0) for query, _ in pairs], dtype=np.float32)


def checked(written, reranker=None, **gate):
    texts, clusters = world()
    rows = [(text_id(document), text) for document, text in written]
    generated = {"near_misses": pd.DataFrame(rows, columns=["origin_id", "text"])}
    found = near_misses.check(generated, texts, clusters, Gate(**gate), STANDARD, reranker=reranker)
    return found, dict(zip(found["text"], found["reason"], strict=True))


def test_each_is_dropped_for_the_first_rule():
    written = [
        ("退款的文档", "怎么换货呢"),
        ("退款的文档", "换"),
        ("退款的文档", "怎么 开发票?"),
        ("退款的文档", "怎么查订单"),
        ("发票的文档", "怎么查订单"),
        ("退款的文档", "退款要多久"),
    ]
    _, reasons = checked(written, Reranker({"退款要多久": 0.4}))
    assert reasons == {
        "怎么换货呢": "",
        "换": "no text",
        "怎么开发票?": "known",
        "怎么查订单": "two clusters",
        "退款要多久": "answered",
    }
    assert checked(written)[1]["退款要多久"] == "", "without a reranker nobody objects"
    assert checked(written, Reranker({"退款要多久": 0.4}), max_reranker=0.5)[1]["退款要多久"] == ""


def test_a_kept_one_is_a_negative_of_its_document_and_of_that_documents_queries():
    texts, clusters = world()
    found, _ = checked([("退款的文档", "怎么换货呢"), ("发票的文档", "发票丢了"), ("发票的文档", "票")])
    new_texts, new_clusters, pairs = add_near_misses(texts, clusters, found)
    for name, table in {"texts": new_texts, "clusters": new_clusters, "near_misses": pairs}.items():
        tables.check(name, table)
    place = new_clusters.set_index("text_id")
    assert place.loc[text_id("怎么换货呢")].tolist() == [text_id("怎么换货呢"), "test"]
    assert place.loc[text_id("发票丢了"), "split"] == "train"
    expected = [
        ("怎么换货呢", "退款的文档"),
        ("怎么换货呢", "怎么退款"),
        ("发票丢了", "发票的文档"),
        ("发票丢了", "怎么开发票"),
    ]
    assert set(zip(pairs["a_id"], pairs["b_id"], strict=True)) == {tuple(map(text_id, pair)) for pair in expected}
    assert text_id("票") not in place.index


def test_nothing_written_changes_nothing():
    texts, clusters = world()
    found = near_misses.check({}, texts, clusters, Gate(), STANDARD)
    new_texts, new_clusters, pairs = add_near_misses(texts, clusters, found)
    assert (len(new_texts), len(new_clusters), len(pairs)) == (4, 4, 0)
    tables.check("near_misses", pairs)
