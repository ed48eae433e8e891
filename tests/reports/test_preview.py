from bgetune.config.sources import Sources
from bgetune.data.text import Normalizer
from bgetune.reports import preview


def test_every_source_shows_what_is_what_and_what_was_recognised(tmp_path):
    log = tmp_path / "log.csv"
    log.write_bytes("when;who;q;u\n2026年1月5日 8:30;u1;<b>支付密码</b> 13800000001;a\n".encode("gb18030"))
    (tmp_path / "pairs.csv").write_text("text_a,text_b,label\n怎么退款,如何退款,相似\n发票,退款,否\n", "utf-8")
    given = Sources.model_validate(
        {
            "clicks": [{"path": str(log), "query_column": "q", "user_column": "who", "time_column": "when"}
                       | {"url_column": "u", "timezone": "Asia/Shanghai"}],
            "pairs": [{"path": str(tmp_path / "pairs.csv"), "label_column": "label"}],
        }
    )  # fmt: skip
    shown = preview.sources(given, Normalizer())
    assert "query (q)" in shown.text
    assert "2026年1月5日 8:30 = 2026-01-05 00:30:00 UTC" in shown.text
    assert "<电话>" in shown.text
    assert "13800000001" not in shown.html
    assert "<b>" not in shown.html.replace("<b>1", "")
    assert "gb18030 (recognised)" in shown.html
    assert "; (recognised)" in shown.html
    assert "Asia/Shanghai" in shown.html
    assert "Asia/Shanghai (this machine" not in shown.html
    lines = [line for line in shown.text.splitlines() if "退款" in line]
    assert [line.split()[-1] for line in lines] == ["1", "0"]


def test_a_time_zone_that_nobody_gave_is_said(tmp_path):
    (tmp_path / "log.csv").write_text("time,user_id,query,url\n2026-01-05 08:30:00,u,q,a\n", "utf-8")
    shown = preview.sources(Sources.model_validate({"clicks": [{"path": str(tmp_path / "log.csv")}]}), Normalizer())
    assert "this machine's; set timezone" in shown.html.replace("&#x27;", "'")
