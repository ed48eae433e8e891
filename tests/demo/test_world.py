"""What the demo world promises of its data."""

import time
from dataclasses import replace

import pandas as pd
import pytest

from bgetune.data.text import junk_reason, mask_personal_data, normalize
from bgetune_demo import DATA, STANDARD, _make_data
from bgetune_demo.language import stream
from bgetune_demo.lexicon import load, near_misses
from bgetune_demo.log import odd_spelling

SENTENCE = r"^\w+\.\w+\.\w+\.\w+"


def test_the_standard_world_is_as_big_as_promised(table):
    known, log = table("truth.csv", "standard"), table("clicks.csv", "standard")
    sentences = known[known.meaning.str.match(SENTENCE)]
    assert sentences.meaning.nunique() >= 150
    assert sentences.service.nunique() >= 10
    assert sentences.groupby("meaning").text.nunique().between(15, 30).all()
    assert len(set(log["query"].map(normalize)) | set(table("corpus.csv", "standard").text)) >= 3000
    assert len(log) >= 20_000
    assert len(table("near_misses.csv", "standard")) >= 300
    assert len(table("pairs.csv", "standard")) >= 300


def test_every_word_says_one_thing():
    lexicon = load()
    for table in (lexicon.objects, lexicon.actions, lexicon.circumstances):
        words = [word for groups in table.values() for group in groups for word in group.zh]
        assert len(words) == len(set(words))


def test_a_near_miss_differs_in_one_decisive_word():
    pairs = {(a.id, b.id) for a, b in near_misses(load().meanings)}
    assert ("account.login_password.change.how", "account.pay_password.change.how") in pairs
    assert ("account.login_password.change.how", "account.login_password.change.how@abroad") not in pairs
    for a, b in near_misses(load().meanings):
        assert sum((a.object != b.object, a.action != b.action, a.aspect != b.aspect)) == 1


def test_clean_texts_are_in_normal_form_and_mean_one_thing(known):
    assert (known.text.map(normalize) == known.text).all()
    assert known.text.is_unique


@pytest.mark.parametrize(
    ("item", "columns"),
    [
        ("clicks.csv", ["query"]),
        ("qa.csv", ["question", "answer"]),
        ("pairs.csv", ["text_a", "text_b"]),
        ("graded.csv", ["query", "document"]),
        ("corpus.csv", ["text"]),
    ],
)
def test_the_truth_covers_every_text(table, meanings, item, columns):
    for column in columns:
        assert meanings(table(item)[column]).notna().all()


def test_labels_agree_with_the_truth(table, meanings):
    pairs, answers = table("pairs.csv"), table("qa.csv")
    same = meanings(pairs.text_a) == meanings(pairs.text_b)
    assert (same == (pairs.label == "1")).all()
    assert (meanings(answers.question) == meanings(answers.answer)).all()
    for words in table("synonyms.csv").words:
        assert len(set(meanings(pd.Series(words.split("|"))))) == 1


def test_grades_agree_with_the_truth(table, meanings):
    graded = table("graded.csv")
    a, b = meanings(graded["query"]), meanings(graded.document)
    service = a.str.partition(".")[0] == b.str.partition(".")[0]
    close = set(table("near_misses.csv").itertuples(index=False, name=None))
    expected = {
        "4": a == b,
        "3": (a != b) & (a.str.partition("@")[0] == b.str.partition("@")[0]),
        "2": pd.Series([(x, y) in close or (y, x) in close for x, y in zip(a, b, strict=True)]),
        "1": service & (a != b),
        "0": ~service,
    }
    for grade, holds in expected.items():
        assert (graded.grade == grade).sum() >= 20
        assert holds[graded.grade == grade].all()


def test_the_log_holds_what_logs_hold(table, meanings):
    log = table("clicks.csv")
    log["when"], log["clicked"] = pd.to_datetime(log.time), log.url != ""
    assert log.when.is_monotonic_increasing
    assert ((log.title == "") == ~log.clicked).all()
    assert log[log.clicked]["rank"].astype(int).between(1, 10).all()
    log["means"], log["found"] = meanings(log["query"]), meanings(log.title)

    clicks = log[log.clicked & (log.means != "")]
    assert 0.7 < (clicks.means == clicks.found).mean() < 0.95  # mis-clicks, but not too many
    assert 0.02 < (clicks.found == "").mean() < 0.1  # popular pages
    close = set(table("near_misses.csv").itertuples(index=False, name=None))
    assert sum((a, b) in close or (b, a) in close for a, b in zip(clicks.means, clicks.found, strict=True)) > 50

    after = log.groupby("session_id").shift(-1)
    follows = ~log.clicked & after.clicked.eq(True) & after["query"].ne(log["query"]) & (after.when - log.when < "2min")
    rewrites = (log.means == after.means)[follows]
    assert rewrites.sum() > 100
    assert (~rewrites).sum() > 50  # changes of subject: noise for whoever mines rewrites

    assert log["query"].map(lambda query: junk_reason(normalize(query)) is not None).sum() > 20
    assert (log["query"].map(normalize) != log["query"]).mean() > 0.03
    assert sum(bool(mask_personal_data(normalize(query))[1]) for query in log["query"]) >= 5
    assert log.user_id.value_counts().iloc[0] > 100  # the robot


def test_odd_spellings_are_undone_by_normalisation():
    rng = stream("test")
    seen = {odd_spelling("在app上怎么修改登录密码?", rng) for _ in range(50)}
    assert len(seen) > 5
    assert {normalize(query) for query in seen} == {"在app上怎么修改登录密码?"}


def test_the_same_seed_makes_the_same_bytes_in_little_time(tmp_path):
    from bgetune_demo import SMALL

    start = time.process_time()
    for folder, world in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=6))):
        (tmp_path / folder).mkdir()
        _make_data(world, tmp_path / folder, progress=False)
    assert time.process_time() - start < 3 * 2
    for item in DATA:
        assert (tmp_path / "a" / item).read_bytes() == (tmp_path / "b" / item).read_bytes()
    assert (tmp_path / "a" / "clicks.csv").read_bytes() != (tmp_path / "c" / "clicks.csv").read_bytes()
    assert STANDARD.seed != SMALL.seed
