"""Every figure: functions that take data and return a Matplotlib figure, Chinese text readable in all of them.

A figure is drawn on an axis or figure of its own; notebooks show what is returned. Each says its message in a sentence
(`figures.says`), which is its alternative text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bgetune.locale import N_, _
from bgetune.locale.words import said
from bgetune.reports import figures, tables
from bgetune.reports.figures import COLORS, says, subplots
from bgetune.reports.numbers import count, share

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

table, parameters, live = (
    tables.table,
    tables.parameters,
    figures.live,
)  # notebooks take all that they show from this module

KIND_LABELS = {
    "positive": N_("positives"),
    "hard_negative": N_("hard negatives"),
    "random": N_("random pairs"),
}


# --- 01_positives -------------------------------------------------------------------------------------------------


def source_yields(edges: pd.DataFrame) -> Figure:
    """Edges by source, and how their weights are spread: median, and 5th to 95th percentile.

    Args:
        edges: source, weight, ... (see `tables.SCHEMAS`).
    """
    figure, (left, right) = subplots(1, 2, width=5.0)
    if edges.empty:
        return says(figure, _("No two texts are joined yet: notebook 02 writes queries for the documents."))
    counts = edges["source"].value_counts().sort_values()
    left.barh(counts.index, counts.to_numpy(), color=COLORS["tuned"])
    left.bar_label(left.containers[0], fmt="{:,.0f}", padding=3, fontsize=8)
    left.set(
        title=_("Edges by source"), xlabel=_("edges"), xscale="log" if counts.max() > 100 * counts.min() else "linear"
    )
    left.margins(x=0.15)
    low, median, high = (edges.groupby("source")["weight"].quantile(share)[counts.index] for share in (0.05, 0.5, 0.95))
    right.hlines(counts.index, low, high, color=COLORS["tuned"], linewidth=4, alpha=0.5)
    right.plot(median, counts.index, "o", color=COLORS["tuned"])
    right.set(title=_("Weights (trust of the source x evidence)"), xlabel=_("weight"), xlim=(0, 1.02))
    right.margins(y=0.1)
    message = _("{edges} edges; most come from {source}: {most}.")
    return says(figure, message.format(edges=count(len(edges)), source=counts.index[-1], most=count(counts.iloc[-1])))


def degrees_and_sizes(degrees: Sequence[int], sizes: Sequence[int], max_cluster_size: int) -> Figure:
    """Degrees of the texts and sizes of the clusters, both counted on a logarithmic axis."""
    import numpy as np

    figure, (left, right) = subplots(1, 2, width=5.0)
    for axis, values, title, label in (
        (left, np.asarray(degrees), _("Neighbours of a text"), _("neighbours")),
        (right, np.asarray(sizes), _("Texts in a cluster"), _("texts")),
    ):
        top = max(int(values.max(initial=1)), 1)
        step = max(1, top // 40)
        axis.hist(
            values,
            bins=np.arange(-0.5 if values.min(initial=1) == 0 else 0.5, top + step + 0.5, step),
            color=COLORS["positive"],
            edgecolor="white",
            linewidth=0.4,
        )
        axis.set(title=title, xlabel=label, ylabel=_("number"), yscale="log" if values.size else "linear")
    right.axvline(max_cluster_size, color=COLORS["hard_negative"], linestyle="--", linewidth=1)
    right.text(
        max_cluster_size,
        right.get_ylim()[1],
        " max_cluster_size",
        va="top",
        ha="right",
        rotation=90,
        fontsize=8,
        color=COLORS["hard_negative"],
    )
    message = _(
        "Half of the texts have {median} neighbours or fewer; the largest cluster holds {largest} of {limit} texts."
    )
    median = np.median(np.asarray(degrees)) if len(degrees) else 0
    largest = np.asarray(sizes).max(initial=1)
    return says(figure, message.format(median=count(median), largest=count(largest), limit=count(max_cluster_size)))


# --- 02_backtranslate ---------------------------------------------------------------------------------------------


def paraphrase_yield(yields: pd.DataFrame) -> Figure:
    """What is left of the paraphrases after each rule: one bar a rule that dropped any, from all to the kept.

    Args:
        yields: `dropped` and `left` by rule, see `augment.gate.yield_by_rule`.
    """
    shown = yields[yields["dropped"] > 0]
    names = [_("all candidates"), *map(_, shown.index)]
    left = [int(yields["left"].iloc[-1] + yields["dropped"].sum()), *shown["left"]]
    dropped = [0, *shown["dropped"]]
    figure, axis = subplots(height=0.8 + 0.32 * len(names))
    colors = [COLORS["neutral"], *([COLORS["random"]] * (len(names) - 2)), COLORS["positive"]][: len(names)]
    axis.barh(names, left, color=colors)
    axis.barh(names, dropped, left=left, color=COLORS["hard_negative"], alpha=0.35)
    for row, (kept, gone) in enumerate(zip(left, dropped, strict=True)):
        axis.text(kept + gone, row, f"  {kept:,}" + (f"  (-{gone:,})" if gone else ""), va="center", fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.15)
    axis.set_xlabel(_("paraphrases left after the rule (red: dropped by it)"))
    message = _("{kept} of {made} candidates are left after all rules.").format(
        kept=count(left[-1]), made=count(left[0])
    )
    if len(shown):
        worst = shown["dropped"].idxmax()
        message += " " + _("{rule} drops most: {number}.").format(rule=_(worst), number=count(shown["dropped"][worst]))
    return says(figure, message)


def similarity_against_change(
    paraphrases: pd.DataFrame, band: tuple[float, float] | None, least: float | None
) -> Figure:
    """Every paraphrase by how much its surface changed and how similar it is, coloured by its fate.

    Args:
        paraphrases: `change`, `similarity` and `reason`, see `augment.gate.check`.
        band: kept region on the similarity axis, None for no bound.
        least: smallest change that is kept, None for no bound.
    """
    table = paraphrases.dropna(subset=["similarity"])
    reason = table["reason"]
    models = ["fluency", "meaning lost", "other cluster", "reranker"]
    groups = {
        _("surface, numbers, names, negation"): (~reason.isin(["", *models]), "random", 8),
        _("unlikely to the translators"): (reason.isin(models[:2]), "base", 10),
        _("other cluster, reranker"): (reason.isin(models[2:]), "hard_negative", 10),
        _("kept"): (reason == "", "positive", 12),
    }
    figure, axis = subplots(height=4.2)
    low, high = band or (-1.0, 1.0)
    bottom = min(float(table["similarity"].min()) if len(table) else low, low if band else 1.0) - 0.02
    axis.axhspan(max(low, bottom), high, (least or 0.0) / 1.02, 1, color=COLORS["positive"], alpha=0.07, zorder=0)
    for label, (rows, color, size) in groups.items():
        part = table[rows]
        axis.scatter(
            part["change"], part["similarity"], size, COLORS[color], label=f"{label} ({len(part):,})", alpha=0.6
        )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(bottom, 1.02)
    axis.set_xlabel(_("surface change (edited characters / length)"))
    axis.set_ylabel(_("cosine to the origin"))
    axis.legend(fontsize=8, loc="lower left")
    inside = table["similarity"].between(low, high) & (table["change"] >= (least or 0.0))
    message = _("{kept} of {all} candidates are kept; the bands alone would keep {inside}.")
    counts = {"kept": (table["reason"] == "").sum(), "all": len(table), "inside": inside.sum()}
    return says(figure, message.format(**{name: count(number) for name, number in counts.items()}))


def kept_and_ungated(shares: pd.DataFrame) -> Figure:
    """How many paraphrases hold their origin's meaning, before and behind the gate.

    Args:
        shares: indexed by name, with `correct`, `low`, `high` in [0, 1] and `paraphrases`.
    """
    figure, axis = subplots(width=5.0, height=2.0)
    errors = [shares["correct"] - shares["low"], shares["high"] - shares["correct"]]
    names = [_(name) for name in shares.index]
    axis.barh(names, shares["correct"], xerr=errors, color=[COLORS["base"], COLORS["tuned"]][: len(shares)], capsize=3)
    said = []
    for row, (name, correct, made) in enumerate(shares[["correct", "paraphrases"]].itertuples(name=None)):
        text = _("{share} of {count}").format(share=share(correct, 1), count=count(made))
        axis.text(0.02, row, text, va="center", color="white", fontsize=9)
        said.append(f"{_(name)}: {text}")
    axis.set_xlim(0, 1)
    axis.invert_yaxis()
    axis.set_xlabel(_("share with the meaning of their origin"))
    return says(figure, _("Paraphrases with the meaning of their origin, {shares}.").format(shares=", ".join(said)))


# --- 05_calibrate -------------------------------------------------------------------------------------------------


def score_distributions(
    densities: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float] | None = None, *, stacked: bool = False
) -> Figure:
    """How the similarities of each kind of pair are distributed, one panel a model.

    Args:
        densities: model -> one column a kind of pair, indexed by similarity.
        thresholds: label -> similarity, drawn as dashed lines in every panel.
        stacked: panels under one another, as a phone shows them.
    """
    rows, columns, width, height = (len(densities), 1, 4.4, 2.6) if stacked else (1, len(densities), 5.2, 3.4)
    figure, axes = subplots(rows, columns, width, height, sharey=True, sharex=True, squeeze=False)
    low = min(table.index[(table > 0.02).any(axis=1)].min() for table in densities.values())
    top = max(float(table.to_numpy().max()) for table in densities.values())
    said = []
    for axis, (model, table) in zip(axes.flat, densities.items(), strict=True):
        for kind in table:
            color = COLORS.get(kind, COLORS["neutral"])
            dashed = kind not in KIND_LABELS
            label = kind if dashed else _(KIND_LABELS[kind])
            axis.plot(table.index, table[kind], color=color, label=label, ls=":" if dashed else "-")
            if not dashed:
                axis.fill_between(table.index, table[kind], color=color, alpha=0.18, linewidth=0)
        for label, threshold in (thresholds or {}).items():
            axis.axvline(threshold, color=COLORS["neutral"], ls="--", lw=1)
            axis.text(
                threshold, top, f" {label}", color=COLORS["neutral"], fontsize=8, va="top", ha="right", rotation=90
            )
        axis.set(title=_(model), xlabel=_("cosine similarity"), xlim=(max(low - 0.03, -1), 1.01), ylim=(0, top * 1.03))
        axis.set_ylabel(_("density"))
        axis.label_outer()
        if {"positive", "hard_negative"} <= set(table):
            common = table[["positive", "hard_negative"]].min(axis=1).sum() * (table.index[1] - table.index[0])
            said.append(f"{_(model)} {share(common)}")
    axes.flat[0].legend(loc="upper left", fontsize=8)
    message = _("What the distributions of positives and hard negatives have in common: {shares}.")
    return says(figure, message.format(shares=", ".join(said)))


def intervals_by_slice(table: pd.DataFrame, models: Sequence[str]) -> Figure:
    """The AUC of each model in each slice, with its interval.

    Args:
        table: of `scoring.drift.by_slice`.
        models: names of its models, two at most: base and tuned.
    """
    table = table.reset_index(drop=True)
    figure, axis = subplots(height=0.6 + 0.34 * len(table))
    for offset, (model, color) in zip((-0.14, 0.14), zip(models, ("base", "tuned"), strict=False), strict=False):
        rows = table.index + offset
        errors = [table[model] - table[f"{model}_low"], table[f"{model}_high"] - table[model]]
        axis.errorbar(
            table[model], rows, xerr=errors, fmt="o", color=COLORS[color], label=_(model), ms=5, elinewidth=1.2
        )
    names = [f"{_(row.dimension)}: {said(str(row.slice))}  (n={row.pairs:,})" for row in table.itertuples()]
    axis.set_yticks(table.index, names, fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(_("AUC, 95 % interval"))
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(models), fontsize=8)
    first, last = models[0], models[-1]
    message = _("Of {slices} slices, {better} have a higher AUC after tuning, {sure} of them with intervals apart.")
    better, sure = (table[last] > table[first]).sum(), (table[f"{last}_low"] > table[f"{first}_high"]).sum()
    return says(figure, message.format(slices=len(table), better=better, sure=sure))


def reliability_diagram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Observed share of positives against the predicted one, one panel a score; on the diagonal it is what it says.

    Args:
        tables: name -> table of `scoring.calibration.reliability`.
    """
    figure, axes = subplots(1, len(tables), width=3.6, height=3.4, sharex=True, sharey=True, squeeze=False)
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        errors = [table["observed"] - table["low"], table["high"] - table["observed"]]
        axis.plot([0, 1], [0, 1], color=COLORS["neutral"], lw=1, ls="--")
        axis.errorbar(
            table["predicted"],
            table["observed"],
            yerr=errors,
            fmt="o-",
            color=COLORS["tuned"],
            ms=4,
            lw=1,
            elinewidth=1,
        )
        axis.set(title=_(name), xlabel=_("score"), xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0][0].set_ylabel(_("observed share of positives"))
    far = {name: (table["observed"] - table["predicted"]).abs().max() for name, table in tables.items()}
    distances = ", ".join(f"{_(name)} {distance:.2f}" for name, distance in far.items())
    return says(figure, _("Largest distance from the diagonal: {distances}.").format(distances=distances))


def ranking_curves(curves: Mapping[str, pd.DataFrame], points: pd.DataFrame | None = None) -> Figure:
    """Precision against recall, and ROC, one line a model.

    Args:
        curves: model -> ``precision, recall, false_positive_rate``; base first, tuned last.
        points: thresholds to mark: ``label, precision, recall``.
    """
    figure, (left, right) = subplots(1, 2, width=5.0, height=3.6)
    for (model, table), color in zip(curves.items(), ("base", "tuned"), strict=False):
        left.plot(table["recall"], table["precision"], color=COLORS[color], label=_(model))
        right.plot(table["false_positive_rate"], table["recall"], color=COLORS[color], label=_(model))
    if points is not None:
        for row, marker in zip(points.itertuples(), "osD^vP*X" * len(points), strict=False):
            left.plot(row.recall, row.precision, marker, color=COLORS["hard_negative"], ms=6, label=_(row.label))
    left.set(title=_("Precision and recall"), xlabel=_("recall"), ylabel=_("precision"), xlim=(0, 1.01), ylim=(0, 1.04))
    right.plot([0, 1], [0, 1], color=COLORS["neutral"], lw=1, ls="--")
    right.set(title="ROC", xlabel=_("negatives accepted"), ylabel=_("positives accepted"), xlim=(0, 1), ylim=(0, 1.01))
    left.legend(loc="lower left", fontsize=8)
    at = {model: table.loc[table["recall"] >= 0.9, "precision"].max() for model, table in curves.items()}
    shares = ", ".join(f"{_(model)} {share(precision)}" for model, precision in at.items())
    return says(figure, _("Precision at {recall} recall: {shares}.").format(recall=share(0.9), shares=shares))


def threshold_curves(curve: pd.DataFrame, thresholds: Mapping[str, float] | None = None) -> Figure:
    """What a threshold on the cosine would do: precision, recall, coverage and F1 at each.

    Args:
        curve: of `scoring.thresholds.curve`.
        thresholds: label -> similarity, marked on the curve of F1.
    """
    import numpy as np

    figure, axis = subplots(width=8.0, height=3.4)
    colors = {"precision": "tuned", "recall": "positive", "coverage": "random", "f1": "base"}
    for name, color in colors.items():
        axis.plot(curve["threshold"], curve[name], color=COLORS[color], label=_(name) if name != "f1" else "F1")
    rising = curve.iloc[::-1]
    for (label, threshold), marker in zip((thresholds or {}).items(), "osD^vP*X" * len(thresholds or {}), strict=False):
        axis.axvline(threshold, color=COLORS["neutral"], ls="--", lw=0.6)
        f1 = np.interp(threshold, rising["threshold"], rising["f1"])
        axis.plot(threshold, f1, marker, color=COLORS["hard_negative"], ms=6, label=f"{_(label)}: {threshold:.3f}")
    axis.set(xlabel=_("threshold on the cosine"), ylim=(0, 1.02))
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    best = curve.loc[curve["f1"].idxmax()]
    message = _("What a threshold on the cosine does; F1 is highest, {f1}, at {threshold}.")
    return says(figure, message.format(f1=f"{best['f1']:.3f}", threshold=f"{best['threshold']:.3f}"))


# --- 04_train -----------------------------------------------------------------------------------------------------


def training_curve(log: pd.DataFrame, best_step: int | None = None) -> Figure:
    """The loss, how well the model tells positives from hard negatives, and where its scores lie, by step.

    Args:
        log: table `training_log`: step, and where measured loss, auc, average_precision, mean_positive... The loss
            shown is that of the ranking alone, where graded pairs train along.
        best_step: is marked.
    """
    figure, axes = subplots(1, 3, width=4.0, height=3.0)
    panels = (
        (_("Loss"), {"ranking" if "ranking" in log else "loss": (_("loss"), "neutral")}),
        (_("Dev: positives against negatives"), {"average_precision": ("AP", "tuned"), "auc": ("AUC", "base")}),
        (
            _("Dev: scores"),
            {
                "mean_positive": (_("mean of positives"), "positive"),
                "mean_negative": (_("mean of negatives"), "hard_negative"),
                "share_0.6_0.9": (_("share in 0.6-0.9"), "random"),
            },
        ),
    )
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for name, (label, color) in lines.items():
            if name in log:
                seen = log[["step", name]].dropna()
                axis.plot(seen["step"], seen[name], color=COLORS[color], label=label, marker=".", markersize=4)
        axis.set(title=title, xlabel=_("step"))
        if best_step is not None:
            axis.axvline(best_step, color=COLORS["neutral"], linewidth=1, linestyle=":")
        if len(lines) > 1 and axis.lines:
            axis.legend(fontsize=8)
    axes[2].set_ylim(-0.05, 1.05)
    seen = log["average_precision"].dropna() if "average_precision" in log else log.iloc[:0]
    if seen.empty:
        return says(figure, _("The loss by step."))
    message = _("Average precision on dev went from {first} to {last}; its best was {best}.")
    first, last, best = (f"{value:.3f}" for value in (seen.iloc[0], seen.iloc[-1], seen.max()))
    return says(figure, message.format(first=first, last=last, best=best))


# --- 03_hard_negatives --------------------------------------------------------------------------------------------


def rule_yields(yields: pd.DataFrame) -> Figure:
    """How many candidates each rule of the miner rejected, and how many were taken.

    Args:
        yields: columns rule, candidates, in the order of the rules (`bgetune.negatives.measure.rule_yields`).
    """
    figure, axis = subplots(width=8, height=3.2)
    colors = [COLORS["hard_negative"] if rule == "(taken)" else COLORS["neutral"] for rule in yields["rule"]]
    bars = axis.barh([_(rule) for rule in yields["rule"]], yields["candidates"], color=colors)
    axis.bar_label(bars, [f"{number:,}" for number in yields["candidates"]], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(_("candidates"))
    axis.margins(x=0.12)
    taken = yields.loc[yields["rule"] == "(taken)", "candidates"].sum()
    rejected = yields[~yields["rule"].str.startswith("(")].set_index("rule")["candidates"]
    message = _("{taken} of {all} candidates are taken.").format(
        taken=count(taken), all=count(yields["candidates"].sum())
    )
    if rejected.sum():
        message += " " + _("{rule} rejects most.").format(rule=_(rejected.idxmax()))
    return says(figure, message)


def mined_similarities(panels: Mapping[str, Mapping[str, np.ndarray]], cuts: Sequence[float] = ()) -> Figure:
    """Similarities of positives, candidates and negatives, one panel a way of measuring.

    Args:
        panels: title -> name of a group of pairs -> (n,) similarities (`bgetune.negatives.measure.similarities`).
        cuts: where the margin rule cuts, in the last panel.
    """
    import numpy as np

    figure, axes = subplots(1, len(panels), width=4.6, height=3.2, squeeze=False)
    colors = (COLORS["positive"], COLORS["random"], COLORS["hard_negative"])
    for axis, (title, groups) in zip(axes[0], panels.items(), strict=True):
        low = min((values.min() for values in groups.values() if len(values)), default=0.0)
        for (name, values), color in zip(groups.items(), colors, strict=True):
            if len(values):
                bins = np.linspace(low, 1, 50)
                axis.hist(values, bins, density=True, histtype="stepfilled", alpha=0.4, color=color, label=_(name))
        axis.set(title=_(title), xlabel=_("cosine"), yticks=[])
    for number, cut in enumerate(cuts):
        label = _("margin: {cuts}").format(cuts=", ".join(f"{cut:.2f}" for cut in cuts)) if number == 0 else None
        axes[0][-1].axvline(cut, color="black", lw=1, ls="--", label=label)
    axes[0][-1].legend(fontsize=8)
    medians = [
        f"{_(title)}: "
        + ", ".join(f"{_(name)} {np.median(values):.2f}" for name, values in groups.items() if len(values))
        for title, groups in panels.items()
    ]
    return says(figure, _("Median cosines. {medians}.").format(medians="; ".join(medians)))
