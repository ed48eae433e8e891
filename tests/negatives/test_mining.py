from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from bgetune.config.stages import HardNegatives
from bgetune.data.text import text_id
from bgetune.errors import InputError
from bgetune.graph.promote import promote
from bgetune.models.prompts import Prompts
from bgetune.negatives import groups, measure, mining, promotion
from bgetune.negatives.corpus import Corpus, queries_of
from bgetune.negatives.rules import Rules, Search


def pairs_of(corpus, mined, rows):
    anchors = corpus.text[mined.queries["anchor"].to_numpy()[rows["query"]]]
    return set(zip(anchors, corpus.text[rows["candidate"]], strict=True))


def test_negatives_are_other_meanings_near_the_query(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    served = measure.coverage(mined)
    assert served["with_negatives"] == 1
    assert measure.false_negatives(toy.corpus, mined, toy.meanings) == 0
    assert mined.negatives["similarity"].mean() > mined.candidates["similarity"].mean()  # hard, not merely safe


def test_a_rule_is_tried_by_a_keyword(toy, rules):
    tried = mining.mine(toy.corpus, toy.encoder, None, rules, margin=0.3)
    assert tried.rules == replace(rules, margin=0.3)
    written = mining.mine(toy.corpus, toy.encoder, None, replace(rules, margin=0.3))
    pd.testing.assert_frame_equal(tried.candidates, written.candidates)
    assert tried.candidates["rule"].eq("margin").sum() > 0
    assert mining.mine(toy.corpus, toy.encoder, margin=0.3).rules == Rules(margin=0.3)
    with pytest.raises(TypeError, match="margn"):
        mining.mine(toy.corpus, toy.encoder, margn=0.3)


def test_rules_and_search_have_the_names_and_defaults_of_the_parameters():
    parameters = HardNegatives()
    for bundle in (Rules(), Search()):
        for field in fields(bundle):
            assert getattr(bundle, field.name) == getattr(parameters, field.name)


def test_without_rules_false_negatives_come_in(toy, rules):
    """The control of the test above: the search alone does find false negatives, so the rules have something to do."""
    off = {
        "veto_score": None,
        "promote_score": None,
        "margin": None,
        "cluster_rule": False,
        "max_false_negatives": None,
    }
    mined = mining.mine(toy.corpus, toy.encoder, None, replace(rules, **off))
    assert measure.false_negatives(toy.corpus, mined, toy.meanings) > 0.2


def test_margin_alone_keeps_negatives_on_a_drifted_model(toy, rules):
    """Where the published margin starves: positives score below many neighbours, and all scores bunch."""
    corpus = toy.corpus
    mined = mining.mine(corpus, toy.encoder, None, rules)
    served = measure.coverage(mined)
    assert served["with_negatives"] >= 0.8
    none = mining.mine(corpus, toy.encoder, None, replace(rules, margin=None, max_false_negatives=None))
    share = measure.false_negatives(corpus, mined, toy.meanings)
    assert share < measure.false_negatives(corpus, none, toy.meanings) / 3
    weakest = mined.queries["similarities"].map(min).to_numpy()
    published = mined.candidates["similarity"] <= 0.95 * weakest[mined.candidates["query"]]
    assert mined.candidates["query"][published].nunique() < 0.8 * len(mined.queries)


def test_every_candidate_has_the_first_rule_that_rejects_it(toy, rules):
    rules = replace(rules, window_low=0.95, window_high=0.985, rank_min=2)
    corpus = toy.corpus
    mined = mining.mine(corpus, toy.encoder, toy.reranker, rules)
    anchor = mined.queries["anchor"].to_numpy()
    edges = set(zip(corpus.positives["anchor"], corpus.positives["positive"], strict=True))
    seen = set()
    for row in mined.candidates.itertuples():
        q, c = anchor[row.query], row.candidate
        if (q, c) in edges or (c, q) in edges:
            expected = "known_positive"
        elif corpus.cluster[q] == corpus.cluster[c]:
            expected = "same_cluster"
        elif row.reranker >= 0.9:
            expected = "missed_positive"
        elif row.rank < 2:
            expected = "rank"
        elif row.similarity < 0.95:
            expected = "below_window"
        elif row.similarity > 0.985:
            expected = "above_window"
        else:
            expected = "veto" if row.reranker >= rules.veto_score else ""
        assert row.rule == expected
        seen.add(expected)
    assert {"known_positive", "same_cluster", "missed_positive", "below_window", "above_window", ""} <= seen
    yields = measure.rule_yields(mined)
    assert yields["candidates"].sum() == len(mined.candidates)
    assert len(groups.rejected_candidates(corpus, mined)) == (mined.candidates["rule"] != "").sum()


def test_veto_asks_for_more_until_there_are_enough(toy, rules):
    """The reranker doubts the nearest candidates; the negatives then come from further down."""
    reranker = toy.reranker
    plain = mining.mine(toy.corpus, toy.encoder, None, rules)
    corpus = toy.corpus
    doubted = pairs_of(corpus, plain, plain.negatives)
    reranker.scores = dict.fromkeys(doubted, 0.5)
    mined = mining.mine(corpus, toy.encoder, reranker, rules)
    assert not doubted & pairs_of(corpus, mined, mined.negatives)
    assert measure.coverage(mined)["full"] == 1
    assert set(mined.candidates.loc[mined.candidates["reranker"].between(0.3, 0.9), "rule"]) <= {"veto", "margin"}
    assert len(set(reranker.asked)) < len(mined.candidates)  # not about every candidate


def test_dev_and_test_never_reach_training(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    table = groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=10)
    used = {text for row in table.itertuples() for text in (row.query, *row.pos, *row.neg)}
    split = dict(zip(toy.clusters["text_id"], toy.clusters["split"], strict=True))
    assert {split[text_id(text)] for text in used} == {"train"}


def test_rows_of_one_query_are_one_group(toy, rules):
    """The same query in several sources, once with a document: one group without an instruction, two tasks with one."""
    query, document = "meaning 0 text 0", "meaning 0 text 4"
    toy.texts.loc[toy.texts["text"] == document, "kind"] = "document"
    toy.clusters.loc[toy.clusters["text_id"] == text_id(document), "cluster_id"] = text_id(query)
    extra = (*sorted((text_id(query), text_id(document))), "qa", 1, 0.8)
    toy.edges = pd.DataFrame([*toy.edges.itertuples(index=False), extra], columns=toy.edges.columns)
    assert not queries_of(toy.corpus, "train").duplicated("anchor").any()
    tasks = queries_of(toy.corpus, "train", Prompts("查询："))
    own = tasks[tasks["anchor"] == toy.corpus.numbers(text_id(query), text_id(query))[0]]
    assert own["prompt"].tolist() == ["", "查询："]
    assert own["kinds"].tolist() == [("query",), ("document",)]
    anchors = toy.corpus.text[tasks["anchor"]]
    assert document not in anchors  # nobody searches with a document
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    row = groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=10).set_index("query").loc[query]
    assert set(row["pos"]) == {"meaning 0 text 1", "meaning 0 text 2", document}
    assert not set(row["pos"]) & set(row["neg"])


def test_prompts_on_both_sides(toy, rules):
    """A model that wants a prompt before every text encodes a query and its documents otherwise than two queries."""
    documents = ["meaning 0 text 4", "meaning 3 text 4", "meaning 6 text 4"]
    toy.texts.loc[toy.texts["text"].isin(documents), "kind"] = "document"
    query = "meaning 0 text 0"
    extra = (*sorted((text_id(query), text_id(documents[0]))), "qa", 1, 0.8)
    toy.edges = pd.DataFrame([*toy.edges.itertuples(index=False), extra], columns=toy.edges.columns)
    encoder = type(toy.encoder)(toy.vectors, Prompts("query: ", "text: ", "query: "))
    mined = mining.mine(toy.corpus, encoder, toy.reranker, rules)
    rows = groups.training_groups(toy.corpus, mined, max_positives=10).set_index("query").loc[[query]]
    assert rows["prompt"].tolist() == ["query: ", "query: "]
    assert rows["text_prompt"].tolist() == ["query: ", "text: "]
    asked = encoder.encode([query], prompt="query: ")
    for row in rows.itertuples():
        kinds = {"document"} if row.text_prompt == "text: " else {"query"}
        assert set(toy.texts.set_index("text").loc[row.pos + row.neg, "kind"]) == kinds
        for texts, scores in ((row.pos, row.pos_scores), (row.neg, row.neg_scores)):
            expected = encoder.encode(texts, prompt=row.text_prompt) @ asked[0]
            np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_labelled_negatives_come_first(toy, rules):
    toy.label("meaning 0 text 0", "meaning 7 text 4", 0.0)
    toy.label("meaning 1 text 0", "meaning 2 text 0", 0.5)
    corpus = toy.corpus
    mined = mining.mine(corpus, toy.encoder, toy.reranker, replace(rules, rank_max=3))
    taken = pairs_of(corpus, mined, mined.negatives)
    assert ("meaning 0 text 0", "meaning 7 text 4") in taken
    assert ("meaning 1 text 0", "meaning 2 text 0") not in taken  # partly relevant is no negative
    wide = mining.mine(corpus, toy.encoder, toy.reranker, rules)
    known = wide.candidates[wide.candidates["rule"] == "known_positive"]
    assert ("meaning 1 text 0", "meaning 2 text 0") in pairs_of(corpus, wide, known)


def test_order_of_the_tables_changes_nothing(toy, rules):
    rules = replace(rules, sampling="random")
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    expected = groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=10)
    for name in ("texts", "edges", "clusters"):
        setattr(toy, name, getattr(toy, name).sample(frac=1, random_state=1))
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    got = groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=10)
    pd.testing.assert_frame_equal(got, expected)


@pytest.mark.parametrize("sampling", ["top", "random", "band"])
def test_sampling(toy, rules, sampling):
    rules = replace(rules, sampling=sampling, margin=None)
    mined = mining.mine(toy.corpus, toy.encoder, None, rules)
    passed = mined.candidates[mined.candidates["rule"] == ""]
    place = passed.groupby("query").cumcount() / passed.groupby("query")["rank"].transform("size")
    places = place[passed["taken"]].groupby(passed["query"]).agg(list)
    if sampling == "top":
        assert max(max(row) for row in places) < 0.2
    elif sampling == "band":
        assert all([int(p * 3) for p in row] == [0, 1, 2] for row in places)
    else:
        assert 0.3 < np.mean([np.mean(row) for row in places]) < 0.7
    other = mining.mine(toy.corpus, toy.encoder, None, replace(rules, seed=7))
    same = other.candidates["taken"].equals(mined.candidates["taken"])
    assert same == (sampling == "top")


def test_fewer_rather_than_duplicates_or_random(toy, rules):
    rules = replace(rules, num_negatives=50, rank_max=10)
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    assert (mined.negatives["rank"] > 0).all()
    assert not mined.negatives.duplicated(["query", "candidate"]).any()
    assert measure.coverage(mined)["full"] == 0


def test_random_texts_only_when_asked(toy, rules):
    rules = replace(rules, num_negatives=8, rank_max=6, too_few="random")
    corpus = toy.corpus
    mined = mining.mine(corpus, toy.encoder, toy.reranker, rules)
    assert measure.coverage(mined)["full"] == 1
    assert (mined.negatives["rank"] == 0).any()
    assert measure.false_negatives(corpus, mined, toy.meanings) == 0
    assert not mined.negatives.duplicated(["query", "candidate"]).any()


def test_starved_training_is_said_aloud(toy, rules):
    rules = replace(rules, window_low=0.9999)
    mined = mining.mine(toy.corpus, toy.encoder, None, rules)
    advice = measure.advice(mined)
    assert "below_window" in advice
    assert "lower window_low" in advice
    assert groups.training_groups(toy.corpus, mined, max_positives=10)["neg"].map(len).eq(0).all()
    assert measure.advice(mining.mine(toy.corpus, toy.encoder, None, rules, window_low=None)) == ""


def test_no_positives_is_an_input_error(toy, rules):
    toy.edges = toy.edges[:0]
    with pytest.raises(InputError, match="no positives"):
        mining.mine(toy.corpus, toy.encoder, rules=rules)


def test_unknown_ids_in_edges_are_an_input_error(toy):
    toy.edges.loc[0, "a_id"] = "0" * 16
    with pytest.raises(InputError, match="text_id"):
        Corpus.of(toy.texts, toy.edges, toy.clusters)


def test_missed_positives_join_the_graph(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    missed = promotion.missed_positives(toy.corpus, mined)
    assert len(missed) > 0
    meaning = {text_id(text): name for text, name in toy.meaning.items()}
    assert all(meaning[row.a_id] == meaning[row.b_id] for row in missed.itertuples())
    edges, clusters, refused = promote(toy.edges, toy.clusters, missed, {})
    assert refused.empty
    assert (edges["source"] == "recall").sum() == len(missed)
    cluster = dict(zip(clusters["text_id"], clusters["cluster_id"], strict=True))
    assert all(cluster[row.a_id] == cluster[row.b_id] for row in missed.itertuples())
    assert clusters.set_index("text_id")["split"].to_dict() == toy.clusters.set_index("text_id")["split"].to_dict()


def test_one_direction_is_not_enough(toy, rules):
    reranker = toy.reranker
    rules = replace(rules, margin=None, rank_max=55)
    mined = mining.mine(toy.corpus, toy.encoder, reranker, rules)
    nearest = mined.candidates[mined.candidates["reranker"] < 0.5].sort_values("rank").iloc[0]
    a, b = (toy.corpus.text[i] for i in (mined.queries["anchor"][nearest["query"]], nearest["candidate"]))
    assert toy.meaning[a] != toy.meaning[b]
    reranker.scores = {(a, b): 0.99}
    reranker.asked.clear()
    mined = mining.mine(toy.corpus, toy.encoder, reranker, rules)
    assert (b, a) in reranker.asked
    missed = promotion.missed_positives(toy.corpus, mined)
    assert len(missed) > 0
    assert tuple(sorted((text_id(a), text_id(b)))) not in set(zip(missed["a_id"], missed["b_id"], strict=True))


def test_mutual_neighbors_are_each_others_nearest_training_texts(toy):
    corpus = toy.corpus
    found = promotion.mutual_neighbors(corpus, toy.encoder)
    train = [name for name, split in zip(corpus.id, corpus.split, strict=True) if split == "train"]
    text = dict(zip(corpus.id, corpus.text, strict=True))
    rows = toy.encoder.encode([text[name] for name in train])
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -1)
    nearest = {train[i]: train[j] for i, j in enumerate(similarity.argmax(axis=1))}
    cluster = toy.clusters.set_index("text_id")["cluster_id"]
    mutual = {(a, b) for a, b in nearest.items() if nearest[b] == a and a < b}
    expected = {(a, b) for a, b in mutual if cluster[a] != cluster[b]}
    assert 0 < len(expected) < len(mutual)
    assert set(zip(found["a_id"], found["b_id"], strict=True)) == expected

    edges, clusters, _ = promote(toy.edges, toy.clusters, found, {})
    home = clusters.set_index("text_id")["cluster_id"]
    assert all(home[a] == home[b] for a, b in expected)
    assert edges.loc[edges["source"] == "neighbor", "weight"].between(0.01, 0.4).all()


def test_the_reranker_may_veto_neighbors(toy):
    all_of_them = promotion.mutual_neighbors(toy.corpus, toy.encoder, toy.reranker)
    a, b = (toy.corpus.text[toy.corpus.id == all_of_them.loc[0, side]][0] for side in ("a_id", "b_id"))
    reranker = toy.reranker
    reranker.scores = {(b, a): 0.1}  # one direction is enough
    kept = promotion.mutual_neighbors(toy.corpus, toy.encoder, reranker, veto=0.3)
    names = {text_id(text): meaning for text, meaning in toy.meaning.items()}
    same = all_of_them["a_id"].map(names) == all_of_them["b_id"].map(names)
    same[0] = False
    pd.testing.assert_frame_equal(kept, all_of_them[same].reset_index(drop=True))


def test_neighbors_of_neighbors_do_not_become_one_large_cluster(toy, monkeypatch):
    monkeypatch.setattr("bgetune.graph.promote.LARGEST_CHAIN", 6)
    a, b, c = sorted(text_id(f"meaning {n} text 0") for n in (0, 1, 2))  # clusters of three
    missed = pd.DataFrame({"a_id": [a, b], "b_id": [b, c], "score": [0.9, 0.8], "source": "neighbor"})
    _, clusters, refused = promote(toy.edges, toy.clusters, missed, {})
    assert clusters["cluster_id"].value_counts().max() == 6
    assert refused["reason"].tolist() == ["neighbours of neighbours"]
    _, clusters, refused = promote(toy.edges, toy.clusters, missed.assign(source="recall"), {})
    assert refused.empty
    assert clusters["cluster_id"].value_counts().max() == 9


def test_people_keep_clusters_apart(toy):
    a, b, c = (text_id(f"meaning {n} text 0") for n in (0, 1, 2))
    missed = pd.DataFrame({"a_id": [min(a, b), min(b, c)], "b_id": [max(a, b), max(b, c)], "score": [0.99, 0.95]})
    missed = missed.assign(source="recall")
    labels = pd.DataFrame({"a_id": [a], "b_id": [c], "grade": [0.0]})
    _, clusters, refused = promote(toy.edges, toy.clusters, missed, {}, labels)
    cluster = dict(zip(clusters["text_id"], clusters["cluster_id"], strict=True))
    assert cluster[a] == cluster[b] != cluster[c]  # b may join a or c but cannot join both
    assert refused["reason"].tolist() == ["people called texts of the two clusters different"]


def test_nothing_is_joined_across_splits(toy):
    a, b = (text_id(f"meaning {n} text 0") for n in (0, 11))
    missed = pd.DataFrame({"a_id": [min(a, b)], "b_id": [max(a, b)], "score": [1.0]}).assign(source="recall")
    edges, clusters, refused = promote(toy.edges, toy.clusters, missed, {(min(a, b), max(a, b)): "same"})
    assert len(edges) == len(toy.edges)
    assert refused["reason"].tolist() == ["in different splits"]
    assert clusters["cluster_id"].nunique() == toy.clusters["cluster_id"].nunique()


def test_verdicts_hold(toy, rules):
    """Same: an edge. Different: a negative, whatever the reranker thinks of it."""
    a, b, c = "meaning 0 text 0", "meaning 0 text 3", "meaning 0 text 4"
    key = {(x, y): tuple(sorted((text_id(x), text_id(y)))) for x, y in ((a, b), (a, c))}
    verdicts = {key[a, b]: "same", key[a, c]: "different"}
    corpus = toy.corpus
    mined = mining.mine(corpus, toy.encoder, toy.reranker, rules, verdicts=verdicts)
    assert (a, c) in pairs_of(corpus, mined, mined.negatives)
    missed = promotion.missed_positives(corpus, mined)
    edges, clusters, _ = promote(toy.edges, toy.clusters, missed, verdicts)
    given = edges[edges["source"] == "given"]
    assert key[a, b] in set(zip(given["a_id"], given["b_id"], strict=True))
    cluster = dict(zip(clusters["text_id"], clusters["cluster_id"], strict=True))
    assert cluster[text_id(a)] == cluster[text_id(b)] != cluster[text_id(c)]


def test_doubtful_candidates_are_for_a_person(toy, rules):
    corpus, reranker = toy.corpus, toy.reranker
    plain = mining.mine(corpus, toy.encoder, reranker, rules)
    a, b = min(pairs_of(corpus, plain, plain.negatives))
    reranker.scores = {(a, b): 0.6, (b, a): 0.4}
    mined = mining.mine(corpus, toy.encoder, reranker, replace(rules, margin=None, rank_max=55))
    table = promotion.doubtful(corpus, mined, limit=200)
    rows = table[(table["query"].isin([a, b])) & table["candidate"].isin([a, b])]
    assert len(rows) == 1  # one row a pair, not one a direction
    assert rows["reason"].tolist() == ["the reranker is not sure"]
    assert len(promotion.doubtful(corpus, mined, limit=1)) == 1


def test_without_a_margin_what_is_as_near_as_a_positive_trains_and_is_shown_to_a_person(toy, rules):
    free = replace(rules, margin=None, max_false_negatives=None)
    mined = mining.mine(toy.corpus, toy.encoder, None, free)
    assert set(mined.candidates["rule"]) <= {"", "known_positive", "same_cluster"}
    shown = set(
        promotion.doubtful(toy.corpus, mined, limit=200)[["query", "candidate"]].itertuples(index=False, name=None)
    )
    near = mined.negatives[mined.negatives["whitened"] > mined.cuts[-1]]
    anchor = mined.queries["anchor"].to_numpy()[near["query"]]
    pairs = set(zip(toy.corpus.text[anchor], toy.corpus.text[near["candidate"]], strict=True))
    assert pairs
    assert shown <= pairs
    assert {frozenset(pair) for pair in shown} == {frozenset(pair) for pair in pairs}


def test_ablation_names_what_each_rule_buys(toy, rules):
    table = measure.ablation(toy.corpus, toy.encoder, toy.reranker, rules, truth=toy.meanings).set_index("setting")
    assert table.loc["all rules", "false_negatives"] == 0
    assert table.loc["without any of them", "false_negatives"] > 0.2
    assert table.loc["without any of them", "doubted"] > table.loc["all rules", "doubted"]


def test_what_an_approximate_index_misses_is_measured(toy):
    assert measure.search_quality(toy.corpus, toy.encoder, Search("Flat"), seed=42, k=30).empty
    one, all_ = (
        measure.search_quality(
            toy.corpus,
            toy.encoder,
            Search("IVF4,Flat", {"nprobe": lists}),
            seed=42,
            k=30,
        ).iloc[0]
        for lists in (1, 4)
    )
    assert one["what"] == "index IVF4,Flat for Flat"
    assert 0.2 < one["overlap of the 30 nearest"] < 1 == all_["overlap of the 30 nearest"]
