"""What the figures of a run say, in sentences: did tuning help, what can the scores be trusted with, what to do next.

A figure counts as better or worse only where the 95 % interval of its difference, measured on the same resamples of
test clusters for both models, leaves out 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from bgetune.locale import N_, _
from bgetune.metrics import worth
from bgetune.metrics.statistics import FEWEST_CLUSTERS
from bgetune.reports.numbers import count, interval, number, rounded_up, share

Change = Literal["better", "worse", "chance", "unknown"]
Outcome = Literal["helped", "harmed", "same", "unclear", "unknown"]

MEASURES = {
    "auc": (N_("AUC"), N_("Probability that a positive pair scores above a negative one"), "up"),
    "average_precision": (N_("Average precision"), N_("Area under the precision-recall curve"), "up"),
    "overlap": (N_("Overlap"), N_("Share that positive and negative score distributions have in common"), "down"),
    "mean_squared_cosine_random": (N_("Drift"), N_("Mean squared cosine of random pairs"), "down"),
    "crowded_share": (N_("Bunching"), N_("Share of the pairs in the band that held the middle 80 % before"), "down"),
}
"""The headline measures: key -> name, meaning, and whether more or less is better."""

CONTEXT = {
    "best_f1": (
        N_("Best F1"),
        N_(
            "At each model's own best threshold. Where half of the pairs are positives, accepting all of them already "
            "gives 0.67"
        ),
        "up",
    ),
    "f1_at_0.8": (
        N_("F1 at the fixed 0.8"),
        N_("What the usual fixed threshold gives. Tuning moves all scores, so that 0.8 may no longer suit them"),
        "up",
    ),
    "share_0.6_0.9": (
        N_("Share in 0.6-0.9"),
        N_("Where the scores of BGE models bunch. Misleads for other models, and where good positives score below 0.9"),
        "down",
    ),
}
"""Well-known measures that depend on where the scores lie: shown for context, as `MEASURES`."""

JUDGED_BY = "average_precision"
"""The measure that decides whether tuning helped: it needs no threshold."""

NO_MATTER = 0.02
"""A difference that certainly is no larger than this is called none."""

ACCEPTS_ALL = 0.9
"""Share of accepted pairs from which a threshold is said to accept everything."""

CALIBRATION_FAILED = 0.05
"""Calibration has failed where the interval of its error (ECE) lies above this."""


def change(results: Mapping[str, Any], key: str) -> Change:
    """Whether a headline measure became better or worse, or may have changed by chance alone."""
    bounds = results.get("difference", {}).get(f"{key}_interval")
    if not bounds or None in bounds or not all(bound == bound for bound in bounds):
        return "unknown"
    low, high = bounds
    if clusters_judged(results) < FEWEST_CLUSTERS or low <= 0 <= high:
        return "chance"
    return "better" if (low > 0) == ((MEASURES | CONTEXT)[key][2] == "up") else "worse"


def accepts_everything(results: Mapping[str, Any]) -> bool:
    """Whether nearly every pair reached the fixed threshold of 0.8 before: it decided nothing then."""
    return results.get("before", {}).get("accepted_at_0.8", 0) >= ACCEPTS_ALL


def clusters_judged(results: Mapping[str, Any]) -> int:
    """Clusters that the test pairs come from: what the evidence counts in. 0 where a run did not record it."""
    return results.get("pairs", {}).get("balance", {}).get("test", {}).get("clusters", 0)


def pairs_judged(results: Mapping[str, Any]) -> int:
    """Pairs that the models were judged on."""
    test = results.get("pairs", {}).get("balance", {}).get("test", {})
    return test.get("positives", 0) + test.get("negatives", 0)


def outcome(results: Mapping[str, Any]) -> Outcome:
    """Whether tuning helped, harmed, changed nothing that matters, or the pairs are too few to tell."""
    found = change(results, JUDGED_BY)
    if found == "better":
        return "helped"
    if found == "worse":
        return "harmed"
    if found == "unknown":
        return "unknown"
    low, high = results["difference"][f"{JUDGED_BY}_interval"]
    return "same" if max(-low, high) <= NO_MATTER and clusters_judged(results) >= FEWEST_CLUSTERS else "unclear"


def doubtful(results: Mapping[str, Any]) -> bool:
    """Whether dev could not carry a calibration: scores are plain cosines then, and there is no threshold."""
    return bool(results.get("pairs", {}).get("doubt"))


def calibration_failed(results: Mapping[str, Any]) -> bool:
    """Whether the calibrated scores are surely off by more than `CALIBRATION_FAILED`."""
    low = results.get("calibration", {}).get("ece_low")
    return not doubtful(results) and low is not None and low > CALIBRATION_FAILED


def sentences(results: Mapping[str, Any]) -> list[str]:
    """The verdict: the outcome, what it means for those who use the scores, and the evidence it stands on."""
    said = [_outcome_in_words(results)]
    guarantee = _guarantee_in_words(results) if outcome(results) in ("helped", "same", "unclear") else None
    said += [guarantee] if guarantee else []
    said += [evidence(results), *filter(None, [worth.caution(results.get("pairs", {}))])]
    error = results.get("calibration", {})
    if error.get("ece_low") is not None and not doubtful(results):
        text = _("The calibrated scores are off by {error} on average (95 % interval {bounds}).")
        if calibration_failed(results):
            text = _(
                "Calibration failed: the calibrated scores are off by {error} on average (95 % interval {bounds}); do "
                "not read them as probabilities."
            )
        bounds = interval([error["ece_low"], error["ece_high"]])
        said.append(text.format(error=number(error["ece"]), bounds=bounds))
    return said


def _outcome_in_words(results: Mapping[str, Any]) -> str:
    names = {
        "helped": N_("Tuning helped: average precision went from {before} to {after}."),
        "harmed": N_(
            "Tuning made the model worse: average precision fell from {before} to {after} (95 % interval of the "
            "difference {bounds}). Keep the base model."
        ),
        "same": N_(
            "Tuning did not help: average precision went from {before} to {after}, and the 95 % interval of the "
            "difference ({bounds}) leaves no room for a gain that matters."
        ),
        "unclear": N_(
            "Too few pairs to tell whether tuning helped: average precision went from {before} to {after}, but the "
            "95 % interval of the difference, {bounds}, includes 0."
        ),
        "unknown": N_("This run does not record how sure its figures are; run notebook 05 again to see a verdict."),
    }
    found = outcome(results)
    if found == "unclear" and clusters_judged(results) < FEWEST_CLUSTERS:
        return _(
            "Too few pairs to tell whether tuning helped: they come from {clusters} clusters of meaning, and it takes "
            "{fewest} at least."
        ).format(clusters=count(clusters_judged(results)), fewest=FEWEST_CLUSTERS)
    return _(names[found]).format(
        before=number(results.get("before", {}).get(JUDGED_BY)),
        after=number(results.get("after", {}).get(JUDGED_BY)),
        bounds=interval(results.get("difference", {}).get(f"{JUDGED_BY}_interval"), signs=True),
    )


def _guarantee_in_words(results: Mapping[str, Any]) -> str | None:
    """Recall at the precision that people ask for most, 95 %; where that is not guaranteed, at the nearest that is."""
    kept = [row for row in results.get("recalls", ()) if row["after"] is not None]
    if not kept:
        if not results.get("recalls"):
            return None
        said = _("No threshold of the cosine guarantees any of the wanted precisions yet.")
        return " ".join([said, *_guaranteed_by_the_reranker(results)])
    row = min(kept, key=lambda row: abs(row["precision"] - 0.95))
    values = {"precision": share(row["precision"]), "after": share(row["after"])}
    if row["before"] is None:
        text = _(
            "At {precision} precision the model now finds {after} of the paraphrases; before, no threshold "
            "guaranteed that."
        )
        return text.format(**values)
    text = _("At {precision} precision the model now finds {after} of the paraphrases; before, {before}.")
    said = text.format(**values, before=share(row["before"]))
    if row["difference_low"] <= 0 <= row["difference_high"]:
        said += " " + _("That difference may be chance.")
    return said


def _guaranteed_by_the_reranker(results: Mapping[str, Any]) -> Iterator[str]:
    """What the reranker, alone or with the cosine, guarantees where the cosine does not: the highest such precision."""
    missing = {row["precision"] for row in results["recalls"] if row["after"] is None}
    able = [
        row
        for row in results.get("decisions", ())
        if row["precision"] in missing and row["threshold"] is not None and row["decided by"] != "cosine"
    ]
    if able:
        row = max(able, key=lambda row: (row["precision"], row["test_recall"]))
        text = _("With the reranker ({by}), {precision} precision is guaranteed, at a recall of {recall}.")
        by = _(row["decided by"])
        yield text.format(by=by, precision=share(row["precision"]), recall=share(row["test_recall"]))


def evidence(results: Mapping[str, Any]) -> str:
    """How many pairs, from how many meanings, and who says what they mean."""
    origin = results.get("pairs", {}).get("pairs")
    mined = _(
        "Judged on {pairs} pairs from {clusters} clusters of meaning that no training saw. Their negatives are "
        "what the base model took for similar, which makes the base look worse than it is."
    )
    texts = {
        "labelled": _(
            "Judged on {pairs} pairs from {clusters} clusters of meaning that no training saw, labelled by people."
        ),
        "generated": _(
            "Judged on {pairs} pairs from {clusters} documents that no training saw: the positives and near-misses "
            "were written by a language model, the other negatives are what the base model took for similar."
        ),
        "documents": _(
            "Judged on {pairs} pairs from {clusters} documents that no training saw: the positives are two parts of "
            "one document, the negatives parts of others that the base model took for similar."
        ),
    }
    text = texts.get(origin, mined)
    return text.format(pairs=count(pairs_judged(results)), clusters=count(clusters_judged(results)))


def size_of_evidence(results: Mapping[str, Any]) -> str:
    """The numbers of `evidence`, to stand beside figures."""
    text = _("They stand on {pairs} test pairs from {clusters} clusters.")
    if mark := worth.mark(results.get("pairs", {}).get("pairs")):
        text = _("They stand on {pairs} test pairs from {clusters} clusters, {mark}.").replace("{mark}", mark)
    return text.format(pairs=count(pairs_judged(results)), clusters=count(clusters_judged(results)))


def figure_in_words(results: Mapping[str, Any]) -> str:
    """What the picture of the scores shows, for those who do not see it."""
    before, after = (results.get(name, {}).get("overlap") for name in ("before", "after"))
    if before is None or after is None:
        return _("Distributions of the scores of positives, hard negatives and random pairs, before and after tuning.")
    return _(
        "Before tuning, the scores of pairs of one meaning and of hard negatives have {before} of their distributions "
        "in common; after tuning, {after}."
    ).format(before=share(before), after=share(after))


# --- the next step ------------------------------------------------------------------------------------------------


def next_step(stages: Mapping[str, Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """The first step that applies, from what makes the run useless to what makes a good one better."""
    return next(_steps(stages, results))


def _steps(stages: Mapping[str, Mapping[str, Any]], results: Mapping[str, Any]) -> Iterator[str]:
    found = outcome(results)
    mined = _last(stages, "03_hard_negatives")
    if found == "harmed":
        yield _(
            "See what the model was taught: the doubtful edges in 01 and the examples in 03. Then try fewer epochs or "
            "a lower learning_rate in 04_train."
        )
    if doubtful(results):
        wanted = count(results["pairs"]["human_labels"])
        text = _("{remedy}, about {labels} pairs in all.").format(remedy=_(worth.REMEDY), labels=wanted)
        yield text[0].upper() + text[1:]
    if found == "unclear":
        yield _more_pairs_to_tell(results)
    starved = mined.get("with_negatives")
    if found in ("same", "helped") and starved is not None and starved < 0.8:
        yield _starved(mined)
    if found == "same":
        yield _(
            "Give notebook 01 more data: positives that the base model does not know already are what it can learn "
            "from."
        )
    if calibration_failed(results):
        dev = results["pairs"]["balance"]["dev"]
        yield _(
            "Label more pairs (sources: pairs): the calibration was fitted on {pairs} pairs from {clusters} clusters, "
            "too few for it to hold on new pairs."
        ).format(pairs=count(dev["positives"] + dev["negatives"]), clusters=count(dev.get("clusters", 0)))
    if found in ("same", "helped") and worth.mark(results.get("pairs", {}).get("pairs")):
        yield _(
            "Label pairs (sources: pairs), about {labels} in the end: begin with test, a hundred show whether the "
            "verdict of the generated pairs was right."
        ).format(labels=count(results["pairs"]["human_labels"]))
    for row in results.get("recalls", ()):
        if row["after"] is None and row.get("needed"):
            dev = results["pairs"]["balance"]["dev"]
            there = dev["positives"] + dev["negatives"]
            yield _(
                "Label about {more} more pairs for dev (sources: pairs): to guarantee {precision} precision takes "
                "{needed} pairs like these at least, and there are {there}."
            ).format(
                more=count(rounded_up(row["needed"] - there)),
                precision=share(row["precision"]),
                needed=count(row["needed"]),
                there=count(there),
            )
    yield from _better_ranking(results)
    if mined.get("doubtful"):
        yield _(
            "Judge the {pairs} doubtful pairs in review.csv of notebook 03: every verdict corrects what the next run "
            "teaches."
        ).format(pairs=count(mined["doubtful"]))
    yield _("Read the mistakes below: add data of the kind that they have in common.")


def _more_pairs_to_tell(results: Mapping[str, Any]) -> str:
    """An interval narrows with the square root of the clusters: how many put 0 outside, if the difference stays."""
    low, high = results["difference"][f"{JUDGED_BY}_interval"]
    middle, half = results["difference"][JUDGED_BY], (high - low) / 2
    pairs = pairs_judged(results)
    if middle and 1 < (half / middle) ** 2 < 100:
        return _(
            "Label about {more} more pairs (sources: pairs): if the difference stays what it is, its interval then "
            "leaves out 0."
        ).format(more=count(rounded_up(pairs * ((half / middle) ** 2 - 1))))
    return _(
        "Label more pairs (sources: pairs), from other meanings than the {clusters} clusters that are judged now."
    ).format(clusters=count(clusters_judged(results)))


def _starved(mined: Mapping[str, Any]) -> str:
    rules = {rule: taken for rule, taken in mined.get("rules", {}).items() if not rule.startswith("(")}
    worst = max(rules, key=rules.__getitem__, default="rank")
    return _(
        "Let more candidates pass in 03_hard_negatives: only {share} of the queries have a hard negative, and the rule "
        "{rule} rejects most."
    ).format(share=share(mined["with_negatives"]), rule=worst)


def _better_ranking(results: Mapping[str, Any]) -> Iterator[str]:
    """The reranker, alone or with the model, where its gain in MRR is proven."""
    ranking = results.get("retrieval", {})
    proven = {name: row for name, row in ranking.items() if (row.get("gain_low") or 0) > 0}
    if proven:
        best = max(proven, key=lambda name: proven[name]["gain"])
        milliseconds = results.get("milliseconds", {}).get("rerank")
        yield _(
            "Use the reranker behind the search: MRR rises from {before} to {after} ({bounds} more), for {time} ms a "
            "query."
        ).format(
            before=number(ranking["after"]["mrr"]),
            after=number(proven[best]["mrr"]),
            bounds=interval([proven[best]["gain_low"], proven[best]["gain_high"]], signs=True),
            time=number(milliseconds, 0),
        )


def _last(stages: Mapping[str, Mapping[str, Any]], notebook: str) -> Mapping[str, Any]:
    """The metrics of the last round of a notebook."""
    rounds = [name for name in stages if name.partition(".")[0] == notebook]
    return stages[rounds[-1]].get("metrics", {}) if rounds else {}


def in_words(results: Mapping[str, Any], key: str) -> str:
    """One headline measure's change in words, beside its difference."""
    found = change(results, key)
    if key == "f1_at_0.8" and accepts_everything(results):
        accepted = share(results["before"]["accepted_at_0.8"])
        if found != "better":
            return _("before, 0.8 accepts everything ({accepted} of the pairs): no loss").format(accepted=accepted)
        return _("better; before, 0.8 accepts everything ({accepted} of the pairs)").format(accepted=accepted)
    words = {"better": N_("better"), "worse": N_("worse"), "chance": N_("may be chance"), "unknown": N_("not known")}
    return _(words[found])


def look(results: Mapping[str, Any], key: str) -> str:
    """The class that colours a measure: good, bad, or none where nothing is proven."""
    if key == "f1_at_0.8" and accepts_everything(results) and change(results, key) == "worse":
        return ""
    return {"better": "good", "worse": "bad"}.get(change(results, key), "")
