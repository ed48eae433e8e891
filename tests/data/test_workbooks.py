import openpyxl

from bgetune.config.sources import ClickSource
from bgetune.data import workbooks
from bgetune.data.sources import read_clicks

IDS = {
    1001: "1001",
    1001.5: "1001.5",
    999999999999999: "999999999999999",
    1234567890123456: "1234567890123456",
    -(2**53) + 1: "-9007199254740991",
    2**53: "9.007199254740992E+15",
    10**18: "1E+18",
    1234567890123456789: "1.234567890123457E+18",
}


def test_whole_numbers_have_all_digits_until_they_are_rounded(tmp_path):
    path = tmp_path / "log.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["time", "user_id", "query", "url"])
    for number in IDS:
        book.active.append(["08:00:00", number, "怎么退款", "d"])
    book.save(path)
    assert workbooks.read(path, "log.xlsx").user_id.tolist() == list(IDS.values())
    _, dropped = read_clicks(ClickSource(path=str(path)))
    (told,) = dropped.itertuples()
    assert told.reason.startswith("user_id rounded by Excel")
    assert told.rows == 3
