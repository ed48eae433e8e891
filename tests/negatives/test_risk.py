"""The probability of an unknown positive, on worlds of vectors whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bgetune.negatives import groups, measure, mining, promotion, risk

PER_MEANING = 16


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_what_is_expected_is_true(known_world, share):
    known = known_world(share)
    mined = known.mine()
    table = measure.risk_table(known.corpus, mined, known.meanings).set_index("what")
    wrong = (table["expected"] - table["true"]).abs()
    assert wrong["the hard negatives"] < 0.03
    assert wrong.max() < 0.1
    assert table.loc["the hard negatives", "true"] < 0.07
    assert table["true"].iloc[0] > 0.2  # the nearest texts are full of unknown positives
    assert measure.coverage(mined)["with_negatives"] > 0.95
    (found,) = mined.risks.by_kind.values()
    true = (round(share * PER_MEANING) - 1) / (PER_MEANING - 1)
    assert found.known_share == pytest.approx(true, abs=0.06)
    assert found.interval[0] <= found.known_share <= found.interval[1]


def test_the_limit_is_what_keeps_false_negatives_out(known_world):
    known = known_world()
    free = known.mine(max_false_negatives=None)
    strict = known.mine(max_false_negatives=0.01)
    usual = known.mine()
    shares = [measure.false_negatives(known.corpus, mined, known.meanings) for mined in (strict, usual, free)]
    assert shares[0] <= shares[1] < 0.07 < 0.3 < shares[2]
    hardness = [mined.negatives["similarity"].mean() for mined in (strict, usual, free)]
    assert hardness == sorted(hardness)
    assert set(usual.candidates["rule"]) >= {"unknown_positive", "same_cluster"}


@pytest.mark.parametrize("target", [0.02, 0.05, 0.15])
def test_as_many_false_negatives_are_risked_as_are_asked_for(known_world, target):
    """The share holds for the negatives as chosen: the nearest of those within the limit, not all within it."""
    known = known_world(noise=1.6)
    mined = known.mine(max_false_negatives=target)
    share, low, high = mined.expected
    assert low <= share <= high
    assert 0.6 * target < share <= target
    assert mined.risks.limit > target
    assert measure.false_negatives(known.corpus, mined, known.meanings) == pytest.approx(share, abs=0.03)


def test_misleading_features_of_the_nearest_candidates_are_found_out():
    """All candidates have the same features and 6 % are positives, but of the nearest of each query 30 %."""
    rng = np.random.default_rng(0)
    queries, depth, c = 4000, 20, 0.5
    rank = np.tile(np.arange(depth), queries)
    positive = rng.random(len(rank)) < np.where(rank == 0, 0.3, 0.05)
    known = positive & (rng.random(len(rank)) < c)
    true = (positive & ~known).sum() / (~known).sum()
    query = np.repeat(np.arange(queries), depth)
    made = risk.Risk(
        centre=np.zeros(3),
        scale=np.ones(3),
        weights=np.ones(3),
        edges=np.zeros(0),
        curves=np.full((risk.SAMPLES, 1), true),
        known_shares=np.full(risk.SAMPLES, c),
        clusters=np.arange(queries),
        drawn=np.ones((risk.SAMPLES, queries), dtype=int),
    )
    pairs = {"query": query, "known": known, "kind": "query", "cluster": query, "bin": 0, "risk": true}
    by_known, by_probability = risk._positives({"query": made}, pd.DataFrame(pairs), 0.5, 1)
    first = pd.DataFrame(pairs | {"positive": positive})[~known].groupby("query").head(1)
    assert by_known.mean() == pytest.approx(first["positive"].mean(), abs=0.02)
    assert by_probability.mean() == pytest.approx(true)
    assert true < 0.5 * first["positive"].mean()


def test_negatives_that_lie_deeper_than_the_search_are_found(known_world):
    known = known_world(noise=0.4)
    mined = known.mine(rank_max=10)  # fewer than the positives of a query
    assert mined.risks.depth > 10
    assert measure.coverage(mined)["full"] > 0.9
    assert mined.negatives["rank"].max() > 10
    assert measure.false_negatives(known.corpus, mined, known.meanings) < 0.07


def test_too_few_positives_are_said_aloud_and_the_margin_decides(toy, rules):
    rules = replace(rules, margin=None)
    mined = mining.mine(toy.corpus, toy.encoder, rules=rules)
    assert mined.expected is None
    assert "cannot be estimated" in measure.risk_sentence(mined)
    assert f"{risk.LEAST_KNOWN} are needed" in measure.risk_sentence(mined)
    assert "margin" in set(mined.candidates["rule"])
    assert "expected_false_negatives" not in measure.coverage(mined)
    assert measure.risk_table(toy.corpus, mined)["expected"].isna().all()


def test_a_similarity_that_says_nothing_is_said_aloud():
    rng = np.random.default_rng(0)
    known = rng.random(4000) < 0.2
    found = risk.fit(rng.normal(size=(4000, 3)), known, np.arange(4000) // 40)
    assert "hardly tells the known positives apart" in found
    assert "nothing to choose from" in risk.fit(np.zeros((100, 3)), np.ones(100, dtype=bool), np.arange(100) // 10)
    assert "clusters" in risk.fit(rng.normal(size=(4000, 3)), known, np.arange(4000) // 2000)


def test_hidden_positives_are_expected_back():
    """Hiding a third of the known positives must raise the expected number of unknown ones by as many."""
    rng = np.random.default_rng(1)
    positive = rng.random(40_000) < 0.2
    features = rng.normal(size=(40_000, 3)) + 4 * positive[:, None]
    known = positive & (rng.random(40_000) < 0.6)
    hidden = known & (rng.random(40_000) < 1 / 3)
    cluster = np.arange(40_000) // 100
    before, after = risk.fit(features, known, cluster), risk.fit(features, known & ~hidden, cluster)
    expected = [made.curves.mean(axis=0)[made.bin(features)] for made in (before, after)]
    grown = expected[1][~known | hidden].sum() - expected[0][~known].sum()
    assert grown == pytest.approx(hidden.sum(), rel=0.1)
    assert expected[0][~known].sum() == pytest.approx((positive & ~known).sum(), rel=0.1)


def test_documents_and_queries_are_estimated_apart(known_world):
    known = known_world(0.8, kinds=True)
    mined = known.mine()
    assert set(mined.risks.by_kind) == {"document", "query"}
    words = measure.risk_sentence(mined)
    assert "document" in words
    assert "query" in words


def test_a_reranker_that_vetoes_lowers_the_probability(known_world):
    veto = risk.Veto(positives=0.1, negatives=0.9)
    assert veto.after(np.array([0.0, 0.5, 1.0])) == pytest.approx([0.0, 0.1, 1.0])
    assert risk.Veto().after(np.array([0.3])) == pytest.approx([0.3])
    known = known_world()
    alone = known.mine()
    both = known.mine(known.reranker(), promote_score=None)
    assert both.negatives["similarity"].mean() > alone.negatives["similarity"].mean()
    assert measure.false_negatives(known.corpus, both, known.meanings) == 0
    assert both.expected[0] < 0.05
    blind = known.reranker(dict.fromkeys([(a, b) for a in known.meaning for b in known.meaning], 0.1))
    fooled = known.mine(blind, promote_score=None)
    assert measure.false_negatives(known.corpus, fooled, known.meanings) < 0.07  # a reranker that knows nothing


def test_where_nothing_is_safe_training_goes_without_hard_negatives(known_world):
    known = known_world(noise=3.0)  # no similarity is low enough
    mined = known.mine(max_false_negatives=1e-9, rank_max=10)
    assert mined.negatives.empty
    assert "goes without hard negatives" in measure.risk_sentence(mined)
    rows = groups.training_groups(known.corpus, mined, max_positives=10)
    assert len(rows) == len(mined.queries)
    assert rows["neg"].map(len).eq(0).all()
    assert "train by their positives alone" in measure.advice(mined)


def test_people_are_asked_about_the_likeliest_positives(known_world):
    known = known_world()
    mined = known.mine()
    table = promotion.doubtful(known.corpus, mined, limit=200)
    assert table["reason"].str.startswith("a positive with probability").all()
    same = table["query"].map(known.meaning) == table["candidate"].map(known.meaning)
    assert same.mean() > 0.7


def test_what_people_called_different_is_not_expected_to_be_positive(known_world):
    known = known_world()
    mined = known.mine()
    row = mined.candidates[mined.candidates["rule"].eq("unknown_positive")].iloc[0]
    anchor = mined.queries["anchor"][row["query"]]
    pair = tuple(sorted((known.corpus.id[anchor], known.corpus.id[row["candidate"]])))
    judged = mining.mine(known.corpus, known.encoder, rank_max=60, verdicts={pair: "different"})
    again = judged.candidates[(judged.candidates["query"] == row["query"]) & judged.candidates["taken"]]
    assert row["candidate"] in set(again["candidate"])
