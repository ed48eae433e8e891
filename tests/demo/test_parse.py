import pandas as pd
import pytest

from bgetune_demo.language import sentences, stream
from bgetune_demo.lexicon import load, near_misses
from bgetune_demo.parse import keeps_meaning, meaning_of, meanings_of, shares


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("如何修改支付密码", "account.pay_password.change.how"),
        ("登录密码怎么更改", "account.login_password.change.how"),
        ("你好 请问怎么改登路蜜码 谢谢", "account.login_password.change.how"),
        ("刷脸支付 开启 失败", "payment.face_pay.open.fail"),
        ("在国外如何修改支付密码", "account.pay_password.change.how@abroad"),
        ("支付密码我现在怎么修改?", "account.pay_password.change.how"),
        ("如何修改支付密", None),
        ("如何修改修改支付密码", None),
        ("支付密码", None),
        ("qwer", None),
        ("", None),
    ],
)
def test_meaning_of(text, meaning):
    assert meaning_of(text) == meaning


def test_every_sentence_of_the_lexicon_is_read_as_what_it_means():
    lexicon = load()
    for meaning in lexicon.meanings[::7]:
        for sentence in sentences(lexicon, meaning, 5, stream(3, meaning.id)):
            assert meaning_of(sentence.zh) == meaning.id, sentence.zh


def test_near_misses_are_told_apart():
    lexicon = load()
    for first, second in near_misses(lexicon.meanings)[::25]:
        for sentence in sentences(lexicon, first, 3, stream(4, first.id)):
            assert second.id not in meanings_of(sentence.zh), sentence.zh


def test_keeps_meaning_says_nothing_of_unknown_origins():
    truth = {"a": "account.pay_password.change.how", "b": ""}
    origins = pd.Series(["a", "a", "b", "never seen"], index=[5, 6, 7, 8])
    kept = keeps_meaning(
        origins, pd.Series(["怎样更改付款密码", "怎样更改登录密码", "首页", "没见过"], index=[5, 6, 7, 8]), truth
    )
    assert kept.index.tolist() == [5, 6, 7, 8]
    assert kept.astype(object).where(kept.notna(), None).tolist() == [True, False, None, None]


def test_shares():
    correct = pd.Series([True, True, False, False, None], dtype="boolean")
    table = shares(correct, pd.Series([True, True, False, False, True]))
    assert table["correct"].to_dict() == {"ungated": 0.5, "kept": 1.0}
    assert table["paraphrases"].to_dict() == {"ungated": 4, "kept": 2}
    # Wilson's interval for 2 of 4
    assert table.loc["ungated", ["low", "high"]].tolist() == pytest.approx([0.150, 0.850], abs=1e-3)
