import json

import pandas as pd
import pytest
from asked import check_sources

from bgetune.config.sources import ClickSource, CorpusSource, GroupSource, PairSource, Sources, SynonymSource
from bgetune.data.sources import read_clicks, read_corpus, read_groups, read_pairs, read_synonyms
from bgetune.errors import InputError

PASSAGES = [
    {"docid": "d0", "title": "退款", "text": "打开 '订单页'\n点 \"退款\""},
    {"docid": "d1", "title": None, "text": "去 {设置}"},
    {"docid": "d2", "title": " ", "text": "甲"},
]
TEXTS = ["退款 打开 '订单页'\n点 \"退款\"", "去 {设置}", "甲"]
QUERIES = ["怎么退款", "怎么开票"]


def write(path, data):
    path.write_text(data, encoding="utf-8")
    return str(path)


def save(frame, path):
    """A table in the format that the name says."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl", force_ascii=False)
    return str(path)


def groups(path, side=1.0):
    table, _ = read_groups(GroupSource(path=path))
    return sorted(table.b[table.label == side])


# --- lists --------------------------------------------------------------------------------------------------------

FORMATS = ("jsonl", "json", "parquet", "csv", "xlsx")


@pytest.mark.parametrize("format_", FORMATS)
def test_objects_of_a_list_are_their_titles_and_texts(tmp_path, format_):
    frame = pd.DataFrame({"query": QUERIES, "pos": [PASSAGES] * 2, "neg": [[{"text": "乙", "score": 0.9}]] * 2})
    path = save(frame, tmp_path / f"t.{format_}")
    assert groups(path) == sorted(TEXTS * 2)
    assert groups(path, 0.0) == ["乙"] * 2


@pytest.mark.parametrize("format_", FORMATS)
def test_objects_without_text_are_refused(tmp_path, format_):
    frame = pd.DataFrame({"query": QUERIES, "pos": [[{"docid": "d0", "contents": "甲"}]] * 2, "neg": [["乙"]] * 2})
    source = GroupSource(path=save(frame, tmp_path / f"t.{format_}"))
    message = rf"t\.{format_}: column pos holds lists of objects without `text` \(they have contents, docid\)"
    for read in (read_groups, lambda source: check_sources(Sources(groups=[source]))):
        with pytest.raises(InputError, match=message):
            read(source)
    # that column may hold anything where another is wanted
    assert read_corpus(CorpusSource(path=source.path, text_column="query"))[0].text.tolist() == QUERIES


def test_an_object_without_text_among_others_is_no_text(tmp_path):
    row = {"query": "怎么退款", "pos": ["a {", {"docid": "d"}, None, {"text": "b"}], "neg": []}
    path = write(tmp_path / "t.jsonl", json.dumps(row))
    table, dropped = read_groups(GroupSource(path=path))
    assert sorted(table.b) == ["a {", "b"]
    assert dropped[["reason", "rows"]].to_numpy().tolist() == [["no text", 2]]
    path = write(tmp_path / "s.jsonl", '{"words": [{"text": "甲"}, "乙", {"docid": "d"}]}')
    assert read_synonyms(SynonymSource(path=path))[0].words.map(list).tolist() == [["甲", "乙"]]


def test_lists_as_pandas_writes_them_in_csv(tmp_path):
    texts = ["如何'退款'", 'say "hi"', "a\\b\nc", None, 'it\'s "it"']
    frame = pd.DataFrame({"query": ["怎么退款"], "pos": [texts], "neg": [["很长的一句话"] * 30]})
    wanted = sorted(text for text in texts if text)
    assert groups(save(frame, tmp_path / "lists.csv")) == wanted
    save(frame, tmp_path / "t.parquet")
    arrays = pd.read_parquet(tmp_path / "t.parquet")  # NumPy writes no commas, and breaks lines
    for name in ("arrays.csv", "arrays.xlsx"):
        path = save(arrays, tmp_path / name)
        assert groups(path) == wanted
        assert groups(path, 0.0) == ["很长的一句话"] * 30


@pytest.mark.parametrize(
    "cell", ["[图片]", "[N/A]", r"['a\d']", "['a', b]", "['a', 1]", "['a'", '["a" b]', "['a' + 'b']"]
)
def test_texts_in_brackets_are_no_lists(tmp_path, cell, recwarn):
    path = save(pd.DataFrame({"text": [cell]}), tmp_path / "t.csv")
    assert read_corpus(CorpusSource(path=path))[0].text.tolist() == [cell]
    assert not [warning for warning in recwarn if issubclass(warning.category, SyntaxWarning)]


# --- numbers ------------------------------------------------------------------------------------------------------


def test_ids_that_are_floats_for_a_missing_one(tmp_path):
    users = [1001, 9007199254740991, 1234567890123456768, 7.5, None]
    frame = pd.DataFrame({"time": "08:00:00", "user_id": users, "query": "怎么退款", "url": [5, 6, 7, 8, None]})
    log, dropped = read_clicks(ClickSource(path=save(frame, tmp_path / "log.parquet")))
    found = log.order_by("url").to_pandas()
    assert found.user_id.tolist() == ["1001", "9007199254740991", "1234567890123456768", "7.5"]
    assert found.url.tolist() == ["5", "6", "7", "8"]
    assert dropped.reason.tolist() == ["no user"]


def test_other_floats_stay_as_they_are(tmp_path):
    frame = pd.DataFrame({"text": [[0.5, -3.0], [1e300], [float("inf")]]})
    found = read_corpus(CorpusSource(path=save(frame, tmp_path / "t.parquet")))[0]
    assert found.text.tolist() == ["0.5", "-3", "1e+300", "inf"]


# --- what is looked at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "delimiter"), [(r"\t", "\t"), (r"\x01", "\x01"), (r"\001", "\x01")])
def test_a_delimiter_may_be_spelled_as_an_escape(tmp_path, given, delimiter):
    path = write(tmp_path / "p.csv", f"text_a{delimiter}text_b\nx,y{delimiter}z\n")
    table, _ = read_pairs(PairSource(path=path, delimiter=given))
    assert table[["a", "b"]].to_numpy().tolist() == [["x,y", "z"]]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json"])
def test_a_key_that_comes_late_is_said_to_be_looked_for_in_the_first_rows(tmp_path, name):
    row = {"text_a": "问", "text_b": "答"}
    for rows, late in ((1000, True), (999, False)):
        frame = pd.DataFrame([row] * rows + [row | ({"label": 1} if late else {})])
        path = tmp_path / name
        path.write_text("")
        data = [{key: value for key, value in one.items() if pd.notna(value)} for one in frame.to_dict("records")]
        lines = [json.dumps(one) for one in data]
        path.write_text("\n".join(lines) if name == "p.jsonl" else f"[{','.join(lines)}]")
        with pytest.raises(InputError, match="no column label; it has text_a, text_b") as error:
            check_sources(Sources(pairs=[PairSource(path=str(path), label_column="label")]))
        told = "only the first 1000 rows were looked at: put one that has label first"
        assert (told in str(error.value)) == late


# --- workbooks ----------------------------------------------------------------------------------------------------


def test_sheets_without_rows_are_left_out_of_all_sheets(tmp_path):
    path = str(tmp_path / "b.xlsx")
    source = PairSource(path=path, a_column="question", b_column="answer", table="*")
    empty = {"二月": pd.DataFrame({"question": [], "answer": []}), "Sheet3": pd.DataFrame()}
    for first in ({}, {"一月": pd.DataFrame({"question": ["问"], "answer": ["答"]})}):
        with pd.ExcelWriter(path) as book:
            for name, frame in (first | empty).items():
                frame.to_excel(book, sheet_name=name, index=False)
        if first:
            assert read_pairs(source)[0][["a", "b"]].to_numpy().tolist() == [["问", "答"]]
        else:
            with pytest.raises(InputError, match=r"b\.xlsx: no sheet has rows"):
                read_pairs(source)
