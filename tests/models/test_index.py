import numpy as np
import pytest

from bgetune.errors import InputError
from bgetune.models import index
from bgetune.models.index import EXACT, PROBES, Index, recall, resolve, search


def unit(rows, dimension, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def corpus():
    return unit(3000, 32, 0)


@pytest.fixture(scope="module")
def queries():
    return unit(50, 32, 1)


def test_exact_is_a_sorted_product(corpus, queries):
    similarities, positions = search(queries, corpus, 20)
    products = queries @ corpus.T
    np.testing.assert_array_equal(positions, np.argsort(-products, axis=1)[:, :20])
    np.testing.assert_allclose(similarities, -np.sort(-products, axis=1)[:, :20], atol=1e-6)
    assert similarities.dtype == np.float32
    assert positions.dtype == np.int64


def test_blocks_change_nothing(corpus, queries):
    many = unit(24_000, 32, 2)
    expected = search(queries, many, 20)
    got = search(queries, many, 20, memory_mb=2)
    np.testing.assert_array_equal(got[1], expected[1])


def test_equal_similarities_are_ordered_by_position(queries):
    corpus = np.repeat(unit(2, 32, 3), 5, axis=0)
    assert search(queries[:1], corpus, 10)[1][0].tolist() in ([*range(10)], [*range(5, 10), *range(5)])


def test_fewer_neighbours_than_asked_for(queries):
    similarities, positions = search(queries, unit(3, 32, 0), 5)
    assert (positions[:, 3:] == -1).all()
    assert np.isneginf(similarities[:, 3:]).all()
    assert (positions[:, :3] >= 0).all()


@pytest.mark.parametrize(
    ("factory", "options"), [("IVF16,Flat", {"nprobe": 8}), ("HNSW16", {"efSearch": 64}), ("IVF8,PQ8x4", {"nprobe": 8})]
)
def test_any_factory(corpus, queries, factory, options):
    exact = search(queries, corpus, 10)[1]
    found = search(queries, corpus, 10, factory, search_params=options)[1]
    assert recall(found, exact) > (0.2 if "PQ" in factory else 0.8)


def test_queries_of_one_list_follow_each_other_and_results_do_not_change(corpus, queries, monkeypatch):
    import faiss

    plain = index.build(corpus, "IVF16,Flat")
    plain.nprobe = 4
    expected = plain.search(queries, 10)
    nearest, search_lists = [], faiss.IndexIVFFlat.search_preassigned

    def spied(self, rows, k, lists, nearness):
        nearest.append(lists[:, 0])
        return search_lists(self, rows, k, lists, nearness)

    monkeypatch.setattr(faiss.IndexIVFFlat, "search_preassigned", spied)
    found = search(queries, corpus, 10, "IVF16,Flat", search_params={"nprobe": 4})
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert len(set(nearest[0])) > 5
    assert (np.diff(nearest[0]) >= 0).all()


def test_the_number_of_threads_changes_no_neighbour(corpus, queries):
    import faiss

    threads = faiss.omp_get_max_threads()
    try:
        for factory in ("Flat", "IVF16,Flat"):
            (one, nearest), (two, nearest_again) = (
                faiss.omp_set_num_threads(number) or search(queries, corpus, 10, factory) for number in (1, 2)
            )
            np.testing.assert_array_equal(nearest, nearest_again)
            np.testing.assert_allclose(one, two, rtol=1e-6)  # a product of matrices differs in the last bits
    finally:
        faiss.omp_set_num_threads(threads)


def test_search_parameters_matter(corpus, queries):
    exact = search(queries, corpus, 10)[1]
    shares = [
        recall(search(queries, corpus, 10, "IVF64,Flat", search_params={"nprobe": probes})[1], exact)
        for probes in (1, 64)
    ]
    assert shares[0] < 0.5
    assert shares[1] == 1


def test_the_same_twice(corpus, queries):
    first, second = (search(queries, corpus, 10, "IVF16,PQ8x4") for _ in range(2))
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("factory", ["NoSuchIndex", "IVF9999,Flat"])
def test_a_factory_that_does_not_work_is_named(corpus, queries, factory):
    with pytest.raises(InputError, match=factory):
        search(queries, corpus, 10, factory)


def test_an_unknown_search_parameter_is_named(corpus, queries):
    with pytest.raises(InputError, match="nprobes"):
        search(queries, corpus, 10, "IVF16,Flat", search_params={"nprobes": 8})


def test_recall_counts_hits():
    exact = np.array([[0, 1], [2, -1]])
    assert recall(np.array([[1, 9], [2, 3]]), exact) == pytest.approx(2 / 3)


# --- on disk --------------------------------------------------------------------------------------------------------


def test_auto_is_exact_where_that_is_cheap_and_has_lists_of_one_length_beyond():
    assert resolve("auto", {"nprobe": 8}, EXACT) == ("Flat", {})
    assert resolve("auto", {}, 1_000_000) == ("IVF4096,Flat", {"nprobe": PROBES})
    assert resolve("auto", {"nprobe": 8}, 500_000) == ("IVF2048,Flat", {"nprobe": 8})
    assert resolve("auto", {}, 16_000_000)[0] == resolve("auto", {}, 99_000_000)[0] == "IVF65536_HNSW32,Flat"
    assert resolve("IVF16,Flat", None, 10) == ("IVF16,Flat", {})


@pytest.mark.parametrize("factory", ["IVF16,Flat", "HNSW16", "IVF8,PQ8x4"])
def test_an_index_is_built_once_and_searched_on_disk(corpus, queries, factory, tmp_path, monkeypatch):
    expected = search(queries, corpus, 10, factory)
    built = Index(corpus, factory, cache_dir=tmp_path)
    np.testing.assert_array_equal(built.search(queries, 10)[1], expected[1])
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(index, "build", None)
    again = Index(corpus, factory, cache_dir=tmp_path)
    np.testing.assert_array_equal(again.search(queries, 10)[0], expected[0])
    assert [file] == list(tmp_path.iterdir())
    for other, seed in ((corpus[:-1], 42), (corpus, 7)):
        with pytest.raises(TypeError):  # other vectors or another seed: to be built
            Index(other, factory, seed=seed, cache_dir=tmp_path)


def test_a_damaged_index_is_built_again(corpus, queries, tmp_path):
    expected = Index(corpus, "IVF16,Flat", cache_dir=tmp_path).search(queries, 10)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    with pytest.warns(UserWarning, match="damaged"):
        again = Index(corpus, "IVF16,Flat", cache_dir=tmp_path)
    np.testing.assert_array_equal(again.search(queries, 10)[0], expected[0])
    assert [file] == list(tmp_path.iterdir())
    assert file.read_bytes() == data


def test_what_a_killed_process_left_of_an_index_is_removed(corpus, tmp_path):
    part = tmp_path / f".0123.faiss.{2**22 + 1}.part"  # beyond the largest number of a process
    part.write_bytes(b"half")
    Index(corpus, "IVF16,Flat", cache_dir=tmp_path)
    assert not part.exists()


def test_only_the_indexes_used_last_are_kept(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "KEPT", 2)
    first, _second = (Index(corpus, "IVF4,Flat", seed=seed, cache_dir=tmp_path) for seed in (1, 2))
    (old, *_) = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    Index(corpus, "IVF4,Flat", seed=1, cache_dir=tmp_path)  # used again
    Index(corpus, "IVF4,Flat", seed=3, cache_dir=tmp_path)
    Index(corpus, "IVF4,Flat", seed=4, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not old.exists()
    assert (first.search(corpus[:5], 1)[1][:, 0] == np.arange(5)).all(), "one that is open can be searched on"


def test_the_training_sample_grows_with_the_lists(corpus, monkeypatch):
    import faiss

    sizes, train = [], faiss.IndexIVFFlat.train
    monkeypatch.setattr(faiss.IndexIVFFlat, "train", lambda made, rows: (sizes.append(len(rows)), train(made, rows)))
    monkeypatch.setattr(index, "LEAST_SAMPLE", 500)
    for lists in (4, 32, 64):
        index.build(corpus, f"IVF{lists},Flat")
    assert sizes == [500, 32 * 40, 64 * 40]
