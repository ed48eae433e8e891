import json
from dataclasses import replace

import numpy as np
import pytest

from bgetune.data.tables import check
from bgetune.negatives import groups, heldout, mining


@pytest.fixture
def table(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    return groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=10)


def test_scores_belong_to_their_texts(toy, table):
    for row in table.itertuples():
        assert len(row.pos) == len(row.pos_scores)
        assert len(row.neg) == len(row.neg_scores) > 0
        assert row.pos_scores == pytest.approx(toy.reranker.score([(row.query, text) for text in row.pos]))
        assert row.neg_scores == pytest.approx(toy.reranker.score([(row.query, text) for text in row.neg]))


def test_scores_are_similarities_without_a_reranker(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, rules=rules)
    row = groups.training_groups(toy.corpus, mined, max_positives=10).iloc[0]
    query = toy.encoder.encode([row["query"]])
    for texts, scores in ((row["pos"], row["pos_scores"]), (row["neg"], row["neg_scores"])):
        np.testing.assert_allclose((toy.encoder.encode(texts) @ query.T)[:, 0], scores, atol=1e-5)


def test_best_supported_positives_come_first_and_are_capped(toy, rules):
    mined = mining.mine(toy.corpus, toy.encoder, toy.reranker, rules)
    rows = groups.training_groups(toy.corpus, mined, toy.reranker, max_positives=1).set_index("query")
    assert rows.loc["meaning 0 text 0", "pos"] == ["meaning 0 text 1"]  # given 1.0, the other co_click 0.8
    assert rows.loc["meaning 0 text 0", "source"] == "given"


def test_datasets_reads_the_file(table, tmp_path):
    from datasets import load_dataset

    file = tmp_path / "train.jsonl"
    groups.write_jsonl(table, file)
    loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == table.to_dict("records")
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == table.to_dict("records")


def test_flagembedding_reads_the_file(table, tmp_path):
    """Its own data set class, whose division by zero an empty `neg` would meet."""
    import tiny
    from FlagEmbedding.abc.finetune.embedder import AbsEmbedderDataArguments, AbsEmbedderTrainDataset
    from transformers import AutoTokenizer

    tiny.save_tokenizer(tmp_path / "tokenizer")
    file = tmp_path / "train.jsonl"
    groups.write_jsonl(table, file)
    arguments = AbsEmbedderDataArguments(train_data=[str(file)], train_group_size=8, cache_path=str(tmp_path / "cache"))
    data = AbsEmbedderTrainDataset(arguments, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"))
    assert len(data) == len(table)
    for row in range(len(data)):
        assert len(data[row][1]) == 8  # the passages: one positive, seven negatives


def test_heldout_pairs_are_right_and_balanced(toy, rules):
    table = check("heldout", heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=1))
    text = dict(zip(toy.texts["text_id"], toy.texts["text"], strict=True))
    split = dict(zip(toy.clusters["text_id"], toy.clusters["split"], strict=True))
    cluster = dict(zip(toy.clusters["text_id"], toy.clusters["cluster_id"], strict=True))
    for row in table.itertuples():
        same = toy.meaning[text[row.query_id]] == toy.meaning[text[row.text_id]]
        # a random text may be one that nobody knows to mean the same
        assert same == bool(row.label) or row.kind == "random"
        assert (cluster[row.query_id] == cluster[row.text_id]) == bool(row.label)
        assert split[row.query_id] == split[row.text_id] == row.split
    counts = table.groupby(["split", "kind"]).size().unstack()
    assert counts["positive"].tolist() == [2, 2]  # one of each of two clusters
    assert (counts["hard_negative"] == counts["positive"]).all()
    assert (counts["random"] == counts["positive"]).all()


def test_heldout_is_the_same_for_another_order(toy, rules):
    expected = heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20)
    toy.texts, toy.edges = toy.texts[::-1], toy.edges[::-1]
    assert heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20).equals(expected)


def test_heldout_negatives_keep_a_margin_where_training_goes_without(toy, rules):
    free = replace(rules, margin=None)
    table = heldout.heldout_pairs(toy.corpus, toy.encoder, rules=free, per_cluster=20)
    assert table.equals(heldout.heldout_pairs(toy.corpus, toy.encoder, rules=rules, per_cluster=20))


def test_machine_made_paraphrases_judge_nothing(toy, rules):
    toy.edges.loc[toy.edges["source"] == "co_click", "source"] = "back_translation"
    table = heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20)
    text = dict(zip(toy.texts["text_id"], toy.texts["text"], strict=True))
    used = {text[name] for name in (*table["query_id"], *table["text_id"])}
    assert not {name for name in used if name.endswith("text 2")}


def test_generated_queries_judge_where_they_are_named(toy, rules):
    toy.edges["source"] = toy.edges["source"].replace("co_click", "generated")
    table = heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20, judged="generated")
    positive = table[table["label"] == 1]
    edges = toy.edges.set_index(["a_id", "b_id"])["source"]
    keys = [tuple(sorted(pair)) for pair in zip(positive["query_id"], positive["text_id"], strict=True)]
    assert keys
    assert {edges[key] for key in keys} == {"generated"}


def test_a_document_and_its_own_sentence_judge_nothing(toy, rules):
    toy.edges["source"] = "same_document"
    first = toy.edges.iloc[16]  # of dev
    text = toy.texts.set_index("text_id")["text"]
    apart = heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20, judged="documents")
    toy.texts.loc[toy.texts["text_id"] == first["b_id"], "text"] = f"{text[first['a_id']]} and more"
    toy.vectors[f"{text[first['a_id']]} and more"] = toy.vectors[text[first["b_id"]]]
    toy.meaning[f"{text[first['a_id']]} and more"] = toy.meaning[text[first["b_id"]]]
    table = heldout.heldout_pairs(toy.corpus, toy.encoder, toy.reranker, rules, per_cluster=20, judged="documents")
    assert (apart["label"] == 1).any()
    inside = {first["a_id"], first["b_id"]}
    positive = table[table["label"] == 1]
    assert not any({a, b} == inside for a, b in zip(positive["query_id"], positive["text_id"], strict=True))
