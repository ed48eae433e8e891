"""Parts of documents as weak positives."""

import pandas as pd
import pytest

from bgetune.data import tables
from bgetune.data.text import STANDARD, text_id
from bgetune.positives import documents


def table(*rows):
    return pd.DataFrame(rows, columns=["title", "text"], dtype=str)


def pairs(title, text, seed=1):
    return set(documents.parts(title, text, seed))


def test_a_title_asks_for_the_body():
    assert pairs("怎么退款", "打开订单页") == {("怎么退款", "打开订单页")}
    assert pairs("怎么退款", "") == set()


@pytest.mark.parametrize(
    "text", ["## 退款 ##\n打开订单页\n### 发票\n点开发票", "<h2>退款</h2>打开订单页<h3 id='a'>发票</h3>\n点开发票"]
)
def test_a_heading_asks_for_its_section(text):
    found = {(a.strip(), b.strip()) for a, b in pairs("", text)}
    assert {("退款", "打开订单页"), ("发票", "点开发票")} <= found


def test_a_sentence_asks_for_the_longer_text_beside_it_and_no_pair_overlaps():
    text = "第一句话讲退款。第二句话讲发票！第三句话讲密码？第四句话讲登录"
    seen = set()
    for seed in range(20):
        for a, b in pairs("", text, seed):
            assert not set(a.split("\n")) & set(b.split("\n"))
            assert a.replace("\n", "") in text
            seen.add(a)
    assert {f"第{n}句话讲" for n in "一二三四"} <= {part[:5] for part in seen}
    assert pairs("", text, 3) == pairs("", text, 3), "the seed decides"
    assert pairs("", "只有一句话") == set()


def test_the_tables_are_in_form_and_hold_the_document_in_the_cluster():
    found = documents.within(table(("怎么退款", "打开订单页。点申请退款。")), STANDARD, 1)
    tables.check("texts", found.texts)
    tables.check("edges", found.edges)
    kinds = found.texts.set_index("text")["kind"]
    assert kinds["怎么退款"] == "query"
    assert kinds["打开订单页。点申请退款。"] == "document"
    whole = text_id("怎么退款打开订单页。点申请退款。")
    ends = found.edges.set_index(["a_id", "b_id"])["weight"]
    part = tuple(sorted((text_id("怎么退款"), text_id("打开订单页。点申请退款。"))))
    to_whole = tuple(sorted((text_id("怎么退款"), whole)))
    assert ends[part] == tables.SOURCES["same_document"]
    assert ends[to_whole] == documents.WHOLE * ends[part]


def test_a_part_of_several_documents_joins_nothing_and_is_counted():
    rows = [("使用须知", "退款的说明在这里"), ("使用须知", "发票的说明在这里"), ("修改密码", "密码的说明在这里")]
    found = documents.within(table(*rows), STANDARD, 1)
    assert set(found.texts["text"]) == {"修改密码", "密码的说明在这里"}
    assert found.dropped[["rows", "example"]].to_numpy().tolist() == [[2, "使用须知"]]


@pytest.mark.parametrize(
    ("when", "needed", "some"), [("auto", True, 1), ("auto", False, 0), ("always", False, 1), ("never", True, 0)]
)
def test_documents_are_taken_apart_where_nothing_else_gives_positives(when, needed, some):
    found = documents.within(table(("怎么退款", "打开订单页")), STANDARD, 1, when=when, needed=needed)
    assert bool(len(found.edges)) == bool(some)
    tables.check("edges", found.edges)
