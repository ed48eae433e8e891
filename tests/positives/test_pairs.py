import json
from collections import Counter

import pandas as pd
import pytest

from bgetune.config.sources import CorpusSource, GradedSource, GroupSource, PairSource, Sources, SynonymSource
from bgetune.data import tables
from bgetune.data.text import text_id
from bgetune.errors import InputError
from bgetune.positives.labelled import assign_graded_splits
from bgetune.positives.pairs import Collected, collect
from bgetune.positives.synonyms import MAX_COMPLETE


@pytest.fixture
def file(tmp_path):
    """A function that writes a CSV file and gives its path."""
    number = iter(range(100))

    def write(columns: list[str], rows: list[tuple]) -> str:
        path = tmp_path / f"source{next(number)}.csv"
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
        return str(path)

    return write


NO_CLUSTERS = pd.DataFrame({"text_id": [], "cluster_id": [], "split": []}, dtype=str)
PAIR, LABELLED = ["text_a", "text_b"], ["text_a", "text_b", "label"]


def checked(found: Collected) -> Collected:
    for name in ("texts", "edges", "dropped"):
        tables.check(name, getattr(found, name))
    assert set(found.graded["a_id"]) | set(found.graded["b_id"]) <= set(found.texts["text_id"])
    assert set(found.edges["a_id"]) | set(found.edges["b_id"]) <= set(found.texts["text_id"])
    return found


def edges_of(found: Collected) -> dict[tuple[str, str, str], tuple[int, float]]:
    name = dict(zip(found.texts["text_id"], found.texts["text"], strict=True))
    return {
        (*sorted((name[row.a_id], name[row.b_id])), row.source): (row.support, round(row.weight, 3))
        for row in found.edges.itertuples()
    }


def graded_of(found: Collected) -> dict[tuple[str, str], tuple[float, str, str]]:
    name = dict(zip(found.texts["text_id"], found.texts["text"], strict=True))
    return {(name[row.a_id], name[row.b_id]): (row.grade, row.origin, row.use) for row in found.graded.itertuples()}


def drops(found: Collected) -> dict[str, int]:
    return found.dropped.groupby("reason")["rows"].sum().to_dict()


def test_question_and_answer(file):
    rows = [("Ｈｏｗ？", "So."), ("how?", "so."), ("when?", "打13800138000"), ("why?", ""), ("same", "SAME")]
    found = checked(collect(Sources(qa=[PairSource(path=file(PAIR, rows))])))
    assert edges_of(found) == {("how?", "so.", "qa"): (2, 0.8), ("when?", "打<电话>", "qa"): (1, 0.8)}
    assert found.graded.empty
    assert drops(found) == {"no text": 1, "both texts are the same": 1}
    assert found.masked == Counter(phone=1)
    kinds = found.texts.set_index("text")
    assert kinds.loc["how?"][["kind", "count"]].tolist() == ["query", 2]
    assert kinds.loc["so.", "kind"] == "document"
    assert kinds.loc["how?", "text_id"] == text_id("how?")


def test_a_negative_of_everything_stays_and_is_no_answer_to_everything(tmp_path):
    rows = [{"query": f"question {n}", "pos": [f"answer {n}"], "neg": ["answer 0"]} for n in range(1, 9)]
    rows += [{"query": "question 0", "pos": ["answer 0"], "neg": ["answer 1"]}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    found = checked(collect(Sources(groups=[GroupSource(path=str(path))]), hub_cap=5))
    assert len(edges_of(found)) == 9
    assert len(found.different) == 9
    assert drops(found) == {}


def test_an_answer_to_everything_says_nothing(file):
    rows = [*((f"question {n}", "please wait") for n in range(6)), ("question 0", "an answer")]
    found = checked(collect(Sources(qa=[PairSource(path=file(PAIR, rows))]), hub_cap=5))
    assert list(edges_of(found)) == [("an answer", "question 0", "qa")]
    assert drops(found) == {"an answer to more than 5 questions": 6}


def test_labelled_pairs(file):
    rows = [
        ("a", "b", 1),
        ("c", "d", 0),
        ("e", "f", 1),
        ("e", "f", 0),
        ("f", "e", 1),
        ("g", "h", 1),
        ("h", "g", 0),
        ("i", "j", 2),
    ]
    found = checked(collect(Sources(pairs=[PairSource(path=file(LABELLED, rows), label_column="label")])))
    assert edges_of(found) == {("a", "b", "given"): (1, 1.0), ("e", "f", "given"): (2, 1.0)}
    assert graded_of(found) == {
        ("a", "b"): (1, "pairs", "all"),
        ("c", "d"): (0, "pairs", "all"),
        ("e", "f"): (1, "pairs", "all"),
    }
    assert found.different.to_numpy().tolist() == [sorted([text_id("c"), text_id("d")])]
    assert drops(found) == {
        "label contradicts the majority": 1,
        "labelled 0 and 1 equally often": 2,
        "label is neither 0 nor 1": 1,
    }


def test_grades_are_scaled(file):
    path = file(
        ["text_a", "text_b", "grade"], [("a", "b", 4), ("c", "d", 1), ("e", "f", 0), ("g", "h", 2), ("h", "g", 3)]
    )
    found = checked(collect(Sources(graded=[GradedSource(path=path)])))
    assert {pair: grade for pair, (grade, *_) in graded_of(found).items()} == {
        ("a", "b"): 1,
        ("c", "d"): 0.25,
        ("e", "f"): 0,
        ("g", "h"): 0.625,
    }
    assert edges_of(found) == {("a", "b", "given"): (1, 1.0)}
    assert len(found.different) == 1

    found = checked(collect(Sources(graded=[GradedSource(path=path, grade_range=(0, 8))]), positive_grade=0.4))
    assert graded_of(found)["a", "b"][0] == 0.5
    assert edges_of(found) == {("a", "b", "given"): (1, 0.5)}
    found = collect(Sources(graded=[GradedSource(path=path, grade_range=(1, 3))]))
    assert drops(found) == {"grade outside 1 to 3": 2}
    alike = file(["text_a", "text_b", "grade"], [("a", "b", 3), ("c", "d", 3)])
    with pytest.raises(InputError, match="only holds the grade 3; give grade_range"):
        collect(Sources(graded=[GradedSource(path=alike)]))


@pytest.mark.parametrize("positive_grade", [0.3, 0.5, 0.6, 0.7, 1.0])
def test_one_pair_has_one_truth(file, positive_grade):
    """A pair is a positive of the graph if and only if it is one on dev and in calibration."""
    rows = [("a", "b", 4), ("c", "d", 2), ("e", "f", 0), ("g", "h", 2), ("h", "g", 3), ("k", "l", 4), ("l", "k", 1)]
    given = Sources(graded=[GradedSource(path=file(["text_a", "text_b", "grade"], rows))])
    found = collect(given, positive_grade=positive_grade)
    graded, _ = assign_graded_splits(found.graded, NO_CLUSTERS, positive_grade=positive_grade)
    same = graded[graded["label"] == 1]
    assert {frozenset(pair) for pair in zip(found.edges["a_id"], found.edges["b_id"], strict=True)} == {
        frozenset(pair) for pair in zip(same["a_id"], same["b_id"], strict=True)
    }
    assert (graded["label"] == (graded["grade"] >= positive_grade)).all()


def test_a_label_counts_more_than_a_grade(file):
    graded = GradedSource(path=file(["text_a", "text_b", "grade"], [("a", "b", 4), ("c", "d", 0)]))
    pairs = PairSource(path=file(LABELLED, [("b", "a", 0)]), label_column="label")
    found = checked(collect(Sources(graded=[graded], pairs=[pairs])))
    assert graded_of(found) == {("b", "a"): (0, "pairs", "all"), ("c", "d"): (0, "graded", "all")}
    assert found.edges.empty


def test_heldout_sources_leave_no_trace_in_the_graph(file):
    train = PairSource(path=file(LABELLED, [("a", "b", 1), ("c", "d", 1)]), label_column="label", use="train")
    held = PairSource(
        path=file(LABELLED, [("c", "d", 1), ("e", "f", 1), ("g", "h", 0)]), label_column="label", use="heldout"
    )
    answers = PairSource(path=file(PAIR, [("q", "answer")]), use="heldout")
    found = checked(collect(Sources(pairs=[train, held], qa=[answers])))
    assert list(edges_of(found)) == [("a", "b", "given")]
    assert found.different.empty
    uses = {pair: use for pair, (_, _, use) in graded_of(found).items()}
    assert uses == {
        ("a", "b"): "train",
        ("c", "d"): "heldout",
        ("e", "f"): "heldout",
        ("g", "h"): "heldout",
        ("q", "answer"): "heldout",
    }
    assert found.heldout == {text_id(text) for text in ["c", "d", "e", "f", "g", "h", "q", "answer"]}
    assert found.train_only == {text_id(text) for text in "abcd"}


def test_no_usable_pair_is_an_error(file):
    with pytest.raises(InputError, match=r"source0\.csv: no pair can be used.*label is neither 0 nor 1: 2 rows"):
        collect(Sources(pairs=[PairSource(path=file(LABELLED, [("a", "b", 5), ("c", "d", 7)]), label_column="label")]))


def test_corpora_and_nothing_at_all(file):
    path = file(["text"], [("甲 乙",), ("甲乙",), ("\u200b",), ("丙",)])
    found = checked(collect(Sources(corpus=[CorpusSource(path=path)])))
    assert found.texts.set_index("text")["count"].to_dict() == {"甲乙": 2, "丙": 1}
    assert set(found.texts["kind"]) == {"document"}
    assert drops(found) == {"no text": 1}
    found = checked(collect(Sources(corpus=[CorpusSource(path=path, kind="query"), CorpusSource(path=path)])))
    assert set(found.texts["kind"]) == {"query"}
    assert checked(collect(Sources())).texts.empty


def test_a_sample_is_a_part_of_the_whole(file):
    given = Sources(
        qa=[PairSource(path=file(PAIR, [(f"q{n}", f"a{n}") for n in range(400)]))],
        synonyms=[SynonymSource(path=file(["words"], [(f"w{n}|v{n}",) for n in range(400)]))],
        corpus=[CorpusSource(path=file(["text"], [(f"t{n}",) for n in range(400)]))],
    )
    whole, part = collect(given), checked(collect(given, sample_fraction=0.25))
    assert set(edges_of(part)) < set(edges_of(whole))
    assert set(part.texts["text_id"]) < set(whole.texts["text_id"])
    assert 0.15 < len(part.edges) / len(whole.edges) < 0.35


# --- synonyms -----------------------------------------------------------------------------------------------------


def test_synonym_lists(file):
    lists = [("登录密码|登陆 密码|登录口令",), ("码|口令|13",), ("支付密码|付款密码",), ("付款密码|支付密码|交易密码",)]
    found = checked(collect(Sources(synonyms=[SynonymSource(path=file(["words"], lists))])))
    assert found.synonyms == [("登录密码", "登陆密码", "登录口令"), ("支付密码", "付款密码", "交易密码")]
    assert len(found.edges) == 6
    assert set(found.edges["source"]) == {"synonym"}
    assert set(found.texts["kind"]) == {"query"}
    assert drops(found) == {
        "synonym that says nothing: single character": 1,
        "synonym that says nothing: numbers only": 1,
    }


def test_a_word_of_several_meanings_joins_nothing(file):
    lists = [("包袱|行李|行装",), ("包袱|负担|累赘",), ("苹果|apple",)]
    found = checked(collect(Sources(synonyms=[SynonymSource(path=file(["words"], lists))])))
    assert found.synonyms == [("行李", "行装"), ("负担", "累赘"), ("苹果", "apple")]
    assert drops(found) == {"synonym in several lists: which meaning?": 1}


def test_long_lists_make_a_chain(file):
    words = [f"word{n:02d}" for n in range(MAX_COMPLETE + 30)]
    found = checked(collect(Sources(synonyms=[SynonymSource(path=file(["words"], [("|".join(words),)]))])))
    assert len(found.edges) == len(words) - 1


def test_the_bank_data(shared):
    data = shared / "data"
    given = Sources(
        pairs=[
            PairSource(path=str(data / "bank_ccks_extra.tsv.gz"), label_column="label", use="train"),
            PairSource(path=str(data / "bq_dev.tsv.gz"), label_column="label", use="heldout"),
        ]
    )
    found = checked(collect(given))
    assert found.graded["use"].value_counts()["heldout"] > 9_000
    assert found.graded[found.graded["use"] == "train"]["grade"].mean() == pytest.approx(0.5, abs=0.02)
    assert len(found.edges) > 4_500
    assert not (set(found.edges["a_id"]) & found.heldout) - found.train_only


def test_rows_of_every_source_are_counted_used_or_not(file):
    qa, words, more = (
        file(PAIR, [("支付密码", "改密码"), ("", "x")]),
        file(["words"], [("甲方|乙方",)] * 3),
        file(["text"], [("余额",)]),
    )
    found = collect(
        Sources(qa=[PairSource(path=qa)], synonyms=[SynonymSource(path=words)], corpus=[CorpusSource(path=more)])
    )
    assert found.rows == {qa: 2, words: 3, more: 1}
