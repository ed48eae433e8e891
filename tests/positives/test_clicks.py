from datetime import datetime, timedelta

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from bgetune.data.text import Normalizer, junk_reason, mask_personal_data, normalize, text_id
from bgetune.positives import clicks, evidence
from bgetune.positives.clicks import LOG

SETTINGS = {
    "session_gap_minutes": 30,
    "rewrite_window_seconds": 120,
    "robot_searches_per_day": 100,
    "min_dwell_seconds": 2,
    "normalizer": Normalizer(("phone", "email")),
}
RULES = {"min_support": 2, "min_npmi": 0.0, "min_jaccard": 0.05, "hub_cap": 50, "misclick_rate": 0.05}
NOON = datetime(2026, 3, 2, 12)


def make_log(rows) -> ibis.Table:
    """A log from (seconds after noon, user, query, title or None) with optional further columns as a dictionary."""
    table = pd.DataFrame(
        [
            {
                "time": NOON + timedelta(seconds=seconds),
                "user_id": user,
                "query": query,
                "url": None if title is None else f"https://example.com/{title}",
                "title": title,
            }
            | (more[0] if more else {})
            for seconds, user, query, title, *more in rows
        ]
    )
    return ibis.memtable(table.reindex(columns=list(LOG)), schema=LOG)


def count(rows, **changes) -> clicks.Counts:
    return clicks.count(make_log(rows), **{**SETTINGS, **changes})


def mine(rows, **changes) -> evidence.Mined:
    return evidence.mine(count(rows), **{**RULES, **changes})


def named(counts, pairs, columns) -> set[tuple]:
    """The pairs with texts for numbers; a document without a title is called "url"."""
    name = counts.texts["text"].to_dict()
    return {(name[a], name.get(b, "url"), *rest) for a, b, *rest in pairs[columns].itertuples(index=False)}


def clicked(counts) -> set[tuple]:
    return named(counts, counts.clicks, ["query", "document", "users"])


def rewritten(counts) -> set[tuple]:
    return named(counts, counts.rewrites, ["query", "rewrite", "users"])


def reasons(table) -> dict[str, int]:
    return dict(zip(table["reason"], table["rows"], strict=True))


# --- counting -----------------------------------------------------------------------------------------------------


def test_users_are_counted_once_and_spellings_are_one_query():
    rows = [
        (0, "a", "改密码", "修改密码"),
        (9, "a", "改密码", "修改密码"),
        (0, "b", " 改密码 ", "修改密码"),
        (0, "c", "ＶＩＰ", "会员"),
    ]
    counts = count(rows)
    assert clicked(counts) == {("改密码", "修改密码", 2), ("vip", "会员", 1)}
    texts = counts.texts.set_index("text")
    assert texts.loc["改密码", "count"] == 3
    assert texts.loc["改密码", "text_id"] == text_id("改密码")
    assert texts["kind"].to_dict() == {"改密码": "query", "修改密码": "document", "vip": "query", "会员": "document"}
    assert (counts.searches, counts.users, counts.abandoned) == (4, 3, 0)


def test_pages_without_titles_are_told_apart_by_url():
    rows = [
        (0, "a", "改密码", None, {"url": "x.com/1"}),
        (0, "b", "换密码", None, {"url": "x.com/1"}),
        (0, "c", "开户", None, {"url": "x.com/2"}),
    ]
    counts = count(rows)
    assert counts.clicks["document"].nunique() == 2
    assert (counts.clicks["document"] < 0).all()
    assert counts.abandoned == 0


def test_personal_data_is_masked_and_counted():
    counts = count([(0, "a", "改密码 13800000001", "修改密码"), (0, "b", "改密码 13800000002", "修改密码")])
    assert clicked(counts) == {("改密码<电话>", "修改密码", 2)}
    assert counts.masked == {"phone": 2}


def test_junk_is_dropped_with_its_reason():
    rows = [
        (0, "a", "www.example.com", "首页"),
        (1, "a", "12345", "首页"),
        (2, "b", "啊", "首页"),
        (3, "b", "开户", "首页"),
    ]
    counts = count(rows)
    assert clicked(counts) == {("开户", "首页", 1)}
    assert reasons(counts.dropped) == {
        "junk query: URL": 1,
        "junk query: numbers only": 1,
        "junk query: single character": 1,
    }


def test_robots_are_dropped_by_rows_a_day_not_by_rows():
    robot = [(n, "robot", f"问题{n}号", "首页") for n in range(101)]
    busy = [(n * 3600 * 24, "busy", f"问题{n}号", "首页") for n in range(101)]
    counts = count(robot + busy)
    assert counts.users == 1
    assert counts.searches == 101
    assert list(counts.dropped["rows"]) == [101]
    assert "robot" in counts.dropped["reason"][0]


def test_a_short_visit_is_a_search_without_a_click():
    rows = [(0, "a", "改密码", "首页", {"dwell": 1.0}), (20, "a", "修改登录密码", "修改密码", {"dwell": 30.0})]
    counts = count(rows)
    assert clicked(counts) == {("修改登录密码", "修改密码", 1)}
    assert rewritten(counts) == {("改密码", "修改登录密码", 1)}
    assert counts.abandoned == 1
    assert list(counts.dropped["rows"]) == [1]


@pytest.mark.parametrize(("pause", "session", "expected"), [(60, None, 1), (121, None, 0), (60, "ids", 0)])
def test_a_rewrite_comes_in_the_same_session_and_in_time(pause, session, expected):
    ids = [{"session_id": "s1"}, {"session_id": "s2"}] if session else [{}, {}]
    rows = [(0, "a", "改密码", None, ids[0]), (pause, "a", "修改登录密码", "修改密码", ids[1])]
    assert len(count(rows).rewrites) == expected


def test_a_long_pause_ends_a_session():
    rows = [(0, "a", "改密码", None), (2000, "a", "修改登录密码", "修改密码")]
    assert len(count(rows, rewrite_window_seconds=3600).rewrites) == 0
    assert len(count(rows, rewrite_window_seconds=3600, session_gap_minutes=60).rewrites) == 1


def test_every_failed_try_is_rewritten_by_the_next_success():
    rows = [
        (0, "a", "密码", None),
        (20, "a", "改密码", None),
        (40, "a", "修改密码", "修改密码页"),
        (60, "a", "开户", "开户页"),
    ]
    assert rewritten(count(rows)) == {("密码", "修改密码", 1), ("改密码", "修改密码", 1)}


def test_a_query_that_is_clicked_later_in_the_session_was_not_abandoned():
    rows = [(0, "a", "改密码", None), (20, "a", "改密码", "修改密码"), (40, "a", "开户", "开户页")]
    assert rewritten(count(rows)) == set()


def test_rewrites_of_one_user_count_once():
    rows = [
        (t, "a", q, title)
        for day in (0, 90000)
        for t, q, title in ((day, "改密码", None), (day + 9, "换密码", "修改密码"))
    ]
    assert rewritten(count(rows)) == {("改密码", "换密码", 1)}


def test_a_log_without_failed_searches_says_that_rewrites_cannot_be_mined():
    counts = count([(0, "a", "改密码", "修改密码")])
    assert "cannot be mined" in counts.summary().loc["rewrites (query, other query)", ""]
    assert "cannot" not in count([(0, "a", "改密码", None), (5, "a", "开户", "开户页")]).summary().to_string()


def test_a_log_without_times_has_no_rewrites_but_clicks():
    rows = [(0, "a", "改密码", None, {"time": None}), (5, "a", "换密码", "修改密码", {"time": None})]
    counts = count(rows)
    assert clicked(counts) == {("换密码", "修改密码", 1)}
    assert counts.rewrites.empty
    assert "time_column" in counts.summary().to_string()


def test_no_log_at_all_is_an_empty_one():
    counts = clicks.count(clicks.union([]), **SETTINGS)
    assert counts.texts.empty
    assert counts.clicks.empty
    mined = evidence.mine(counts, **RULES)
    assert mined.edges.empty
    assert list(evidence.to_tables(counts, mined.edges)) == ["a_id", "b_id", "source", "support", "weight"]


def test_a_sample_takes_whole_users_and_always_the_same():
    rows = [(n * 7, f"user{n % 200}", f"问题{n}号", "首页") for n in range(1000)]
    half, again, less = (count(rows, sample_fraction=f) for f in (0.5, 0.5, 0.2))
    assert set(half.texts["text"]) == set(again.texts["text"])
    assert set(less.texts["text"]) < set(half.texts["text"])
    assert 70 < half.users < 130
    assert half.searches == 5 * half.users


def test_ranks_tell_how_likely_a_result_was_looked_at():
    counts = count([(0, "a", "改密码", "修改密码", {"rank": 1}), (0, "b", "换密码", "修改密码", {"rank": 3})])
    examination = dict(zip(counts.texts["text"][counts.clicks["query"]], counts.clicks["examination"], strict=True))
    assert examination == pytest.approx({"改密码": 1.0, "换密码": 0.5})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30)
        | st.text("支付密码abc019", max_size=14),
        min_size=1,
        max_size=40,
    )
)
def test_quick_cleaning_gives_what_cleaning_one_by_one_gives(strings):
    log = make_log([(0, "a", string, None) for string in strings])
    table, kept, _, _ = clicks._clean(log, SETTINGS["normalizer"])
    found = table.to_pandas().set_index("raw")
    for string in set(strings):
        normal = mask_personal_data(normalize(string), ("phone", "email"))[0]
        reason = junk_reason(normal)
        if reason is None:
            assert kept["text"][found.number[string]] == normal
        else:
            assert found.junk[string] == reason
            assert pd.isna(found.number[string])
    assert kept["text"].is_unique


# --- deciding -----------------------------------------------------------------------------------------------------


def pairs_of(rows, source="co_click", part="edges", **changes) -> set[frozenset]:
    counts = count(rows)
    table = getattr(evidence.mine(counts, **{**RULES, **changes}), part)
    return {frozenset(pair) for pair in named(counts, table[table["source"] == source], ["a", "b"])}


def searches(query, title, users):
    return [(0, f"{query}{n}", query, title) for n in range(users)]


def test_two_users_of_two_are_evidence_one_of_one_is_weak():
    rows = searches("改密码", "修改密码", 2) + searches("换密码", "修改密码", 2) + searches("密码咋改", "修改密码", 1)
    assert pairs_of(rows) == {
        frozenset(p) for p in [("改密码", "修改密码"), ("换密码", "修改密码"), ("改密码", "换密码")]
    }
    assert pairs_of(rows, part="weak") == {frozenset(("密码咋改", "修改密码"))}


def test_queries_that_share_an_untitled_page_once_are_weak_pairs():
    page = {"url": "x.com/1"}
    rows = [(0, "a", "改密码", None, page), (0, "b", "换密码", None, page), (0, "c", "开户", None, {"url": "x.com/2"})]
    assert pairs_of(rows) == set()
    assert pairs_of(rows, part="weak") == {frozenset(("改密码", "换密码"))}


def test_two_users_of_sixty_are_a_mis_click():
    rows = searches("支付密码", "支付密码页", 58) + searches("登录密码", "登录密码页", 20)
    rows += [(1, f"m{n}", "支付密码", "登录密码页") for n in range(2)]
    assert frozenset(("支付密码", "登录密码页")) not in pairs_of(rows)
    assert frozenset(("支付密码", "登录密码")) not in pairs_of(rows)
    assert frozenset(("支付密码", "支付密码页")) in pairs_of(rows)


def test_two_users_of_five_are_too_few():
    rows = searches("登录密码", "登录密码页", 9) + searches("密码", "登录密码页", 2)
    rows += [(1, f"m{n}", "密码", f"别的页{n}号") for n in range(3)]
    assert pairs_of(rows) == {frozenset(("登录密码", "登录密码页"))}


def test_a_page_reached_from_everywhere_joins_nothing():
    """Every third click goes to one page, too few queries for the hub cap; topics stay apart."""
    rows = []
    for topic in range(12):
        for wording in range(2):
            query = f"话题{topic}问法{wording}"
            rows += searches(query, f"话题{topic}页", 4) + [(1, f"{query}{n}", query, "热门活动") for n in range(2)]
    pairs = pairs_of(rows)
    assert all(len({text[:3] for text in pair if text != "热门活动"}) == 1 for pair in pairs)
    assert frozenset(("话题3问法0", "话题3问法1")) in pairs


def test_a_page_that_few_choose_joins_its_audience():
    """One user in thirteen: too few to see from the main page, but nobody else comes to this one."""
    rows = []
    for query in ("改密码", "换密码"):
        rows += [*searches(query, "修改密码", 12), (1, f"{query}99", query, "密码修改说明")]
    assert frozenset(("改密码", "密码修改说明")) in pairs_of(rows)
    visitors = [row for n in range(9) for row in searches(f"别的问题{n}号", "密码修改说明", 1)]
    assert frozenset(("改密码", "密码修改说明")) not in pairs_of(rows + visitors)


@pytest.mark.parametrize(("rank", "taken"), [(1, False), (8, True)])
def test_clicks_on_the_top_result_prove_less(rank, taken):
    rows = [(0, f"{n}", f"问题{n % 9}号", f"答案{n % 9}号", {"rank": 8}) for n in range(90)]
    rows += [(0, f"x{n}", "改密码", "修改密码", {"rank": rank}) for n in range(2)]
    assert (frozenset(("改密码", "修改密码")) in pairs_of(rows)) == taken


def test_one_user_who_clicks_a_thousand_times_is_one_user():
    rows = [(n, "a", "改密码", "修改密码") for n in range(90)]
    assert pairs_of(rows) == set()


def test_pages_with_one_audience_are_one_family():
    """Nobody's clicks on a single page would do, but all are on two pages that the others use as one."""
    rows = [
        (n, f"{q}{n}", q, page)
        for q in ("改密码", "换密码", "修改口令")
        for n in range(6)
        for page in ("密码页甲", "密码页乙")
    ]
    rows += [(0, "x", "口令咋换", "密码页甲"), (0, "y", "口令咋换", "密码页乙")]
    assert frozenset(("口令咋换", "密码页甲")) in pairs_of(rows)


def test_a_click_and_a_rewrite_are_two_witnesses():
    rows = searches("改密码", "修改密码", 5) + searches("密码咋改", "修改密码", 1)
    for n in range(20):  # other people's rewrites of other things
        rows += searches(f"问题{n}号", f"答案{n}号", 5)
        rows += [(0, f"r{n}", f"问一下{n}号", None), (20, f"r{n}", f"问题{n}号", f"答案{n}号")]
    assert frozenset(("密码咋改", "修改密码")) not in pairs_of(rows)
    rows += [(0, "z", "密码咋改", None), (20, "z", "改密码", "修改密码")]
    assert frozenset(("密码咋改", "修改密码")) in pairs_of(rows)
    assert pairs_of(rows, "rewrite") == {frozenset(("密码咋改", "改密码"))}
    assert len(pairs_of(rows, "rewrite", "weak")) == 20


def test_a_change_of_subject_is_no_rewrite():
    rows = searches("改密码", "修改密码", 9) + searches("开户", "开户页", 9)
    rows += [(100, "a", "改密码", None), (120, "a", "开户", "开户页")]
    assert pairs_of(rows, "rewrite") == set()
    assert reasons(mine(rows).dropped)["rewrite: a change of subject"] == 1


def test_a_popular_page_is_no_evidence():
    rows = [row for n in range(60) for row in searches(f"问题{n}号", "首页", 3)]
    assert pairs_of(rows) == set()
    assert "more than 50 distinct queries" in mine(rows).dropped["reason"][0]
    assert len(pairs_of(rows[:90])) == 30 * 29 / 2 + 30


def test_a_popular_page_makes_no_quadratic_number_of_pairs():
    """Without the cap 20,000 queries of one page would make 200 million pairs."""
    many = pd.DataFrame({"query": np.arange(20000), "document": -1, "users": 3, "examination": 1.0})
    texts = pd.DataFrame({"text_id": [text_id(str(n)) for n in range(20000)], "text": [str(n) for n in range(20000)]})
    counts = clicks.Counts(
        texts, many, pd.DataFrame({"query": [], "rewrite": [], "users": []}, dtype="int64"), pd.DataFrame()
    )
    assert evidence.mine(counts, **RULES).edges.empty


def test_co_click_wants_what_both_clicked_to_matter_to_both():
    rows = [(n, f"a{n}", "甲问题", page) for n in range(30) for page in ("共同页", "甲页一", "甲页二", "甲页三")]
    rows += [(n, f"b{n}", "乙问题", page) for n in range(30) for page in ("共同页", "乙页一", "乙页二", "乙页三")]
    both = frozenset(("甲问题", "乙问题"))
    assert both in pairs_of(rows, min_jaccard=0.1)
    assert both not in pairs_of(rows, min_jaccard=0.2)


def test_npmi_drops_pairs_that_meet_as_often_as_by_chance():
    rows = [
        (n, f"{q}{n}", q, page)
        for q in ("甲问题", "乙问题", "丙问题")
        for n in range(9)
        for page in ("页一", "页二", "页三")
    ]
    assert pairs_of(rows, min_npmi=-1)
    assert pairs_of(rows, min_npmi=0.1) == set()


def test_confidence_grows_with_users_and_stays_in_range():
    few, many = (
        evidence.mine(count(searches("改密码", "修改密码", n) + searches("开户", "开户页", 9)), **RULES).edges
        for n in (2, 5)
    )
    assert few.confidence.min() < many.confidence.min()
    assert many.confidence.between(0, 1, inclusive="right").all()


def test_tables_hold_ids_in_order_and_weights_below_the_source_s_trust():
    counts = count(searches("改密码", "修改密码", 3) + searches("换密码", "修改密码", 3))
    edges = evidence.to_tables(counts, evidence.mine(counts, **RULES).edges)
    assert len(edges) == 3
    assert (edges["a_id"] < edges["b_id"]).all()
    assert edges["weight"].between(0.8, 0.9).all()
    assert set(edges["support"]) == {3}


@pytest.mark.parametrize("block", [1, 2, 1000])
def test_pairs_of_a_document_come_in_blocks_that_part_no_query(block, monkeypatch):
    monkeypatch.setattr(evidence, "BLOCK", block)
    document, query = np.array([1, 1, 1, 4, 7, 7, 9, 9]), np.array([2, 3, 5, 8, 3, 5, 2, 3])
    blocks = [{*zip(left, right, strict=True)} for left, right in evidence._pair_blocks(document, query)]
    assert set().union(*blocks) == {(0, 1), (0, 2), (1, 2), (4, 5), (6, 7)}
    assert sum(map(len, blocks)) == 5
    first = [{query[left] for left, _ in some} for some in blocks if some]
    assert first == ([{2}, {3}] if block <= 2 else [{2, 3}])
    assert not list(evidence._pair_blocks(np.array([], dtype=int), np.array([], dtype=int)))


def test_mining_does_not_import_torch():
    import subprocess
    import sys

    modules = "bgetune.positives.clicks, bgetune.positives.evidence, bgetune.positives.quality, bgetune.graph.recall"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"


def test_a_log_of_one_day_says_so_even_where_all_are_robots():
    rows = [(second, "u1", f"问题{second}", "标题") for second in range(120)]
    counts = count(rows)
    assert counts.searches == 0
    assert "one: 2026-03-02; users with a few rows" in counts.summary().loc["days"].iloc[0]
    of_day = make_log(rows[:5]).mutate(time=ibis.timestamp("1970-01-01 08:00:00"))
    assert "times of day without dates" in clicks.count(of_day, **SETTINGS).summary().loc["days"].iloc[0]
    several = count([*rows[:5], (86_400, "u1", "别的问题", "标题")])
    assert "days" not in several.summary().index
