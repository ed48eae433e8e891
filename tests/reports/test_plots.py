import pandas as pd

from bgetune.reports import plots


def test_whole_numbers_have_no_decimals():
    rows = pd.DataFrame({"queries": [5668.0, 12.0], "share": [1.0, 0.25], "seen": [1.0, None], "text": ["<b>", "x"]})
    html = plots.table(rows).format(precision=4, thousands=",", escape="html").to_html()
    assert ">5,668<" in html
    assert ">0.2500<" in html
    assert ">1.0000<" in html  # the share beside 0.25, and a number beside none
    assert "&lt;b&gt;" in html
