import numpy as np
import pandas as pd
import pytest

from bgetune.augment.gate import RULES, check, collect, dropped_rows, yield_by_rule
from bgetune.config.augmentation import Gate
from bgetune.data import tables
from bgetune.data.text import Normalizer, text_id

PAY, LOGIN = ["怎么修改支付密码", "如何更改付款密码"], ["怎么修改登录密码", "如何更改登陆密码"]
OPEN = Gate(
    min_characters=None,
    min_change=None,
    length_ratio=None,
    numbers=False,
    latin=False,
    negation=False,
    min_fluency=None,
    min_agreement=None,
    similarity=None,
    own_cluster_margin=None,
    min_reranker=None,
    max_per_text=None,
)


class TwoAxes:
    """Says how much a text is about paying and how much about logging in."""

    def encode(self, texts, *, prompt=None, progress=True):
        rows = np.array([[1.0 * ("付" in text) + 0.1, 1.0 * ("登" in text) + 0.1] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Listed:
    """A reranker that gives the scores it was told, and remembers what it was asked."""

    def __init__(self, scores):
        self.scores = scores
        self.asked = []

    def score(self, pairs, *, progress=True):
        self.asked += pairs
        return np.array([self.scores.get(pair, 1.0) for pair in pairs], np.float32)


def world():
    texts = [*PAY, *LOGIN, "支付密码的修改说明,需要本人身份证和3天时间"]
    kinds = ["query"] * 4 + ["document"]
    table = pd.DataFrame({"text_id": [text_id(t) for t in texts], "text": texts, "kind": kinds, "count": 1})
    home = [PAY[0], PAY[0], LOGIN[0], LOGIN[0], PAY[0]]
    clusters = pd.DataFrame({"text_id": table["text_id"], "cluster_id": [text_id(t) for t in home], "split": "train"})
    return table, clusters


def made(*rows, asks=False, fluency=1.0, agreement=1.0):
    """Candidates from (origin, text)."""
    return pd.DataFrame(
        {
            "origin_id": [text_id(origin) for origin, _ in rows],
            "text": [text for _, text in rows],
            "source": "back_translation",
            "via": "en",
            "pivot_text": "how",
            "support": 1,
            "fluency": fluency,
            "agreement": agreement,
            "asks": asks,
        }
    )


def reasons(candidates, gate, **models):
    return check(candidates, *world(), gate, progress=False, **models)["reason"].tolist()


RULE_CASES = [
    ("no text", {"min_characters": 4}, "改密码"),
    ("copy", {"min_change": 0.15}, "怎么修改支付密吗"),
    ("length", {"length_ratio": (0.5, 2.0)}, "支付密码"[:3]),
    ("numbers", {"numbers": True}, "3天修改支付密码"),
    ("latin", {"latin": True}, "在app修改支付密码"),
    ("terms", {"terms": ["余额宝"]}, "余额宝修改支付密码"),
    ("negation", {"negation": True}, "怎么不修改支付密码"),
]


@pytest.mark.parametrize(("rule", "setting", "text"), RULE_CASES)
def test_each_rule_drops_its_case_and_can_be_turned_off(rule, setting, text):
    candidates = made((PAY[0], text), (PAY[0], "支付口令如何去更改"))
    assert reasons(candidates, OPEN.model_copy(update=setting)) == [rule, ""]
    assert reasons(candidates, OPEN) == ["", ""]


@pytest.mark.parametrize(
    ("rule", "measure", "setting"),
    [("fluency", "fluency", "min_fluency"), ("meaning lost", "agreement", "min_agreement")],
)
def test_what_the_translators_think(rule, measure, setting):
    gate = OPEN.model_copy(update={setting: 0.1})
    poor = made((PAY[0], "支付口令如何去更改"), **{measure: 0.01})
    assert reasons(poor, gate) == [rule]
    assert reasons(poor, OPEN) == [""]
    generated = made((PAY[0], "支付口令如何去更改"), fluency=np.nan, agreement=np.nan)
    assert reasons(generated, gate) == [""]


def test_similarity_band():
    gate = OPEN.model_copy(update={"similarity": (0.5, 1.0)})
    candidates = made((PAY[0], "登录的口令"), (PAY[0], "付款的口令"))
    assert reasons(candidates, gate, encoder=TwoAxes()) == ["similarity", ""]


def test_nearer_to_another_cluster():
    gate = OPEN.model_copy(update={"own_cluster_margin": 0.0})
    candidates = made((PAY[0], "登录的口令"), (PAY[0], "付款的口令"), (PAY[0], "付款和登录的口令"))
    assert reasons(candidates, gate, encoder=TwoAxes()) == ["other cluster", "", "other cluster"]
    assert reasons(candidates, OPEN, encoder=TwoAxes()) == ["", "", ""]


def test_a_margin_asks_for_more():
    candidates = made((PAY[0], "付款的口令"))
    measured = check(candidates, *world(), OPEN, encoder=TwoAxes(), progress=False).iloc[0]
    margin = float(measured["own_similarity"] - measured["other_similarity"])
    assert measured["own_similarity"] == pytest.approx(1.0)
    below, above = (OPEN.model_copy(update={"own_cluster_margin": margin + d}) for d in (-0.01, 0.01))
    assert reasons(candidates, below, encoder=TwoAxes()) == [""]
    assert reasons(candidates, above, encoder=TwoAxes()) == ["other cluster"]


def test_a_nearer_cluster_of_the_same_meaning_is_no_reason():
    gate = OPEN.model_copy(update={"own_cluster_margin": 0.0, "min_reranker": 0.5})
    candidates = made((PAY[0], "登录的口令"))
    # both texts of the other cluster are equally near; the reranker is asked about one of them and the paraphrase
    same = Listed({})
    assert reasons(candidates, gate, encoder=TwoAxes(), reranker=same) == [""]
    assert [pair[0] for pair in same.asked] == [PAY[0], PAY[0]]
    assert same.asked[0][1] in LOGIN
    other = Listed({(PAY[0], text): 0.1 for text in LOGIN})
    assert reasons(candidates, gate, encoder=TwoAxes(), reranker=other) == ["other cluster"]


def test_texts_that_stand_alone_are_no_other_cluster():
    texts, clusters = world()
    alone = clusters[clusters["text_id"].isin([text_id(t) for t in [*PAY, LOGIN[0]]])]
    gate = OPEN.model_copy(update={"own_cluster_margin": 0.0})
    found = check(made((PAY[0], "登录的口令")), texts, alone, gate, encoder=TwoAxes(), progress=False)
    assert found["reason"].tolist() == [""]


def test_the_reranker_is_asked_only_about_survivors():
    reranker = Listed({(PAY[0], "怎么修改登录密码啊啊"): 0.1})
    gate = OPEN.model_copy(update={"min_reranker": 0.5, "numbers": True})
    candidates = made((PAY[0], "怎么修改登录密码啊啊"), (PAY[0], "支付口令如何去更改"), (PAY[0], "3天改支付密码"))
    table = check(candidates, *world(), gate, reranker=reranker, progress=False)
    assert table["reason"].tolist() == ["reranker", "", "numbers"]
    assert reranker.asked == [(PAY[0], "怎么修改登录密码啊啊"), (PAY[0], "支付口令如何去更改")]
    assert table["reranker"].isna().tolist() == [False, False, True]


def test_known_texts_are_found_whatever_their_signs():
    assert reasons(made((PAY[0], "怎么修改登录密码??"), (PAY[0], PAY[1])), OPEN) == ["known", "known"]


def test_one_text_from_two_clusters_is_of_neither():
    text = "密码的修改"
    assert reasons(made((PAY[0], text), (LOGIN[0], text)), OPEN) == ["two clusters"] * 2
    assert sorted(reasons(made((PAY[0], text), (PAY[1], text)), OPEN)) == ["", "duplicate"]


def test_the_most_changed_are_kept_of_one_text():
    gate = OPEN.model_copy(update={"max_per_text": 1})
    candidates = made((PAY[0], "怎样修改支付密码"), (PAY[0], "支付口令哪里能更改"), (PAY[1], "怎样去变付款密码"))
    assert reasons(candidates, gate) == ["enough", "", ""]


def test_a_query_for_a_document_may_leave_out_but_not_invent():
    document = world()[0]["text"].iloc[4]
    gate = Gate(min_fluency=None, similarity=None, own_cluster_margin=None, min_reranker=None, terms=["余额宝"])
    rows = [
        (document, "改支付密码要什么证件"),
        (document, "5天能改好支付密码吗"),
        (document, "在app改支付密码"),
        (document, "余额宝的支付密码"),
    ]
    assert reasons(made(*rows, asks=True), gate) == ["", "numbers", "latin", "terms"]
    reranker = Listed({})
    check(made(rows[0], asks=True), *world(), gate.model_copy(update={"min_reranker": 0.5}), reranker=reranker)
    assert reranker.asked == [(rows[0][1], document)]


def near_misses():
    rows = [(text_id(PAY[0]), text_id("付"), "付", 0.9, "answered"), (text_id(PAY[0]), text_id("登"), "登", 0.1, "")]
    return pd.DataFrame(rows, columns=["origin_id", "text_id", "text", "reranker", "reason"])


def test_yields_add_up():
    candidates = made(*((PAY[0], text) for _, _, text in RULE_CASES), (PAY[0], ""), (PAY[0], "支付口令如何去更改"))
    table = check(candidates, *world(), Gate(), progress=False)
    yields = yield_by_rule(table)
    assert list(yields.index) == list(RULES)
    assert yields["left"].iloc[-1] == (table["reason"] == "").sum()
    assert yields["dropped"].sum() + yields["left"].iloc[-1] == len(candidates)
    failed = {"queries": pd.DataFrame({"text": ["x"], "reason": ["timeout"]})}
    dropped = dropped_rows(table, near_misses(), world()[0], failed)
    tables.check("dropped", dropped)
    assert dropped["rows"].sum() == yields["dropped"].sum() + 2
    assert dropped.loc[dropped["source"] == "generated near_misses", "reason"].tolist() == ["answered"]
    assert dropped.loc[dropped["source"] == "generated queries", "reason"].tolist() == ["timeout"]


def test_nothing_in_nothing_out():
    table = check(made(), *world(), Gate(), encoder=TwoAxes(), reranker=Listed({}), progress=False)
    assert tables.check("paraphrases", table).empty
    assert yield_by_rule(table)["dropped"].sum() == 0
    tables.check("dropped", dropped_rows(table, near_misses().head(0), world()[0], {}))


def test_candidates_are_normalised_and_united():
    origins = world()[0].iloc[:2]
    translations = pd.DataFrame(
        {
            "origin": [0, 0, 1],
            "via": ["en", "de", "en"],
            "pivot_text": ["a", "b", "c"],
            "paraphrase": ["ＡＰＰ改 密码", "app改密码", "app改密码"],
            "support": [2, 1, 1],
            "fluency": [0.9, 0.8, 0.7],
            "agreement": [0.2, 0.7, 0.5],
        }
    )
    generated = {
        "queries": pd.DataFrame({"origin_id": [origins["text_id"].iloc[1]], "text": ["新问题"], "via": ["gpt"]})
    }
    table = collect(origins, translations, generated)
    assert table["text"].tolist() == ["app改密码", "app改密码", "新问题"]
    typed = {"queries": generated["queries"].assign(text="打１３８００００００１１")}
    assert collect(origins, translations, typed)["text"].tolist()[2] == "打<电话>", "as 01 masks it"
    assert collect(origins, translations, typed, Normalizer(()))["text"].tolist()[2] == "打13800000011"
    assert table["support"].tolist() == [3, 1, 1]
    assert table["via"].tolist() == ["en, de", "en", "gpt"]
    assert table["agreement"].tolist()[:2] == [0.7, 0.5]
    assert table["asks"].tolist() == [False, False, True]
    assert table["source"].tolist() == ["back_translation", "back_translation", "generated"]
    tables.check("paraphrases", check(table, *world(), Gate(), progress=False))


def test_a_query_for_a_document_is_compared_with_other_documents_alone():
    texts, clusters = world()
    # nearer to the queries about logging in than to its document, as queries are to queries
    table = made((texts["text"].iloc[4], "登不进去,密码怎么修改付"), asks=True)
    gate = OPEN.model_copy(update={"own_cluster_margin": 0.0})
    found = check(table, texts, clusters, gate, encoder=TwoAxes(), progress=False)
    assert found["reason"].tolist() == [""]
    assert np.isnan(found["other_similarity"][0]) or found["other_similarity"][0] == -1
    other = texts.assign(kind="document")
    found = check(table, other, clusters, gate, encoder=TwoAxes(), progress=False)
    assert found["reason"].tolist() == ["other cluster"]
