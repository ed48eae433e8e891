import json

import numpy as np
import pandas as pd
import pytest

from bgetune.scoring import stores
from bgetune.training.save import model_card, save

THRESHOLDS = [0.0, 0.123456, 0.5, 0.7123456789, 0.9, 0.999999]


def unit(rng, count, dimension=16):
    rows = rng.normal(size=(count, dimension)) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", stores.STORES)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_store_accepts_what_the_threshold_accepts(name, threshold):
    """By the store's own formula; within a millionth of the threshold it may be stricter, never more generous."""
    store = stores.STORES[name]
    formula = {
        "elasticsearch_min_score": lambda c: (1 + c) / 2,
        "elasticsearch_knn_similarity": lambda c: c,
        "opensearch_min_score": lambda c: (2 - (1 - c)) / 2,
        "milvus_radius": lambda c: c,
        "qdrant_score_threshold": lambda c: c,
        "pgvector_distance": lambda c: 1 - c,
        "faiss_inner_product": lambda c: c,
        "faiss_l2": lambda c: 2 - 2 * c,
    }[name]
    cosines = np.r_[np.linspace(-1, 1, 4001), threshold + np.array([-1e-3, -3e-6, -3e-7, -1e-9, 3e-6, 1e-3])]
    compared, bound = formula(cosines), store.bound(threshold)
    accepted = compared >= bound if store.rises else compared <= bound
    assert not (accepted & (cosines < threshold - 1e-12)).any()
    assert accepted[cosines > threshold + 2e-6].all()
    assert f"{bound:.6f}" in store.written(threshold)


def test_exact_numbers_stay_exact():
    assert stores.STORES["pgvector_distance"].bound(0.9) == 0.1
    assert stores.STORES["elasticsearch_min_score"].bound(0.8) == 0.9
    assert stores.STORES["faiss_l2"].bound(0.9) == 0.2


@pytest.mark.parametrize("threshold", [0.7])
def test_faiss_itself(threshold):
    import faiss

    rng = np.random.default_rng(0)
    corpus, queries = unit(rng, 200), unit(rng, 5)
    expected = [set(np.flatnonzero(corpus @ query >= threshold)) for query in queries]
    for name, index in (("faiss_inner_product", faiss.IndexFlatIP(16)), ("faiss_l2", faiss.IndexFlatL2(16))):
        index.add(corpus)
        distances, found = index.search(queries, 200)
        bound = stores.STORES[name].bound(threshold)
        kept = distances >= bound if stores.STORES[name].rises else distances <= bound
        assert [set(row[mask]) for row, mask in zip(found, kept, strict=True)] == expected


@pytest.mark.parametrize("threshold", [0.7])
def test_qdrant_itself(threshold):
    client_module = pytest.importorskip("qdrant_client", reason="pip install qdrant-client")
    from qdrant_client import models

    rng = np.random.default_rng(0)
    corpus, queries = unit(rng, 200), unit(rng, 5)
    client = client_module.QdrantClient(":memory:")
    client.create_collection("texts", vectors_config=models.VectorParams(size=16, distance=models.Distance.COSINE))
    points = [models.PointStruct(id=i, vector=row.tolist()) for i, row in enumerate(corpus)]
    client.upsert("texts", points)
    bound = stores.STORES["qdrant_score_threshold"].bound(threshold)
    for query in queries:
        found = client.query_points("texts", query=query.tolist(), limit=200, score_threshold=bound).points
        assert {point.id for point in found} == set(np.flatnonzero(corpus @ query >= threshold).tolist())


@pytest.mark.parametrize("threshold", [0.7])
def test_milvus_itself(threshold, tmp_path):
    """Milvus Lite; it accepts what lies above the bound, not what is equal to it."""
    for module in ("milvus_lite", "pymilvus"):
        pytest.importorskip(module, reason="pip install milvus-lite pymilvus")
    from pymilvus import MilvusClient

    rng = np.random.default_rng(0)
    corpus, queries = unit(rng, 200), unit(rng, 5)
    client = MilvusClient(str(tmp_path / "milvus.db"))
    client.create_collection("texts", dimension=16, metric_type="COSINE")
    client.insert("texts", [{"id": i, "vector": row.tolist()} for i, row in enumerate(corpus)])
    radius = {"params": {"radius": stores.STORES["milvus_radius"].bound(threshold)}}
    answers = client.search("texts", data=queries.tolist(), limit=200, search_params=radius)
    client.close()
    for query, found in zip(queries, answers, strict=True):
        assert {hit["id"] for hit in found} == set(np.flatnonzero(corpus @ query >= threshold).tolist())


@pytest.mark.parametrize("threshold", [0.7])
def test_pgvector_itself(threshold, tmp_path):
    server_module = pytest.importorskip("pgserver", reason="pip install pgserver")
    import psycopg

    rng = np.random.default_rng(0)
    corpus, queries = unit(rng, 200), unit(rng, 5)
    server = server_module.get_server(tmp_path / "data")
    try:
        with psycopg.connect(server.get_uri()) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE TABLE texts (id int, embedding vector(16))")
            rows = [(i, json.dumps(row.tolist())) for i, row in enumerate(corpus)]
            connection.cursor().executemany("INSERT INTO texts VALUES (%s, %s::vector)", rows)
            bound = stores.STORES["pgvector_distance"].written(threshold).replace("$1", "%s::vector")
            for query in queries:
                found = connection.execute(f"SELECT id FROM texts {bound}", [json.dumps(query.tolist())]).fetchall()
                assert {one for (one,) in found} == set(np.flatnonzero(corpus @ query >= threshold).tolist())
    finally:
        server.cleanup()


@pytest.fixture
def rows(scorer):
    return stores.bounds(scorer.settings["thresholds"]["precision"])


def test_guarantees_travel_with_their_meaning(scorer, rows):
    assert rows == scorer.settings["stores"]
    [row] = rows  # 0.9999 could not be guaranteed
    assert row["cosine"] == scorer.threshold(0.8)
    assert "at least 80% mean the same (with 95% confidence)" in row["meaning"]
    assert row["bounds"].keys() == stores.STORES.keys()
    shown = stores.table(rows)
    assert list(shown.columns) == ["store", "compares", "precision 0.8"]
    assert len(shown) == len(stores.STORES)
    assert stores.table([]).empty


def test_the_card_gets_the_numbers(rows, tmp_path):
    import tiny
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "tuned"
    save(SentenceTransformer(str(tiny.save_sentence_transformer(tmp_path / "base")), device="cpu"), folder)
    result = pd.DataFrame({"tuned": [0.5]}, ["auc"])
    card = model_card(folder, "x/y", parameters={}, counts={}, result=result, run_name="shop")
    complete = stores.complete(card, rows)
    assert f"| {rows[0]['cosine']:.6f} | {rows[0]['meaning']} |" in complete
    assert json.dumps(round(rows[0]["bounds"]["elasticsearch_min_score"], 6)) in complete
    assert complete.count("## Thresholds") == 1
    assert complete.replace(stores.section(rows) + "\n", "") == card
    assert "The calibration pairs guarantee no precision" in stores.complete(card, [])


def test_a_threshold_from_generated_pairs_says_so():
    row = {"precision": 0.95, "confidence": 0.95, "threshold": 0.7, "recall": 0.5}
    (plain,), (marked,) = stores.bounds([row], "held out"), stores.bounds([row], "generated")
    assert marked["meaning"] == plain["meaning"] + "; measured on pairs that a language model wrote"
    card = "# title\n\n## Thresholds\n\nwhere they are\n"
    assert "**nobody checked them**" in stores.complete(card, [marked], "nobody checked them")
