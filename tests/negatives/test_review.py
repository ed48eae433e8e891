import itertools
import subprocess
import sys
import time

import pandas as pd
import pytest

from bgetune.data.text import Normalizer, text_id
from bgetune.errors import InputError
from bgetune.negatives import review


def rows(*pairs, verdict=""):
    table = pd.DataFrame(pairs, columns=["query", "candidate"])
    return table.assign(similarity=0.8, reranker=0.5, reason="the reranker is not sure", verdict=verdict)


def key(a, b):
    return tuple(sorted((text_id(a), text_id(b))))


def test_written_and_read_back(tmp_path):
    table = rows(("支付密码", "登录密码"), ('a,"b"', "两\n行"), verdict="same")
    review.write_review(tmp_path / "review.csv", table)
    pd.testing.assert_frame_equal(review.read_review(tmp_path / "review.csv"), table)
    assert (tmp_path / "review.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # Excel then reads Chinese


@pytest.mark.parametrize("text", ["=1+1", "+86", "-5元", "@sum", '=HYPERLINK("x")'])
def test_formulas_are_defused_and_restored(tmp_path, text):
    file = tmp_path / "review.csv"
    review.write_review(file, rows((text, "正常")))
    written = pd.read_csv(file, encoding="utf-8-sig")["query"][0]
    assert written == "'" + text
    assert review.read_review(file)["query"].tolist() == [text]


def test_what_excel_makes_of_it(tmp_path):
    file = tmp_path / "review.csv"
    file.write_bytes(
        "query;candidate;similarity;reranker;reason;verdict\r\n支付;付款;0.8;;x;相同\r\n".encode("gb18030")
    )
    table = review.read_review(file)
    assert table["verdict"].tolist() == ["same"]
    assert review.verdicts(table) == {key("支付", "付款"): "same"}


def test_verdicts_are_found_in_the_form_of_the_run():
    """A person pastes a text as it was typed; the run's texts are masked."""
    judged = rows(("打 13800000001", "打电话"), verdict="same")
    assert review.verdicts(judged, Normalizer(("phone",))) == {key("打<电话>", "打电话"): "same"}
    assert review.merge(judged, rows(("打<电话>", "打电话")).drop(columns="verdict"))["verdict"].tolist() == ["same"]
    assert review.verdicts(judged, Normalizer(())) == {key("打13800000001", "打电话"): "same"}


def test_a_wrong_verdict_is_named(tmp_path):
    file = tmp_path / "review.csv"
    review.write_review(file, rows(("a", "b"), ("c", "d"), verdict="maybe"))
    with pytest.raises(InputError, match=r"review\.csv, line 2: verdict 'maybe'"):
        review.read_review(file)


def test_a_missing_column_is_named(tmp_path):
    file = tmp_path / "review.csv"
    file.write_text("query,candidate\na,b\n", "utf-8")
    with pytest.raises(InputError, match="no column verdict"):
        review.read_review(file)


def test_contradictions_are_named():
    table = pd.concat([rows(("a", "b"), verdict="same"), rows(("b", "a"), verdict="different")])
    with pytest.raises(InputError, match="both same and different"):
        review.verdicts(table)


def test_verdicts_are_never_lost(tmp_path):
    """Three runs: a pair that is no longer doubtful keeps its verdict, one without a verdict makes room."""
    file = tmp_path / "review.csv"
    first = rows(("a", "b"), ("c", "d"))
    first.loc[0, "verdict"] = "different"
    review.write_review(file, first)
    for _ in range(2):
        judged = review.read_verdicts(file, None, tmp_path / "missing.csv")
        merged = review.merge(
            judged, rows(("b", "a"), ("e", "f"))[["query", "candidate", "similarity", "reranker", "reason"]]
        )
        review.write_review(file, merged)
    table = review.read_review(file)
    assert table[["query", "candidate", "verdict"]].to_numpy().tolist() == [["e", "f", ""], ["a", "b", "different"]]
    assert review.verdicts(table) == {key("a", "b"): "different"}


@pytest.mark.parametrize("judged", [0, 1])
def test_without_doubtful_pairs_the_file_holds_the_verdicts_alone(tmp_path, judged):
    verdicts = rows(("a", "b"), verdict="same").head(judged)
    table = review.merge(verdicts, rows(("c", "d")).head(0).drop(columns="verdict"))
    assert table.columns.tolist() == review.COLUMNS
    assert len(table) == judged
    review.write_review(tmp_path / "review.csv", table)
    assert len(review.read_review(tmp_path / "review.csv")) == judged


def test_widget_saves_every_verdict_at_once(tmp_path):
    file = tmp_path / "review.csv"
    review.write_review(file, rows(("<b>一</b>", "二"), ("三", "四"), ("五", "六")))
    form = review.widget(file)
    progress, pair, controls = form.children
    same, _, skip, undo, keys = controls.children
    assert "&lt;b&gt;" in pair.value
    assert "<b>一" not in pair.value
    keys.value = "d"
    assert review.read_review(file)["verdict"].tolist() == ["different", "", ""]
    skip.click()
    assert "五" in pair.value
    same.click()
    assert review.read_review(file)["verdict"].tolist() == ["different", "", "same"]
    assert progress.value.startswith("2 of 3 judged")
    keys.value += "s"  # nothing is left: nothing changes
    assert review.read_review(file)["verdict"].tolist() == ["different", "", "same"]
    undo.click()
    assert review.read_review(file)["verdict"].tolist() == ["different", "", ""]
    assert "五" in pair.value
    keys.value += "d"  # a slip is corrected
    assert review.read_review(file)["verdict"].tolist() == ["different", "", "different"]
    keys.value += "uuuuss"  # back to the first
    assert review.read_review(file)["verdict"].tolist() == ["same", "same", ""]


def test_widget_judges_every_key_in_order_however_they_arrive(tmp_path):
    """A browser sends the field's text at 20 keys a second, some keys together while the last message is on its way."""
    file = tmp_path / "review.csv"
    review.write_review(file, rows(*((f"a{n}", f"b{n}") for n in range(200))))
    keys = review.widget(file).children[2].children[-1]
    typed = "".join("sd"[n * n % 3 == 1] for n in range(200))
    begun, sent = time.process_time(), 0  # of this process: how busy others keep the machine says nothing of the form
    for size in itertools.cycle([1, 1, 3, 1, 2]):
        sent += size
        keys.value = typed[:sent]
        if sent >= 200:
            break
    assert time.process_time() - begun < 200 / 20, "as fast as the keys"
    wanted = [{"s": "same", "d": "different"}[key] for key in typed]
    assert review.read_review(file)["verdict"].tolist() == wanted
    keys.value = ""  # somebody empties the field
    keys.value = "u"
    assert review.read_review(file)["verdict"].tolist() == [*wanted[:-1], ""]


def test_the_first_key_is_as_fast_as_the_others(tmp_path):
    """What a verdict needs is imported with the form: scipy.stats takes a second, in which the first key would hang."""
    code = (
        "import sys; from pathlib import Path; import pandas as pd; from bgetune.negatives import review\n"
        "file = Path(sys.argv[1])\n"
        "columns = dict.fromkeys(review.COLUMNS, '') | {'reranker': float('nan')}\n"
        "review.write_review(file, pd.DataFrame([columns | {'query': 'a', 'candidate': 'b'}]))\n"
        "review.widget(file).children[2].children[-1].value = 's'\n"
        "assert review.read_review(file)['verdict'].tolist() == ['same']\n"
        "assert 'scipy.stats' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "review.csv")], check=True)


def test_widget_says_when_enough_is_judged(tmp_path):
    file = tmp_path / "review.csv"
    review.write_review(file, rows(*((f"a{n}", f"b{n}") for n in range(120))))
    progress, _, controls = review.widget(file).children
    keys = controls.children[-1]
    keys.value = "sd" * 20
    assert "40 of 120 judged" in progress.value
    assert "Enough" not in progress.value
    keys.value += "sd" * 35
    assert "Enough to know that 40% to 60% of such pairs mean the same" in progress.value


def test_widget_shows_where_two_texts_differ(tmp_path):
    file = tmp_path / "review.csv"
    review.write_review(file, rows(("忘记支付密码", "忘记登录密码")).assign(reranker=float("nan")))
    _, pair, _ = review.widget(file).children
    assert pair.value.count("<u ") == 2
    assert ">支付</u>密码" in pair.value
    assert ">登录</u>密码" in pair.value
    assert "nan" not in pair.value
