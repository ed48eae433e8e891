"""Documents alone: a language model writes their queries, or their own parts are positives; every number is marked."""

import json
import re

import cells
import matplotlib
import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from augment.server import KEY, running, say

from bgetune.config.stages import STAGES
from bgetune.errors import InputError
from bgetune.reports import report
from bgetune.runs import manifest

pytestmark = pytest.mark.slow

matplotlib.use("Agg")
CHARACTERS = tiny.CHARACTERS[:25]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an encoder of random weights, and caches of its own."""
    folder = tmp_path_factory.mktemp("cold")
    tiny.save_sentence_transformer(folder / "encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGETUNE_CACHE", str(folder))
        patch.setenv("TEST_KEY", KEY)
        yield folder


@pytest.fixture
def serve():
    servers = []

    def start(script):
        servers.append(running(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def words(number):
    return "".join(np.random.default_rng(number).choice(list(CHARACTERS), 8))


# sentences of one document share their characters: a model of random weights sees that, too
DOCUMENTS = [f"{words(i)}办。{words(i)}了到。{words(i)}{words(i)[:3]}" for i in range(60)]


def model(text, turn, body):
    """Queries say the document's first words, near-misses those of no document."""
    start = text[:8]
    if "near" in body["messages"][0]["content"] or "并不能回答" in body["messages"][0]["content"]:
        return say(near_miss(text), near_miss(text)[::-1])
    return say(f"怎么{start}", f"{start}到了")


def near_miss(document):
    return "取消" + words(1000 + DOCUMENTS.index(document))


def run(folder, name, last, changes):
    where = folder / name
    where.mkdir(exist_ok=True)
    pd.DataFrame({"text": DOCUMENTS}).to_csv(where / "corpus.csv", index=False)
    values = {
        "name": name,
        "model": str(folder / "encoder"),
        "max_length": 32,
        "language": "en",
        "01_positives": {
            "sources": {"corpus": [{"path": str(where / "corpus.csv")}]},
            **dict.fromkeys(("dev_fraction", "test_fraction"), 0.2),  # enough of dev to calibrate
        },
        "04_train": {"epochs": 1, "batch_size": 16, "precision": "float32", "learning_rate": 1e-5, "device": "cpu"},
        "05_calibrate": {"resamples": 100, "precisions": [0.5]},
        **changes,
    }
    (where / "profile.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
    for stage in [stage for stage in STAGES if stage[:2] <= last]:
        found = cells.run(stage, where / "profile.yaml", where)
    return where, found


def generation(server, **more):
    gate = {"similarity": None, "own_cluster_margin": None}
    settings = {"base_url": f"{server.url}/v1", "model": "test", "key_variable": "TEST_KEY", "queries": 2}
    return {"02_backtranslate": {"generation": {**settings, "near_misses": 2, "retries": 1} | more, "gate": gate}}


def tables(where, *names):
    return [pd.read_parquet(manifest.artifact_path(where, name)) for name in names]


def test_documents_and_a_language_model_are_enough(folder, serve):
    server = serve(model)
    where, _ = run(folder, "generated", "05", generation(server))
    texts, clusters, heldout, near_misses = tables(where, "texts", "clusters", "heldout", "near_misses")
    place, text_of = clusters.set_index("text_id"), texts.set_index("text_id")["text"]
    assert sorted(server.texts()) == sorted(2 * DOCUMENTS), "each document once for queries and once for near-misses"

    # a query lies in the cluster and the split of its document, a near-miss in that split alone
    ids = {text: text_id for text_id, text in text_of.items()}
    for document in DOCUMENTS:
        query, miss = (ids[text] for text in (f"怎么{document[:8]}", near_miss(document)))
        assert (place.loc[query] == place.loc[ids[document]]).all()
        assert place.loc[miss, "split"] == place.loc[ids[document], "split"]
        assert place.loc[miss, "cluster_id"] == miss
    assert set(place["split"]) == {"train", "dev", "test"}
    pairs = set(zip(near_misses["a_id"], near_misses["b_id"], strict=True))
    assert (ids[near_miss(DOCUMENTS[0])], ids[f"怎么{DOCUMENTS[0][:8]}"]) in pairs

    # generated pairs judge, near-misses among the negatives
    positive = heldout[heldout["kind"] == "positive"]
    assert len(positive)
    assert text_of[positive["query_id"]].str.contains("^怎么|到了$").all()
    hard = heldout[heldout["kind"] == "hard_negative"]
    assert text_of[hard["text_id"]].str.contains("^取消|消取$").any()
    groups = [json.loads(line) for line in (where / "03_hard_negatives/train.jsonl").read_text("utf-8").splitlines()]
    assert any(re.search("^取消|消取$", text) for group in groups for text in group["neg"])

    # and every number from them says so
    settings = json.loads((where / "05_calibrate/scoring.json").read_text("utf-8"))
    assert settings["data"]["pairs"] == "generated"
    assert settings["data"]["human_labels"] >= 400
    report.write_index(where, "generated")
    index = " ".join((where / "index.html").read_text("utf-8").split())
    assert "nobody checked them" in index
    assert f"about {settings['data']['human_labels']:,} pairs labelled by people" in index
    assert "pairs that a language model wrote" in index
    for card in ("04_train/model/README.md", "05_calibrate/README.md"):
        assert "language model" in (where / card).read_text("utf-8"), card
    assert all("language model wrote" in row["meaning"] for row in settings["stores"])


def test_a_second_run_asks_for_nothing(folder, serve):
    server = serve(model)
    first = generation(server, model="second")
    run(folder, "again", "02", first)
    asked = len(server.requests)
    run(folder, "again", "02", first)
    assert asked == 2 * len(DOCUMENTS)
    assert len(server.requests) == asked


def test_a_language_model_that_answers_nothing_is_said_with_its_reasons(folder, serve):
    server = serve(lambda text, turn: (500, {"error": {}}) if text in DOCUMENTS[:9] else say())
    with pytest.raises(InputError, match=r"60 documents were sent; without an answer: refused 51, server error 9;"):
        run(folder, "silent", "02", generation(server, model="silent", retries=0))


def test_parts_of_documents_are_weak_positives_without_a_language_model(folder):
    where, _ = run(folder, "parts", "05", {})
    texts, edges, heldout = tables(where, "texts", "edges", "heldout")
    assert set(edges["source"]) == {"same_document"}
    text_of = texts.set_index("text_id")["text"]
    positive = heldout[heldout["label"] == 1]
    pairs = zip(text_of[positive["query_id"]], text_of[positive["text_id"]], strict=True)
    assert all(query not in text for query, text in pairs), "a document holds its own sentences"
    settings = json.loads((where / "05_calibrate/scoring.json").read_text("utf-8"))
    assert settings["data"]["pairs"] == "documents"
    report.write_index(where, "parts")
    assert "a weak measure" in (where / "index.html").read_text("utf-8")


def test_logs_judge_and_generated_queries_train_where_there_are_logs(folder, serve):
    server = serve(model)
    qa = pd.DataFrame(
        {"text_a": [f"{words(i)}吗" for i in range(100, 250)], "text_b": [words(i) for i in range(100, 250)]}
    )
    qa.to_csv(folder / "qa.csv", index=False)
    (folder / "both").mkdir()
    sources = {"corpus": [{"path": str(folder / "both" / "corpus.csv")}], "qa": [{"path": str(folder / "qa.csv")}]}
    changes = generation(server, model="both") | {"01_positives": {"sources": sources}}
    where, _ = run(folder, "both", "03", changes)
    texts, edges, clusters, heldout = tables(where, "texts", "edges", "clusters", "heldout")
    place = clusters.set_index("text_id")["split"]
    generated = edges[edges["source"] == "generated"]
    assert len(generated)
    assert (place[generated["a_id"]] == "train").all()
    held = set(heldout["query_id"]) | set(heldout["text_id"])
    assert not held & set(texts.loc[texts["text"].str.contains("^怎么|^取消|消取$"), "text_id"])
