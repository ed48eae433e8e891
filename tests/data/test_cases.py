"""What files of teams look like: each case with its own small input."""

import bz2
import json
import lzma
import os
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asked import check_sources

from bgetune.config.sources import (
    ClickSource,
    CorpusSource,
    GradedSource,
    GroupSource,
    PairSource,
    QrelsSource,
    Sources,
    SynonymSource,
    TripletSource,
)
from bgetune.data.qrels import read_qrels
from bgetune.data.sources import (
    external_files,
    read_clicks,
    read_corpus,
    read_groups,
    read_pairs,
    read_synonyms,
    read_triplets,
)
from bgetune.errors import InputError
from bgetune.positives import clicks, evidence, pairs


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def texts(source):
    table, _ = read_pairs(source)
    return list(zip(table.a, table.b, strict=True))


QA = {"a_column": "question", "b_column": "answer"}

# --- CSV ----------------------------------------------------------------------------------------------------------


def test_a_line_break_in_the_first_column_costs_no_other_row(tmp_path):
    rows = [f'问题{n},"答案{n}\n第二行{n}",1' for n in range(5)]
    path = write(tmp_path / "p.csv", "text_a,text_b,label\n" + "\n".join([*rows, '"第一列\n换行",乙,1']))
    table, dropped = read_pairs(PairSource(path=path, label_column="label"))
    assert dropped.empty
    assert table.a.tolist() == [*(f"问题{n}" for n in range(5)), "第一列 换行"]
    assert table.b.tolist() == [*(f"答案{n} 第二行{n}" for n in range(5)), "乙"]


def test_a_line_of_an_answer_may_look_like_a_row(tmp_path):
    data = 'question,answer,cat\n怎么改密码,"步骤:\n登录,点设置,改密码\n完成",账户\n怎么注销,"先解绑\n再注销",账户\n'
    source = PairSource(path=write(tmp_path / "qa.csv", data), **QA)
    assert texts(source) == [("怎么改密码", "步骤: 登录,点设置,改密码 完成"), ("怎么注销", "先解绑 再注销")]


def test_a_quote_that_never_closes_costs_its_own_row(tmp_path):
    data = 'question,answer\n甲,"乙\n丙\n"\n丁,"戊"\n己,"从不关上\n庚,"辛\n壬"\n'
    table, dropped = read_pairs(PairSource(path=write(tmp_path / "qa.csv", data), **QA))
    rows = table.to_numpy().tolist()
    assert rows == [["甲", "乙 丙", 1], ["丁", "戊", 1], ["己", '"从不关上', 1], ["庚", "辛 壬", 1]]
    assert dropped.empty


def test_backslash_escapes_are_recognised_or_given(tmp_path):
    spark = 'question,answer\n甲,"他说 \\"好\\", 对"\n乙,"b"\n'
    assert texts(PairSource(path=write(tmp_path / "spark.csv", spark), **QA)) == [("甲", '他说 "好", 对'), ("乙", "b")]
    hive = "question\tanswer\n甲\\\t一\t乙\n丙\t丁\\\n戊\n己\t\\N\n"
    table, dropped = read_pairs(PairSource(path=write(tmp_path / "hive.tsv", hive), **QA))
    assert table[["a", "b"]].to_numpy().tolist() == [["甲\t一", "乙"], ["丙", "丁 戊"]]
    assert dropped.rows.tolist() == [1]
    path = write(tmp_path / "windows.csv", "question,answer\nC:\\new,\\\\server\n")
    assert texts(PairSource(path=path, **QA)) == [("C:\\new", "\\\\server")]
    assert texts(PairSource(path=path, escape=True, **QA)) == [("C: ew", "\\server")]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    data = "question,answer,answer,n,n\n怎么改密码,,去设置里改,1,2\n"
    with pytest.raises(InputError, match="column answer is there twice"):
        read_pairs(PairSource(path=write(tmp_path / "qa.csv", data), **QA))
    pd.DataFrame([["q", "a", "b"]], columns=["question", "answer", "answer"]).to_excel(
        tmp_path / "qa.xlsx", index=False
    )
    with pytest.raises(InputError, match="column answer is there twice"):
        check_sources(Sources(qa=[PairSource(path=str(tmp_path / "qa.xlsx"), **QA)]))
    assert texts(PairSource(path=str(tmp_path / "qa.csv"), a_column="question", b_column="question")) != []


@pytest.mark.parametrize(
    "text", ["怎麼修改登錄密碼,如何修改密碼", "頁面打不開，錢包裡的發票怎麼開？,發票", "龘靐齉爩,㐂囍"]
)
def test_traditional_and_rare_characters_in_gb18030(tmp_path, text):
    path = write(tmp_path / "g.csv", f"question,answer\n{text}\n".encode("gb18030"))
    assert texts(PairSource(path=path, **QA)) == [tuple(text.split(","))]


def test_korean_is_not_read_as_gb18030(tmp_path):
    lines = "".join(f"비밀번호를 잊어버렸어요,어떻게 하나요{n}\n" for n in range(20))
    path = write(tmp_path / "k.csv", ("question,answer\n" + lines).encode("euc_kr"))
    with pytest.raises(InputError, match="neither UTF-8 nor GB18030; it could be cp949"):
        read_pairs(PairSource(path=path, **QA))


def test_a_title_above_the_header_is_named_or_skipped(tmp_path):
    path = write(tmp_path / "t.csv", "客服问答表 2026,\nquestion,answer\n怎么改密码,去设置\n")
    with pytest.raises(InputError, match="row 2 has it: set skip_rows: 1"):
        read_pairs(PairSource(path=path, **QA))
    assert texts(PairSource(path=path, skip_rows=1, **QA)) == [("怎么改密码", "去设置")]


# --- missing values, times, labels --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled", ["", "nan", "NaN", "None", "null", "NULL", "-", "#N/A", "<NA>", "undefined", "无", "\\N"]
)
def test_a_missing_url_makes_no_document(tmp_path, spelled):
    queries = {"怎么改登录密码": "d1", "登录密码修改": "d1", "附近网点在哪": spelled, "花呗逾期怎么办": spelled}
    lines = [
        f"{q},u{n}_{i},2026-01-05 0{n}:0{i}:00,{url}" for n, (q, url) in enumerate(queries.items()) for i in range(8)
    ]
    log, dropped = read_clicks(
        ClickSource(path=write(tmp_path / "c.csv", "query,user_id,time,url\n" + "\n".join(lines) + "\n"))
    )
    counts = clicks.count(
        log, session_gap_minutes=30, rewrite_window_seconds=120, robot_searches_per_day=300, min_dwell_seconds=2
    )
    assert counts.abandoned == 16
    assert len(set(counts.clicks.document)) == 1
    rules = {"min_support": 2, "min_npmi": 0.0, "min_jaccard": 0.05, "hub_cap": 100, "misclick_rate": 0.05}
    assert len(evidence.mine(counts, **rules).edges) == 1
    told = dict(zip(dropped.reason, dropped.rows, strict=True))
    assert told == ({"url read as missing (the row is used)": 16} if spelled else {})


def test_texts_have_fewer_spellings_of_missing(tmp_path):
    path = write(tmp_path / "c.csv", "text\n无\n-\nnull pointer\nnone\nNaN\nNULL\n<NA>\n")
    assert read_corpus(CorpusSource(path=path))[0].text.tolist() == ["无", "-", "null pointer", "none"]


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ("2026-01-05 08:30:00 PM", "2026-01-05 20:30:00"),
        ("2026-01-05 12:30:00 AM", "2026-01-05 00:30:00"),
        ("2026-01-05 08:30:00 +0800", "2026-01-05 00:30:00"),
        ("2026-01-05 08:30:00 CST", "2026-01-05 00:30:00"),
        ("2026-01-05 08:30:00 GMT+8", "2026-01-05 00:30:00"),
        ("2026年1月5日 8:30", "2026-01-05 08:30:00"),
        ("2026年1月5日8时30分15秒", "2026-01-05 08:30:15"),
        ("2026年1月5日 下午8:30", "2026-01-05 20:30:00"),
        ("2026/1/5 上午 8:30:00", "2026-01-05 08:30:00"),
        ("20260105", "2026-01-05 00:00:00"),
        ("202601050830", "2026-01-05 08:30:00"),
        ("20260105T083000Z", "2026-01-05 08:30:00"),
        ("05/Jan/2026:08:30:00 +0800", "2026-01-05 00:30:00"),
        ("Mon Jan 05 2026 08:30:00 GMT+0800 (中国标准时间)", "2026-01-05 00:30:00"),
        ("Mon Jan 05 08:30:00 CST 2026", "2026-01-05 00:30:00"),
        ("Jan 5, 2026, 8:30:00 PM", "2026-01-05 20:30:00"),
        ("2026-01-05 08:30:00,123", "2026-01-05 08:30:00.123"),
        ("45678.354", "2025-01-21 08:29:46"),
        ("1.7E+12", "2023-11-14 22:13:20"),
        ("２０２６-０１-０５　０８：３０", "2026-01-05 08:30:00"),
        ("13/1/2026 8:30", "2026-01-13 08:30:00"),
        ("1/13/2026 8:30 PM", "2026-01-13 20:30:00"),
    ],
)
def test_times_as_people_and_programs_write_them(tmp_path, given, time):
    path = write(tmp_path / "c.tsv", f"time\tuser_id\tquery\turl\n{given}\tu\tq\tx\n")
    log, dropped = read_clicks(ClickSource(path=path, timezone="UTC"))
    assert log.time.execute().tolist() == [pd.Timestamp(time)]
    assert dropped.empty


@pytest.mark.parametrize(
    "given", ["soon", "08:30:00 PM", "2026-13-05", "26-01-05", "epoch", "2026", "13800138000", "1月5日"]
)
def test_a_text_that_is_no_time_is_never_1970(tmp_path, given):
    path = write(tmp_path / "c.csv", f"time,user_id,query,url\n{given},u,q,x\n2026-01-05 08:30:00,u,q,x\n")
    log, dropped = read_clicks(ClickSource(path=path))
    assert log.count().execute() == 1
    assert dropped.reason.tolist() == ["time not readable"]


def test_day_and_month_that_could_be_either_are_asked_for(tmp_path):
    path = write(tmp_path / "c.csv", "time,user_id,query,url\n1/5/2026 8:30,u,q,x\n2/5/2026 8:30,v,q,x\n")
    with pytest.raises(InputError, match=r"column time: 1/5/2026 8:30 could be either .* set time_format"):
        read_clicks(ClickSource(path=path))
    log, _ = read_clicks(ClickSource(path=path, time_format="%d/%m/%Y %H:%M", timezone="UTC"))
    assert log.time.min().execute() == pd.Timestamp("2026-05-01 08:30")
    with pytest.raises(InputError, match="time_format"):
        check_sources(Sources(clicks=[ClickSource(path=path, time_format="%Q")]))


def test_times_are_kept_in_utc(tmp_path):
    lines = ["2026-01-05 08:30:00", "2026-01-05 08:30:00+08:00", "2026-01-05T00:30:00Z", "2026-01-05 08:30:00 AM"]
    path = write(tmp_path / "c.csv", "time,user_id,query,url\n" + "".join(f"{t},u,q,x\n" for t in lines))
    log, _ = read_clicks(ClickSource(path=path, timezone="Asia/Shanghai"))
    assert set(log.time.execute()) == {pd.Timestamp("2026-01-05 00:30:00")}
    summer = write(tmp_path / "s.csv", "time,user_id,query,url\n2026-07-05 08:30:00,u,q,x\n")
    log, _ = read_clicks(ClickSource(path=summer, timezone="Europe/Berlin"))
    assert log.time.execute().tolist() == [pd.Timestamp("2026-07-05 06:30:00")]
    american = write(tmp_path / "a.csv", "time,user_id,query,url\n2026-01-05 08:30:00 CST,u,q,x\n")
    log, _ = read_clicks(ClickSource(path=american, timezone="America/Chicago"))
    assert log.time.execute().tolist() == [pd.Timestamp("2026-01-05 14:30:00")]
    with pytest.raises(InputError, match="timezone: Mars/North is unknown"):
        read_clicks(ClickSource(path=path, timezone="Mars/North"))


def test_labels_are_words_booleans_and_full_width_digits(tmp_path):
    yes = ["1", "1.0", "true", "TRUE", "yes", "是", "相似", "相同", "１"]
    no = ["0", "0.0", "false", "False", "no", "否", "不相似", "不同", "０"]
    data = "text_a,text_b,label\n" + "".join(f"a{n},b{n},{word}\n" for n, word in enumerate(yes + no))
    table, dropped = read_pairs(PairSource(path=write(tmp_path / "p.csv", data), label_column="label"))
    assert table.label.tolist() == [1.0] * len(yes) + [0.0] * len(no)
    assert dropped.empty
    frame = pd.DataFrame({"text_a": ["甲", "丙"], "text_b": ["乙", "丁"], "label": [True, False]})
    frame.to_parquet(tmp_path / "p.parquet")
    frame.to_json(tmp_path / "p.jsonl", orient="records", lines=True, force_ascii=False)
    frame.astype(object).assign(label=[1, False]).to_excel(tmp_path / "p.xlsx", index=False)
    for name in ("p.parquet", "p.jsonl", "p.xlsx"):
        assert read_pairs(PairSource(path=str(tmp_path / name), label_column="label"))[0].label.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("values", [("1", "0"), ("是", "否"), ("TRUE", "FALSE"), ("0.9", "0")])
@pytest.mark.parametrize("name", ["label", "Score", "标签"])
def test_labels_without_label_column_are_an_error_that_names_the_column(tmp_path, name, values):
    path = write(tmp_path / "p.csv", f"text_a,text_b,{name}\n甲,乙,{values[0]}\n丙,丁,{values[1]}\n")
    with pytest.raises(InputError, match=f"column {name} looks like labels.*label_column: {name}"):
        read_pairs(PairSource(path=path))


def test_a_column_named_label_that_holds_no_labels_is_no_matter(tmp_path):
    path = write(tmp_path / "qa.csv", "question,answer,label\n甲,乙,账户\n丙,丁,贷款\n")
    assert len(texts(PairSource(path=path, **QA))) == 2


def test_grades_that_mean_nobody_judged(tmp_path):
    data = "text_a,text_b,grade\n" + "".join(f"甲{n},乙{n},{grade}\n" for n, grade in enumerate((0, 1, 2, 3, 99)))
    source = {"path": write(tmp_path / "g.csv", data)}
    with pytest.warns(UserWarning, match="grade 99 is far from the other grades"):
        pairs.collect(Sources(graded=[GradedSource(**source)]))
    found = pairs.collect(Sources(graded=[GradedSource(**source, unknown_grades=[99])]))
    assert sorted(found.graded.grade) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.dropped.reason.tolist() == ["grade unknown"]


# --- what teams have for training ---------------------------------------------------------------------------------

GROUPS = [
    {"query": "怎么改密码", "pos": ["如何修改密码", "密码修改方法"], "neg": ["如何注销账户"], "pos_scores": [0.9, 0.8]},
    {"query": "余额查询", "pos": "怎么查余额", "neg": ["转账限额", "余额宝收益"], "prompt": "x", "type": "normal"},
    {"query": "空", "pos": [], "neg": []},
]
LABELLED = [
    ("怎么改密码", "如何修改密码", 1.0),
    ("怎么改密码", "密码修改方法", 1.0),
    ("怎么改密码", "如何注销账户", 0.0),
    ("余额查询", "怎么查余额", 1.0),
    ("余额查询", "转账限额", 0.0),
    ("余额查询", "余额宝收益", 0.0),
]


def as_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_training_files_of_flagembedding(tmp_path):
    path = write(tmp_path / "train.jsonl", as_lines(GROUPS))
    table, dropped = read_groups(GroupSource(path=path))
    assert list(table.itertuples(index=False, name=None)) == LABELLED
    assert dropped.reason.tolist() == ["no text"]
    found = pairs.collect(Sources(groups=[GroupSource(path=path)]))
    assert len(found.edges) == 3
    assert len(found.different) == 3
    assert set(found.graded.grade) == {0.0, 1.0}
    # as question and answer, lists are rows, too
    qa = PairSource(path=path, a_column="query", b_column="pos")
    assert texts(qa) == [(a, b) for a, b, label in LABELLED if label]
    # where one value is wanted, a list is refused, before the run if all are lists
    log = {"user_column": None, "time_column": None}
    with pytest.raises(InputError, match="column neg holds lists"):
        check_sources(Sources(clicks=[ClickSource(path=path, url_column="neg", **log)]))
    _, dropped = read_clicks(ClickSource(path=path, url_column="pos", **log))
    assert dropped.reason.tolist() == ["column pos: a list or an object, not one value"]


def test_triplets_of_every_format(tmp_path):
    rows = [("问", "答", "错"), ("问", "答", "别的"), ("二", "两", "三")]
    frame = pd.DataFrame(rows, columns=["anchor", "positive", "negative"])
    frame.to_parquet(tmp_path / "t.parquet")
    folder = tmp_path / "saved" / "train"
    folder.mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as out,
        pa.ipc.new_stream(out, pa.Schema.from_pandas(frame)) as stream,
    ):
        stream.write_table(pa.Table.from_pandas(frame))
    write(folder / "dataset_info.json", "{}")
    write(folder / "state.json", "{}")
    for path in (tmp_path / "t.parquet", folder, folder.parent):
        table, dropped = read_triplets(TripletSource(path=str(path)))
        assert [tuple(row) for row in table[["a", "b"]].to_numpy()] == [
            *[("问", "答"), ("问", "错"), ("问", "别的"), ("二", "两"), ("二", "三")]
        ]
        assert table.label.tolist() == [1, 0, 0, 1, 0]
        assert dropped.empty
    write(folder.parent / "test" / "data-00000-of-00001.arrow", (folder / "data-00000-of-00001.arrow").read_bytes())
    with pytest.raises(InputError, match=r"holds test, train; name one of them, for example path: .*saved/test"):
        read_triplets(TripletSource(path=str(folder.parent)))


def test_a_folder_of_beir(tmp_path):
    write(
        tmp_path / "beir/corpus.jsonl", as_lines([{"_id": f"d{n}", "title": "题", "text": f"文{n}"} for n in range(4)])
    )
    write(tmp_path / "beir/queries.jsonl", as_lines([{"_id": f"{n}", "text": f"问{n}"} for n in range(2)]))
    judged = [("0", "d0", 2), ("0", "d1", 0), ("1", "d2", 1), ("1", "d9", 1), ("7", "d0", 1), ("1", "d3", "x")]
    lines = "".join("\t".join(map(str, row)) + "\n" for row in judged)
    path = write(tmp_path / "beir/qrels/test.tsv", "query-id\tcorpus-id\tscore\n" + lines)
    trec = write(tmp_path / "run.txt", "".join(f"{q} 0 {d} {n}\n" for q, d, n in judged))
    beside = {"queries": str(tmp_path / "beir/queries.jsonl"), "corpus": str(tmp_path / "beir/corpus.jsonl")}
    for source in (
        QrelsSource(path=str(tmp_path / "beir")),
        QrelsSource(path=path),
        QrelsSource(path=trec, delimiter=" ", header=False, **beside),
    ):
        check_sources(Sources(qrels=[source]))
        table, documents, dropped = read_qrels(source)
        assert list(table.itertuples(index=False, name=None)) == [
            *[("问0", "题 文0", 1.0), ("问0", "题 文1", 0.0), ("问1", "题 文2", 1.0)]
        ]
        assert documents.text.tolist() == [f"题 文{n}" for n in range(4)]
        assert dict(zip(dropped.reason, dropped.rows, strict=True)) == {
            **{"no document of this id": 1, "no query of this id": 1, "relevance is no number": 1}
        }
    found = pairs.collect(Sources(qrels=[QrelsSource(path=str(tmp_path / "beir"))]))
    assert len(found.texts) == 6
    assert len(found.edges) == 2


def test_nested_fields_lists_and_binary(tmp_path):
    rows = [{"body": {"query": "问", "hits": [{"t": 1}]}, "words": ["甲", "乙"]}]
    path = write(tmp_path / "n.jsonl", as_lines(rows))
    assert read_corpus(CorpusSource(path=path, text_column="body.query"))[0].text.tolist() == ["问"]
    assert read_corpus(CorpusSource(path=path, text_column="words"))[0].text.tolist() == ["甲", "乙"]
    assert read_synonyms(SynonymSource(path=path))[0].words.map(list).tolist() == [["甲", "乙"]]
    with pytest.raises(InputError, match=r"column body holds objects; name one of its fields: body\.query, body\.hits"):
        read_corpus(CorpusSource(path=path, text_column="body"))
    table = pa.table({**pa.Table.from_pylist(rows).to_pydict(), "raw": pa.array(["你好".encode()], pa.binary())})
    pq.write_table(table, tmp_path / "n.parquet")
    path = str(tmp_path / "n.parquet")
    assert read_corpus(CorpusSource(path=path, text_column="raw"))[0].text.tolist() == ["你好"]
    assert read_corpus(CorpusSource(path=path, text_column="body.query"))[0].text.tolist() == ["问"]
    assert read_synonyms(SynonymSource(path=path))[0].words.map(list).tolist() == [["甲", "乙"]]
    with pytest.raises(InputError, match="column body holds objects"):
        read_corpus(CorpusSource(path=path, text_column="body"))


# --- where files lie ----------------------------------------------------------------------------------------------

PART = "question,answer\n{0}问,{0}答\n"


def test_folders_patterns_and_odd_names(tmp_path):
    for name in ("a.csv", "b.csv", "deep/c.csv"):
        write(tmp_path / "parts" / name, PART.format(name[-5]))
    write(tmp_path / "parts/_SUCCESS", "")
    write(tmp_path / "parts/empty.csv", "")
    folder = str(tmp_path / "parts")
    assert texts(PairSource(path=folder, **QA)) == [("a问", "a答"), ("b问", "b答"), ("c问", "c答")]
    assert len(texts(PairSource(path=f"{folder}/?.csv", **QA))) == 2
    assert len(texts(PairSource(path=f"{folder}/**/*.csv", **QA))) == 3
    with pytest.raises(InputError, match="no file fits the pattern"):
        read_pairs(PairSource(path=f"{folder}/*.tsv", **QA))
    given = Sources(qa=[PairSource(path=f"{folder}/?.csv", **QA), PairSource(path=folder, **QA)])
    assert external_files(given) == [f"{folder}/?.csv", f"{folder}/a.csv", f"{folder}/b.csv", folder]
    write(tmp_path / "parts/d.csv", "question,reply\nx,y\n")
    with pytest.raises(InputError, match=r"d\.csv: no column answer"):
        check_sources(Sources(qa=[PairSource(path=folder, **QA)]))
    for name in ("log[1].csv", "log*.csv", "what?.csv"):
        write(tmp_path / "odd" / name, PART.format(name[3]))
        write(tmp_path / "odd" / "log1.csv", PART.format("wrong"))
        assert texts(PairSource(path=str(tmp_path / "odd" / name), **QA)) == [(f"{name[3]}问", f"{name[3]}答")]
    frame = pd.DataFrame({"question": ["问"], "answer": ["答"]})
    frame.to_parquet(tmp_path / "odd" / "p[1].parquet")
    assert texts(PairSource(path=str(tmp_path / "odd" / "p[1].parquet"), **QA)) == [("问", "答")]


def test_packed_files(tmp_path):
    data = PART.format("").encode()
    write(tmp_path / "a.csv.bz2", bz2.compress(data))
    write(tmp_path / "a.csv.xz", lzma.compress(data))
    with pa.CompressedOutputStream(str(tmp_path / "a.csv.zst"), "zstd") as out:
        out.write(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/问答.csv", data)
        archive.writestr("../../escape.csv", data)
        archive.writestr("readme.txt.bak", "x")
    for name in ("a.csv.bz2", "a.csv.xz", "a.csv.zst"):
        assert texts(PairSource(path=str(tmp_path / name), **QA)) == [("问", "答")]
    assert texts(PairSource(path=str(tmp_path / "a.zip"), **QA)) == [("问", "答")] * 2
    assert not os.path.exists(tmp_path.parent / "escape.csv")
    for name, message in (("b.csv.bz2", "damaged bz2"), ("b.zip", "damaged zip"), ("b.tar.gz", "unpack it")):
        with pytest.raises(InputError, match=message):
            read_pairs(PairSource(path=write(tmp_path / name, b"PK nonsense"), **QA))


def test_lists_of_json_objects(tmp_path):
    rows = [{"question": "问", "answer": "答", "n": [1]}, {"question": "问二", "answer": "a\nb"}]
    for name, indent in (("a.json", None), ("b.json", 2), ("c.jsonl", 2)):
        path = write(tmp_path / name, json.dumps(rows, ensure_ascii=False, indent=indent))
        assert texts(PairSource(path=path, **QA)) == [("问", "答"), ("问二", "a\nb")]
    path = write(tmp_path / "d.json", json.dumps({"version": 1, "data": rows}))
    with pytest.raises(InputError, match="rows are under data"):
        read_pairs(PairSource(path=path, **QA))


def test_files_on_other_machines(tmp_path):
    write(tmp_path / "a.csv", PART.format(""))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        source = PairSource(path=f"{base}/a.csv", **QA)
        assert texts(source) == [("问", "答")]
        assert external_files(Sources(qa=[source])) == []
        with pytest.raises(InputError, match=r"none\.csv: no such file"):
            read_pairs(PairSource(path=f"{base}/none.csv", **QA))
    finally:
        server.shutdown()
    with pytest.raises(InputError, match=r"see s3://, https://"):
        read_pairs(PairSource(path="carrier://pigeon/a.csv", **QA))


def test_s3_names_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(InputError, match=r"pip install 'bgetune\[s3\]'"):
        read_pairs(PairSource(path="s3://bucket/a.csv", **QA))


# --- workbooks ----------------------------------------------------------------------------------------------------


def test_workbooks_merged_cells_titles_sheets_and_dates(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["客服问答表 2026"],
        ["question", "answer"],
        ["怎么改密码", "去设置"],
        [None, "点安全中心"],
        ["注销", "客服"],
    ):
        sheet.append(row)
    sheet.merge_cells("A3:A4")
    sheet.merge_cells("A1:B1")
    other = book.create_sheet("日志")
    for row in (
        ["query", "user_id", "time", "url"],
        ["改密码", 123456789012345, 45678.354, "d1"],
        ["改", 7.5, 45678.5, True],
    ):
        other.append(row)
    path = str(tmp_path / "b.xlsx")
    book.save(path)
    with pytest.raises(InputError, match="row 2 has it: set skip_rows: 1"):
        read_pairs(PairSource(path=path, **QA))
    found = texts(PairSource(path=path, skip_rows=1, **QA))
    assert found == [("怎么改密码", "去设置"), ("怎么改密码", "点安全中心"), ("注销", "客服")]
    with pytest.raises(InputError, match="sheet 日志 has it: set table: 日志"):
        read_clicks(ClickSource(path=path))
    log, _ = read_clicks(ClickSource(path=path, table="日志", timezone="UTC"))
    log = log.order_by("time").to_pandas()
    assert log.time.astype(str).tolist() == ["2025-01-21 08:29:46", "2025-01-21 12:00:00"]
    assert log.user_id.tolist() == ["123456789012345", "7.5"]
    assert log.url.tolist() == ["d1", "true"]
    with pytest.raises(InputError, match="no sheet none; it has Sheet, 日志"):
        read_clicks(ClickSource(path=path, table="none"))


def test_all_sheets_of_a_workbook(tmp_path):
    with pd.ExcelWriter(tmp_path / "b.xlsx") as book:
        for name in ("一", "二"):
            pd.DataFrame({"question": [name], "answer": ["答"]}).to_excel(book, sheet_name=name, index=False)
    path = str(tmp_path / "b.xlsx")
    assert texts(PairSource(path=path, **QA)) == [("一", "答")]
    assert texts(PairSource(path=path, table="*", **QA)) == [("一", "答"), ("二", "答")]


def test_ids_that_excel_rounded_are_said(tmp_path):
    rows = [f"2026-03-02 08:00:0{n},1.2345{n}E+18,怎么退款,{url}" for n, url in enumerate(["a", "b", "1E+3"])]
    path = write(tmp_path / "log.csv", "time,user_id,query,url\n" + "\n".join(rows) + "\n")
    log, dropped = read_clicks(ClickSource(path=path))
    assert log.count().execute() == 3
    (told,) = dropped.itertuples()
    assert (told.rows, told.example) == (3, "1.23450e+18")
    assert told.reason.startswith("user_id rounded by Excel")
    assert "format the column as text" in told.reason


def test_a_sheet_of_libreoffice(tmp_path):
    office = "urn:oasis:names:tc:opendocument:xmlns"
    rows = [("question", "answer"), ("怎么退款", "点申请退款"), ("怎么开发票", "点开发票")]
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    lines = "".join(f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>" for row in rows)
    names = " ".join(f'xmlns:{name}="{office}:{name}:1.0"' for name in ("office", "table", "text"))
    content = (
        f'<office:document-content {names} office:version="1.2"><office:body><office:spreadsheet>'
        f'<table:table table:name="faq">{lines}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
    manifest = f'<manifest:manifest xmlns:manifest="{office}:manifest:1.0">{entry}</manifest:manifest>'
    with zipfile.ZipFile(tmp_path / "faq.ods", "w") as file:
        for name, text in (("mimetype", kind), ("META-INF/manifest.xml", manifest), ("content.xml", content)):
            file.writestr(name, text)
    source = PairSource(path=str(tmp_path / "faq.ods"), a_column="question", b_column="answer")
    table, dropped = read_pairs(source)
    assert table[["a", "b"]].to_numpy().tolist() == [["怎么退款", "点申请退款"], ["怎么开发票", "点开发票"]]
    assert dropped.empty
    with pytest.raises(InputError, match="no sheet none; it has faq"):
        read_pairs(source.model_copy(update={"table": "none"}))
