import pandas as pd
import pytest

from bgetune.data.tabular import read_table
from bgetune.errors import InputError

ROWS = [("怎么改密码", '说 "好", 对\n换行', "1"), ("余额", "怎么查余额", "0")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_of_text_are_recognised(tmp_path, encoding, delimiter):
    frame = pd.DataFrame(ROWS, columns=["query", "document", "n"])
    frame.to_csv(tmp_path / "p.csv", sep=delimiter, index=False, encoding=encoding)
    table = read_table(tmp_path / "p.csv", "p.csv", ["query", "document"])
    assert list(table.itertuples(index=False, name=None)) == ROWS


def test_every_other_format(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["query", "document", "n"])
    frame.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    frame.assign(more=[["a"], []]).to_parquet(tmp_path / "p.parquet")
    frame.to_excel(tmp_path / "p.xlsx", index=False)
    frame.to_csv(tmp_path / "p.csv.gz", index=False)
    for name in ("p.jsonl", "p.parquet", "p.xlsx", "p.csv.gz"):
        table = read_table(tmp_path / name, name, ["query"])
        assert list(table[["query", "document", "n"]].itertuples(index=False, name=None)) == ROWS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "p.csv: empty; the first line names the columns"),
        (b"query,b\n1,2\n3\n", "p.csv, line 3: cannot be read: 1 fields, not 2"),
        (b'query,b\n1,2\n"3,4\n', "p.csv, line 3: cannot be read: a quote that never closes"),
        (b"query,query\n1,2\n", "p.csv: column query is there twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, data, message):
    (tmp_path / "p.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "p.csv", "p.csv", ["query"])
