import pytest

from bgetune import locale
from bgetune.reports import reranking

GAINS = {f"{name}_gain{end}": 0.0 for name in ("mrr", "auc", "average_precision") for end in ("", "_low", "_high")}
NOTHING = {"tuning": None, "tuning_low": None, "tuning_high": None, "ms a pair": 2.0, "ms a query": 5.0}


def row(name, value, low, high, **more):
    gains = {f"{measure}_gain_low": low for measure in ("mrr", "auc", "average_precision")}
    gains |= {f"{measure}_gain_high": high for measure in ("mrr", "auc", "average_precision")}
    measures = dict.fromkeys(("mrr", "auc", "average_precision"), value)
    return {"scored by": name, **measures, **GAINS, **gains, **NOTHING, **more}


COSINE = row("cosine", 0.8, 0.0, 0.0)


@pytest.fixture(autouse=True)
def english():
    with locale.using("en"):
        yield


def test_a_reranker_that_gains_is_told_with_its_price():
    rows = [COSINE, row("reranker", 0.85, 0.01, 0.09), row("both", 0.875, 0.05, 0.1, **{"ms a pair": 12.0})]
    said = reranking.in_words(rows)
    assert said == (
        "The reranker gains beside the tuned model: MRR 0.800 without, 0.875 with it (+0.050 to +0.100); average "
        "precision 0.800 without, 0.875 with it (+0.050 to +0.100). A pair takes 12.0 ms with it, 2.0 ms without."
    )
    assert "tuned reranker" not in str(reranking.table(rows))


def test_one_that_is_within_chance_is_to_be_left_out():
    rows = [COSINE, row("reranker", 0.7, -0.2, -0.05), row("both", 0.81, -0.01, 0.02)]
    said = reranking.in_words(rows)
    assert said.startswith(
        "The reranker is not worth its time here: beside the tuned model it gains no more than chance"
    )
    assert said.endswith("Leave it out.")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0.01, 0.1), "Tuning raised the reranker's average precision from 0.700 to 0.750"),
        ((-0.01, 0.1), "no more than chance may: 0.700 before, 0.750 after"),
        ((-0.1, -0.01), "Tuning lowered the reranker's average precision from 0.700 to 0.750"),
    ],
)
def test_what_tuning_changed(bounds, said):
    tuning = {"tuning": 0.05, "tuning_low": bounds[0], "tuning_high": bounds[1]}
    rows = [COSINE, row("untuned reranker", 0.7, -0.2, -0.1), row("reranker", 0.75, -0.1, 0.0, **tuning)]
    assert said in reranking.in_words(rows)
    page = reranking.table(rows)._repr_html_()
    assert "tuned reranker" in page
    assert "untuned reranker" in page


def test_without_a_reranker_or_measures():
    assert reranking.table([]) is None
    assert reranking.in_words([]) == "There is no reranker to compare with."
    missing = row("both", 0.9, 0.05, 0.1, mrr=None, mrr_gain_low=None, mrr_gain_high=None)
    said = reranking.in_words([COSINE | {"mrr": None}, row("reranker", 0.85, 0.01, 0.09, mrr=None), missing])
    assert "MRR" not in said
    assert "average precision 0.800 without, 0.900 with it" in said
