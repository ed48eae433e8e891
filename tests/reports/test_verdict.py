import pytest
from made import results

from bgetune.reports import sections, verdict


def said(made):
    return " ".join(verdict.sentences(made)).replace("\u00a0", " ")


def test_help_is_told_with_its_use_and_its_evidence():
    text = said(results())
    assert text == (
        "Tuning helped: average precision went from 0.500 to 0.875. "
        "At 95 % precision the model now finds 79 % of the paraphrases; before, 12 %. "
        "Judged on 1,182 pairs from 40 clusters of meaning that no training saw, labelled by people. "
        "The calibrated scores are off by 0.030 on average (95 % interval 0.000 to 0.060)."
    )


def test_pairs_held_out_against_the_base_are_said_to_be_so():
    made = results()
    made["pairs"]["pairs"] = "held out"
    assert "makes the base look worse than it is" in said(made)


@pytest.mark.parametrize(
    ("interval", "outcome", "words"),
    [
        ((0.01, 0.5), "helped", "Tuning helped"),
        ((-0.5, -0.01), "harmed", "Keep the base model"),
        ((-0.01, 0.01), "same", "Tuning did not help"),
        ((-0.1, 0.5), "unclear", "Too few pairs to tell"),
        ((0.0, 0.5), "unclear", "Too few pairs to tell"),
    ],
)
def test_only_an_interval_without_0_is_a_gain_or_a_loss(interval, outcome, words):
    made = results(interval=interval)
    assert verdict.outcome(made) == outcome
    assert words in said(made)


def test_a_handful_of_clusters_proves_nothing():
    made = results(interval=(0.2, 0.5), clusters=9)
    assert verdict.outcome(made) == "unclear"
    assert "9 clusters" in said(made)
    assert verdict.look(made, "average_precision") == ""


def test_a_run_without_intervals_gets_no_verdict():
    made = results()
    del made["difference"]
    assert verdict.outcome(made) == "unknown"
    assert "run notebook 05 again" in said(made)
    assert verdict.in_words(made, "average_precision") == "not known"


@pytest.mark.parametrize(
    ("key", "interval", "look"),
    [
        ("average_precision", (0.1, 0.2), "good"),
        ("average_precision", (-0.2, -0.1), "bad"),
        ("average_precision", (-0.1, 0.2), ""),
        ("average_precision", (0.0, 0.0), ""),
        ("overlap", (0.1, 0.2), "bad"),
        ("overlap", (-0.2, -0.1), "good"),
        ("overlap", (-0.1, 0.2), ""),
    ],
)
def test_colours_follow_the_interval_of_the_difference(key, interval, look):
    assert verdict.look(results(interval=interval), key) == look


def test_where_the_base_accepts_everything_a_fall_at_the_fixed_threshold_is_no_loss():
    fallen = results(interval=(-0.4, -0.2), accepted=0.97)
    assert verdict.look(fallen, "f1_at_0.8") == ""
    assert verdict.in_words(fallen, "f1_at_0.8").replace("\u00a0", " ") == (
        "before, 0.8 accepts everything (97 % of the pairs): no loss"
    )
    assert verdict.look(fallen, "average_precision") == "bad", "other measures are not excused"
    assert verdict.look(results(interval=(-0.4, -0.2), accepted=0.5), "f1_at_0.8") == "bad"
    risen = results(accepted=0.97)
    assert verdict.look(risen, "f1_at_0.8") == "good"
    assert "accepts everything" in verdict.in_words(risen, "f1_at_0.8")


def test_failed_calibration_is_said():
    assert "Calibration failed: the calibrated scores are off by 0.230" in said(results(ece=(0.23, 0.18, 0.28)))
    assert "Calibration failed" not in said(results(ece=(0.06, 0.01, 0.1))), "that may be chance"


def test_a_guarantee_of_one_model_alone():
    assert "before, no threshold guaranteed that" in said(results(recalls=[{"before": None}]))
    nothing = {"before": None, "after": None}
    assert "No threshold of the cosine guarantees any of the wanted precisions yet." in said(results(recalls=[nothing]))
    ninety = results(recalls=[{"precision": 0.9}, nothing])
    assert "At 90 % precision" in said(ninety), "the kept one that is nearest to 95 %"
    assert "may be chance" in said(results(recalls=[{"difference_low": -0.1}]))


# --- the next step ------------------------------------------------------------------------------------------------


def step(made, **mined):
    return verdict.next_step({"03_hard_negatives": {"metrics": mined}}, made).replace("\u00a0", " ")


def test_harm_comes_first():
    assert "fewer epochs" in step(results(interval=(-0.5, -0.1), ece=(0.3, 0.2, 0.4)))


def test_the_pairs_it_takes_to_tell_are_computed():
    # the half-width 0.3 is twice the difference 0.15: four times the pairs, three times as many more
    made = results(0.5, 0.65, (-0.15, 0.45))
    assert "Label about 3,600 more pairs" in step(made)
    assert "from other meanings" in step(results(0.5, 0.5, (-0.3, 0.3)))


def test_starved_queries_name_the_rule():
    text = step(results(), with_negatives=0.6, rules={"margin": 50, "veto": 3, "(taken)": 900})
    assert "only 60 % of the queries" in text
    assert "rule margin" in text


def test_pairs_for_a_guarantee_are_counted():
    text = step(results(recalls=[{}, {"precision": 0.99, "after": None, "needed": 1806}]))
    assert "Label about 630 more pairs" in text
    assert "99 % precision takes 1,806 pairs" in text
    assert "there are 1,182" in text


def test_a_failed_calibration_asks_for_pairs():
    assert "fitted on 1,182 pairs from 40 clusters" in step(results(ece=(0.2, 0.1, 0.3)))


def test_a_reranker_is_advised_where_its_gain_is_proven():
    rows = {"after": {"mrr": 0.5, "gain": 0.0, "gain_low": 0.0, "gain_high": 0.0}}
    rows["after, reranker"] = {"mrr": 0.75, "gain": 0.25, "gain_low": 0.125, "gain_high": 0.375}
    made = results(retrieval=rows, milliseconds={"rerank": 32.4})
    assert step(made) == (
        "Use the reranker behind the search: MRR rises from 0.500 to 0.750 (+0.125 to +0.375 more), for 32 ms a query."
    )
    rows["after, reranker"]["gain_low"] = -0.1
    assert "reranker" not in step(made)


def test_then_people_judge_and_read():
    assert "Judge the 7 doubtful pairs" in step(results(), doubtful=7)
    assert "Read the mistakes" in step(results())


def test_where_the_cosine_guarantees_nothing_it_is_said_what_the_reranker_does():
    missing = [{"precision": precision, "before": None, "after": None} for precision in (0.9, 0.95)]
    rows = [
        {"precision": 0.9, "decided by": "cosine", "threshold": None, "test_recall": None},
        {"precision": 0.9, "decided by": "reranker", "threshold": 0.7, "test_recall": 0.4},
        {"precision": 0.95, "decided by": "reranker", "threshold": 0.8, "test_recall": 0.25},
        {"precision": 0.95, "decided by": "cosine and reranker together", "threshold": 0.9, "test_recall": 0.3},
    ]
    text = said(results(recalls=missing, decisions=rows))
    assert "(cosine and reranker together), 95 % precision is guaranteed, at a recall of 30 %." in text
    assert "With the reranker" not in said(results(recalls=missing, decisions=rows[:1]))


@pytest.mark.parametrize(
    ("origin", "words"), [("generated", "a language model"), ("documents", "parts of one document")]
)
def test_pairs_that_no_person_made_are_said_to_be_so_wherever_numbers_stand(origin, words):
    made = results()
    made["pairs"] |= {"pairs": origin, "human_labels": 1200}
    assert words in verdict.evidence(made)
    assert words in verdict.size_of_evidence(made)
    assert "about 1,200 pairs labelled by people" in said(made)
    assert step(made, doubtful=20).startswith("Label pairs (sources: pairs), about 1,200 in the end")
    rows = [{"precision": 0.95, "cosine": 0.7, "probability": 0.5, "test_precision": 0.9, "test_recall": 0.5}]
    assert words in sections.thresholds(made | {"thresholds": rows}, 0.95)._repr_html_()
    assert words not in sections.thresholds(results(thresholds=rows), 0.95)._repr_html_()


def test_pairs_too_few_to_calibrate_give_no_number_of_the_calibration():
    found = results(clusters=2, interval=(-0.1, 0.4), recalls=[{"after": None, "before": None}], ece=(0.3, 0.2, 0.4))
    found["pairs"] |= {"doubt": "few", "human_labels": 400}
    said = " ".join(verdict.sentences(found))
    assert "Too few pairs to tell whether tuning helped: they come from 2 clusters" in said
    assert "Too few pairs to calibrate: dev holds 590 positive and 592 negative pairs from 2 clusters" in said
    assert "off by" not in said
    assert not verdict.calibration_failed(found)
    table = sections.thresholds(found | {"thresholds": [dict.fromkeys(THRESHOLD) | {"precision": 0.5}]}, 0.95)
    assert "too few pairs or clusters in dev to trust a threshold" in table.html
    enough = results(interval=(0.1, 0.4))
    enough["pairs"] |= {"doubt": "few", "human_labels": 400}
    for made in (found, enough):  # one number of pairs, that of the doubt, and not what would narrow an interval
        text = verdict.next_step({}, made)
        assert text.startswith("Give more data, a larger dev_fraction and test_fraction")
        assert "about 400 pairs in all" in text


THRESHOLD = ("precision", "cosine", "probability", "test_precision", "test_recall", "guarantee")
