"""Every figure is drawn from small data and says its message."""

import base64
import io

import numpy as np
import pandas as pd
import pytest

from bgetune.metrics import calibration, separation
from bgetune.reports import figures, plots
from bgetune.scoring import thresholds

RNG = np.random.default_rng(0)
LABELS = np.tile([0, 1], 100)
SCORES = {"before": RNG.random(200), "after": 0.6 * LABELS + 0.4 * RNG.random(200)}
CURVES = {name: thresholds.curve(scores, LABELS) for name, scores in SCORES.items()}
DENSITIES = {
    name: separation.densities({"positive": scores[LABELS == 1], "hard_negative": scores[LABELS == 0]})
    for name, scores in SCORES.items()
}
SLICES = pd.DataFrame({"dimension": "length", "slice": ["short", "long"], "pairs": [10, 20]}).assign(
    before=0.5, before_low=0.4, before_high=0.6, after=[0.9, 0.55], after_low=[0.8, 0.45], after_high=[0.95, 0.65]
)
PARAPHRASES = pd.DataFrame(
    {
        "similarity": [0.9, 0.5, None, 0.8],
        "change": [0.5, 0.5, 0.1, 0.9],
        "reason": ["", "reranker", "known", "fluency"],
    }
)
YIELDS = pd.DataFrame({"rule": ["margin", "veto", "(not needed)", "(taken)"], "candidates": [40, 5, 50, 10]})

FIGURES = {
    "What the distributions of positives and hard negatives have in common: before ": lambda: plots.score_distributions(
        DENSITIES, {"0.8": 0.8}, stacked=True
    ),
    "Of 2 slices, 2 have a higher AUC after tuning, 1 of them with intervals apart.": lambda: plots.intervals_by_slice(
        SLICES, ["before", "after"]
    ),
    "Largest distance from the diagonal: cosine ": lambda: plots.reliability_diagram(
        {"cosine": calibration.reliability(SCORES["after"], LABELS)}
    ),
    "Precision at 90\u00a0% recall: before 5": lambda: plots.ranking_curves(CURVES),
    "What a threshold on the cosine does; F1 is highest, 1.000, at ": lambda: plots.threshold_curves(CURVES["after"]),
    "Average precision on dev went from 0.500 to 0.700; its best was 0.900.": lambda: plots.training_curve(
        pd.DataFrame({"step": [0, 1, 2], "loss": 1.0, "average_precision": [0.5, 0.9, 0.7]})
    ),
    "The loss by step.": lambda: plots.training_curve(pd.DataFrame({"step": [0, 1], "loss": 1.0})),
    "10 of 105 candidates are taken. margin rejects most.": lambda: plots.rule_yields(YIELDS),
    "Median cosines. As the model scores: positives 0.50, negatives taken 0.25.": lambda: plots.mined_similarities(
        {
            "As the model scores": {
                "positives": np.array([0.5]),
                "none": np.array([]),
                "negatives taken": np.array([0.25]),
            }
        },
        [0.1],
    ),
    "3 edges; most come from qa: 2.": lambda: plots.source_yields(
        pd.DataFrame({"source": ["qa", "qa", "given"], "weight": [0.5, 0.6, 1.0]})
    ),
    "Half of the texts have 2 neighbours or fewer; the largest cluster holds 5 of 60": lambda: plots.degrees_and_sizes(
        [1, 2, 9], [2, 5], 60
    ),
    "7 of 10 candidates are left after all rules. copy drops most: 3.": lambda: plots.paraphrase_yield(
        pd.DataFrame({"dropped": [3, 0], "left": [7, 7]}, index=["copy", "fluency"])
    ),
    "1 of 3 candidates are kept; the bands alone would keep 2.": lambda: plots.similarity_against_change(
        PARAPHRASES, (0.7, 1.0), 0.2
    ),
    "Paraphrases with the meaning of their origin, ungated: 50.0\u00a0% of 40, kept: 75.0\u00a0% of 20.": (
        lambda: plots.kept_and_ungated(
            pd.DataFrame(
                {"paraphrases": [40, 20], "correct": [0.5, 0.75], "low": [0.4, 0.6], "high": [0.6, 0.8]},
                index=["ungated", "kept"],
            )
        )
    ),
}


@pytest.mark.parametrize("message", FIGURES)
def test_a_figure_says_its_message(message):
    figure = FIGURES[message]()
    assert figure.get_label().startswith(message)
    assert figures.picture(figure).startswith(b"\x89PNG")


def test_every_figure_is_tried_here():
    drawn = {name for name, value in vars(plots).items() if getattr(value, "__module__", "") == plots.__name__}
    source = "".join(name for draw in FIGURES.values() for name in draw.__code__.co_names)
    assert not [name for name in drawn if name not in source]


def test_a_notebook_shows_a_sharp_picture_with_its_message(monkeypatch):
    import IPython
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    figures.use_style.cache_clear()
    figure = plots.rule_yields(YIELDS)
    data, metadata = shell.display_formatter.format(figure)
    assert data["text/plain"] == figure.get_label()
    assert set(data) == {"text/plain", "image/png"}
    shown = metadata["image/png"]
    assert shown["alt"] == figure.get_label()
    picture = data["image/png"]
    picture = base64.b64decode(picture) if isinstance(picture, str) else picture
    assert int.from_bytes(picture[16:20], "big") == pytest.approx(2 * shown["width"], abs=2)


def test_a_wide_figure_has_a_form_for_phones_and_stays_as_it_was():
    figure, axes = figures.subplots(1, 3, width=4.0, sharey=True)
    before = figures.picture(figure)
    height, width = plt_size(figures.narrow(figure))
    assert width == pytest.approx(2 * figures.DPI * figures.NARROW, abs=1)
    assert height > 2 * width, "three panels under one another"
    assert figures.picture(figure) == before
    assert not axes[1].yaxis.get_tick_params()["labelleft"]
    assert figures.narrow(figures.subplots(width=5.0)[0]) is None


def plt_size(png):
    from matplotlib.image import imread

    return imread(io.BytesIO(png)).shape[:2]
