"""Results shown and not clicked: searches without a click, and documents that users saw and passed over."""

import json
from datetime import datetime, timedelta

import ibis
import pandas as pd
import pytest

from bgetune import new
from bgetune.config.profile import load_profile, resolve
from bgetune.config.sources import ClickSource
from bgetune.data.sources import read_clicks
from bgetune.data.text import text_id
from bgetune.graph import clusters as graph
from bgetune.positives import clicks, evidence
from bgetune_demo import WORLDS, log, shown, world

SETTINGS = {
    **{"session_gap_minutes": 30, "rewrite_window_seconds": 120},
    **{"robot_searches_per_day": 20, "min_dwell_seconds": 2},
}
RULES = {"min_support": 2, "min_npmi": 0.0, "min_jaccard": 0.05, "hub_cap": 50, "misclick_rate": 0.05}
NOON = datetime(2026, 3, 2, 12)
NOBODY = pd.DataFrame({"a_id": [], "b_id": []}, dtype=str)


def searched(user, query, page, clicked=(), second=0):
    """A row for each title of a page of results."""
    return [
        {
            **{"time": NOON + timedelta(seconds=second), "user_id": user, "query": query, "url": title, "title": title},
            **{"rank": rank, "clicked": title in clicked},
        }
        for rank, title in enumerate(page, start=1)
    ]


def count(*searches):
    table = pd.DataFrame([row for rows in searches for row in rows])
    table = table.reindex(columns=[*clicks.LOG, "clicked"])
    return clicks.count(ibis.memtable(table, schema={**clicks.LOG, "clicked": "boolean"}), **SETTINGS)


def named(counts, pairs):
    text = counts.texts["text"]
    return {(text[query], text[document], users) for query, document, users in pairs.itertuples(index=False)}


def test_what_stands_above_a_click_was_seen_by_each_user_once():
    page = ["登录密码", "支付密码", "银行卡"]
    counts = count(
        searched("u1", "修改密码", page, ["支付密码"]),
        searched("u1", "修改密码", page, ["支付密码"], second=50),
        searched("u2", "修改密码", page, ["登录密码"]),  # nothing above, the rest perhaps not seen
        searched("u3", "修改密码", page, ["登录密码", "银行卡"]),
    )
    assert named(counts, counts.skips) == {("修改密码", "登录密码", 1), ("修改密码", "支付密码", 1)}
    assert named(counts, counts.clicks[["query", "document", "users"]]) == {
        ("修改密码", "支付密码", 1),
        ("修改密码", "登录密码", 2),
        ("修改密码", "银行卡", 1),
    }


def test_a_page_without_a_click_is_one_search_and_a_robot_is_told_by_searches():
    pages = [f"第{number}页" for number in range(9)]
    counts = count(
        searched("u1", "怎么退款", pages), searched("u1", "退款流程", pages, [pages[3]], second=30),
        searched("u2", "怎么退款", pages, [pages[0]]), searched("u2", "发票", pages, [pages[1]], second=40),
    )  # fmt: skip
    assert (counts.searches, counts.abandoned) == (4, 1)  # each user was shown 18 results; 20 rows a day are a robot
    assert counts.dropped.empty
    assert named(counts, counts.rewrites) == {("怎么退款", "退款流程", 1)}


def many(query, page, clicked, users, name):
    return [searched(f"{name}{number}", query, page, [clicked]) for number in range(users)]


@pytest.mark.parametrize(("mistaken", "apart"), [(0, True), (8, False)])
def test_what_nearly_all_pass_over_is_kept_apart(mistaken, apart):
    page = ["登录密码怎么改", "支付密码怎么改"]
    counts = count(
        *many("改支付密码", page, page[1], 12, "a"),
        *many("改支付密码", page, page[0], mistaken, "b"),
        *many("改登录密码", page, page[0], 5, "c"),
    )
    mined = evidence.mine(counts, **RULES)
    kept = evidence.kept_apart(counts, mined, NOBODY, NOBODY)
    pair = sorted([text_id("改支付密码"), text_id("登录密码怎么改")])
    assert kept.to_numpy().tolist() == ([pair] if apart else [])
    if apart:
        people = pd.DataFrame([pair], columns=["a_id", "b_id"])
        assert evidence.kept_apart(counts, mined, people, NOBODY).empty  # people know better
        # a false edge between the two questions, as a model may propose it, joins nothing
        wrong = pd.DataFrame([sorted([text_id("改支付密码"), text_id("改登录密码")])], columns=["a_id", "b_id"])
        edges = pd.concat([evidence.to_tables(counts, mined.edges), wrong.assign(weight=0.1)])
        for different, groups in (([], 1), (kept.to_numpy().tolist(), 2)):
            found = graph.cluster(counts.texts["text_id"], edges, max_cluster_size=60, different=different)
            assert found["cluster_id"].nunique() == groups


def test_clicks_alone_count_as_before():
    rows = searched("u1", "修改密码", ["支付密码"], ["支付密码"]) + searched("u2", "退款", ["银行卡"], ["银行卡"])
    alone = pd.DataFrame(rows).drop(columns="clicked").reindex(columns=list(clicks.LOG))
    before = clicks.count(ibis.memtable(alone, schema=clicks.LOG), **SETTINGS)
    after = count(rows)
    pd.testing.assert_frame_equal(before.clicks, after.clicks)
    assert before.skips.empty
    assert evidence.mine(before, **RULES).different.empty


def test_a_log_says_what_was_clicked_in_several_words(tmp_path):
    file = tmp_path / "log.csv"
    rows = [("a", "1"), ("b", "0"), ("c", "click"), ("d", "曝光"), ("e", ""), ("f", "2"), ("g", "maybe")]
    lines = [f"2026-03-02 08:00:00,u1,q,{url},{number},{word}" for number, (url, word) in enumerate(rows, start=1)]
    file.write_text("time,user_id,query,url,pos,clicked\n" + "\n".join(lines), "utf-8")
    source = ClickSource(path=str(file), rank_column="pos", clicked_column="clicked", timezone="UTC")
    table, dropped = read_clicks(source)
    found = table.to_pandas().set_index("url")["clicked"].to_dict()
    assert found == {"a": True, "b": False, "c": True, "d": False, "e": False, "f": True}
    assert dropped[["reason", "rows"]].to_numpy().tolist() == [["clicked is neither yes nor no", 1]]


def test_logs_with_and_without_impressions_are_counted_together(tmp_path):
    (tmp_path / "a.csv").write_text("time,user_id,query,url,clicked\n2026-03-02 08:00:00,u1,怎么退款,x,0\n", "utf-8")
    (tmp_path / "b.csv").write_text("time,user_id,query,url\n2026-03-02 08:00:00,u2,怎么退款,x\n", "utf-8")
    sources = [
        ClickSource(path=str(tmp_path / "a.csv"), clicked_column="clicked"), ClickSource(path=str(tmp_path / "b.csv")),
    ]  # fmt: skip
    counts = clicks.count(clicks.union([read_clicks(source)[0] for source in sources]), **SETTINGS)
    assert (counts.searches, counts.abandoned, counts.clicks["users"].tolist()) == (2, 1, [1])


def test_ubi_is_recognised_and_read(tmp_path, monkeypatch):
    queries = [
        {"query_id": f"q{n}", "client_id": f"c{n}", "user_query": "无线耳机", "timestamp": f"2026-03-02T08:00:0{n}Z"}
        | {"application": "shop", "query_response_hit_ids": hits, "object_id_field": "sku"}
        for n, hits in enumerate([["A1", "B2", "C3"], ["B2", "A1"], []])
    ]
    events = [
        {"application": "shop", "action_name": action, "query_id": query, "client_id": "c0", "session_id": "s"}
        | {"timestamp": "2026-03-02T08:00:05Z", "message_type": "INFO"}
        | {"event_attributes": {"object": {"object_id": item, "object_id_field": "sku"}, "position": {"ordinal": 2}}}
        for action, query, item in [("click", "q0", "B2"), ("add_to_cart", "q0", "B2"), ("view", "q1", "B2")]
    ]
    for name, rows in (("ubi_queries.ndjson", queries), ("ubi_events.ndjson", events)):
        (tmp_path / name).write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    monkeypatch.setattr(new, "ROOT", tmp_path)
    (tmp_path / "params").mkdir()
    guesses = new.look(["ubi_queries.ndjson", "ubi_events.ndjson"], tmp_path)
    assert [guess.kind for guess in guesses] == ["clicks"]
    profile = tmp_path / "params/ubi.yaml"
    profile.write_text(new.profile("ubi", guesses), "utf-8")
    (source,) = resolve("01_positives", load_profile(profile))[0].sources.clicks
    table, dropped = read_clicks(source)
    found = table.order_by("time", "rank").to_pandas()
    assert found[["user_id", "query", "url", "rank", "clicked"]].fillna("").to_numpy().tolist() == [
        ["c0", "无线耳机", "A1", 1, False], ["c0", "无线耳机", "B2", 2, True], ["c0", "无线耳机", "C3", 3, False],
        ["c1", "无线耳机", "B2", 1, False], ["c1", "无线耳机", "A1", 2, False], ["c2", "无线耳机", "", 1, False],
    ]  # fmt: skip
    assert dropped.empty
    assert found["time"].iloc[0] == pd.Timestamp("2026-03-02 08:00:00")


def test_the_demo_s_log_with_all_results_has_the_same_clicks():
    tables = world.make(WORLDS["small"])
    plain, every = log.clicks(tables), shown.results(tables)
    clicked = every[every["clicked"] == 1]
    columns = ["time", "user_id", "session_id", "query", "url"]
    assert clicked[columns].to_numpy().tolist() == plain[plain["url"].notna()][columns].to_numpy().tolist()
    assert len(every) > 3 * len(plain)
