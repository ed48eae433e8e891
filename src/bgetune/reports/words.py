"""Words that notebooks give to tables and figures: names of columns, rules, sources. Marked here for the catalogues.

`tables.table` and `plots` look every name up when they show it, so the packages of the stages need not know of it.
"""

from bgetune.locale import N_

COLUMNS = (
    *(N_("parameter"), N_("value"), N_("from")),
    # 01
    *(N_("click log"), N_("reason"), N_("rows"), N_("example"), N_("source"), N_("proposed by"), N_("read")),
    *(N_("verdict"), N_("pairs"), N_("share"), N_("size"), N_("split"), N_("texts"), N_("text"), N_("other text")),
    *(
        N_("support"),
        N_("weight"),
        N_("score"),
        N_("overlap"),
        N_("edges"),
        N_("clusters"),
        N_("clusters of 2 or more"),
    ),
    *(N_("precision"), N_("recall"), N_("edge_precision"), N_("mixed_clusters")),
    # 02
    *(N_("via"), N_("pivot_text"), N_("paraphrase"), N_("task"), N_("texts that were sent"), N_("rule"), N_("says")),
    *(N_("queries that came back"), N_("texts without an answer"), N_("dropped"), N_("left"), N_("origin"), N_("kept")),
    *(N_("change"), N_("fluency"), N_("agreement"), N_("similarity"), N_("reranker"), N_("before"), N_("after")),
    *(N_("paraphrases"), N_("correct"), N_("low"), N_("high"), N_("value")),
    # 03
    *(N_("text to join"), N_("truly the same"), N_("candidates"), N_("queries"), N_("why"), N_("what"), N_("setting")),
    *(N_("with_negatives"), N_("full"), N_("negatives_per_query"), N_("doubted"), N_("false_negatives"), N_("query")),
    *(N_("expected"), N_("true"), N_("expected_false_negatives")),
    *(N_("expected_false_negatives_low"), N_("expected_false_negatives_high")),
    *(N_("a positive (similarity)"), N_("hard negatives (similarity)"), N_("candidate"), N_("kind")),
    # 04
    *(N_("groups"), N_("positives"), N_("hard_negatives"), N_("without_negatives"), N_("with_instruction")),
    *(N_("grade"), N_("batches"), N_("largest batch"), N_("queries with a false negative in their batch"), N_("label")),
    *(N_("measure"), N_("tuned"), N_("merged"), N_("meaning"), N_("training data"), N_("training"), N_("step")),
    # 05
    *(N_("negatives"), N_("share of positives"), N_("difference"), N_("method"), N_("log_loss"), N_("offered")),
    *(N_("cosine"), N_("probability"), N_("lower_bound"), N_("test_precision"), N_("test_interval"), N_("test_recall")),
    *(N_("promise"), N_("threshold"), N_("coverage"), N_("side"), N_("gain"), N_("accepted"), N_("same")),
    *(N_("document"), N_("whole_sphere"), N_("dimension"), N_("slice")),
)

RULES = (
    # of the gate
    *(N_("no text"), N_("known"), N_("copy"), N_("length"), N_("numbers"), N_("latin"), N_("terms"), N_("negation")),
    *(N_("meaning lost"), N_("other cluster"), N_("two clusters"), N_("enough"), N_("ungated")),
    # of the miner
    *(N_("known_positive"), N_("same_cluster"), N_("missed_positive"), N_("rank"), N_("below_window")),
    *(N_("above_window"), N_("margin"), N_("unknown_positive"), N_("veto"), N_("(not needed)"), N_("(taken)")),
)

NAMES = (
    *(N_("clicks"), N_("graph"), N_("graded"), N_("back_translation"), N_("generated")),
    *(
        N_("As the model scores"),
        N_("With the common drift taken out"),
        N_("nearest candidates"),
        N_("negatives taken"),
    ),
    *(N_("source"), N_("frequency"), N_("seen once"), N_("2 to 9 times"), N_("10 times or more"), N_("no edge")),
    *(N_("best F1"), N_("probability 0.5"), N_("min_max"), N_("f1")),
)
