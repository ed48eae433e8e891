import pytest

from bgetune.config.sources import PairSource
from bgetune.data.sources import read_pairs
from bgetune.data.textfiles import CHUNK
from bgetune.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
@pytest.mark.parametrize("question", ["问", '"问\n题"'])
def test_a_first_row_beyond_what_is_looked_at_at_once(tmp_path, encoding, question):
    path = tmp_path / "p.csv"
    path.write_text(f"title\ntext_a,text_b\n{question},{'长' * 800_000}\nq,短\n", encoding=encoding)
    table, dropped = read_pairs(PairSource(path=str(path), skip_rows=1))
    assert table.b.str.len().tolist() == [800_000, 1]
    assert dropped.empty


def test_a_first_row_beyond_every_limit_is_said(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"text_a,text_b\nx,{'y' * (2 * CHUNK)}\n")
    with pytest.raises(InputError, match=r"p\.csv: a line of more than 8 MB"):
        read_pairs(PairSource(path=str(path)))
