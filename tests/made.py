"""A made-up manifest entry of 05_calibrate: what the pages of a run are written from."""


def results(
    before=0.5,
    after=0.875,
    interval=(0.25, 0.5),
    *,
    clusters=40,
    accepted=0.5,
    ece=(0.03, 0.0, 0.06),
    recalls=None,
    **more,
):
    """Metrics of 05_calibrate with this average precision before and after, and the interval of the difference."""
    names = ("average_precision", "f1_at_0.8", "overlap")
    values = {"before": before, "after": after, "difference": after - before}
    made = {name: dict.fromkeys(names, value) for name, value in values.items()}
    made["difference"] |= {f"{name}_interval": list(interval) for name in names}
    made["before"]["accepted_at_0.8"] = accepted
    balance = {"positives": 590, "negatives": 592, "share of positives": 0.5, "clusters": clusters}
    recall = {"precision": 0.95, "before": 0.12, "before_low": 0.1, "before_high": 0.2, "after": 0.79}
    recall |= {"after_low": 0.7, "after_high": 0.85, "difference": 0.67, "needed": None}
    recall |= {"difference_low": 0.6, "difference_high": 0.7}
    return made | {
        "pairs": {"pairs": "labelled", "prior": None, "balance": {"dev": balance, "test": balance}},
        "calibration": {"method": "beta", "ece": ece[0], "ece_low": ece[1], "ece_high": ece[2], "min_max_ece": 0.25},
        "recalls": [recall | row for row in ([{}] if recalls is None else recalls)],
        **more,
    }
