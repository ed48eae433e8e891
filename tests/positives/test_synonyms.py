import pandas as pd
from hypothesis import given, settings, strategies as st

from bgetune.data import tables
from bgetune.data.text import text_id
from bgetune.positives.synonyms import MAX_COMPLETE, lexicon_edges


def known(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"text_id": map(text_id, texts), "text": texts})


def joined(texts: pd.DataFrame, synonyms: list[tuple[str, ...]]) -> set[frozenset[str]]:
    edges = tables.check("edges", lexicon_edges(texts, synonyms))
    name = dict(zip(texts["text_id"], texts["text"], strict=True))
    return {frozenset((name[a], name[b])) for a, b in zip(edges["a_id"], edges["b_id"], strict=True)}


def test_the_lexicon_joins_known_texts_only():
    synonyms = [("支付密码", "付款密码"), ("忘记", "忘了"), ("密码", "口令"), ("app", "软件")]
    texts = known(
        "忘记支付密码",
        "忘了付款密码",
        "忘记支付口令",
        "付款密码",
        "支付密码",
        "apple怎么装",
        "软件le怎么装",
        "app怎么装",
        "软件怎么装",
    )
    assert joined(texts, synonyms) == {
        frozenset(("忘记支付密码", "忘了付款密码")),  # the longest word counts: 支付密码, not 密码
        frozenset(("app怎么装", "软件怎么装")),  # but no part of apple
    }
    assert joined(texts, []) == set()
    assert lexicon_edges(texts, synonyms)["weight"].max() < 0.8


@settings(max_examples=50, deadline=None)
@given(texts=st.sets(st.text("abc甲乙丙", min_size=1, max_size=6), min_size=1, max_size=30))
def test_the_lexicon_is_an_equivalence(texts):
    synonyms = [("甲乙", "乙丙"), ("丙", "aa")]
    found = joined(known(*sorted(texts)), synonyms)
    for pair in found:
        assert pair <= texts
    neighbours = {text: {text}.union(*(pair for pair in found if text in pair)) for text in texts}
    if max(map(len, neighbours.values())) <= MAX_COMPLETE:
        assert all(neighbours[other] == group for group in neighbours.values() for other in group)
