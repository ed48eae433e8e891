"""Words that notebooks give to tables and figures: names of columns, rules, reasons. Marked here for the catalogues.

`tables.table` and `plots` look every name up when they show it, so the packages of the stages need not know of it.
"""

from collections.abc import Collection

from bgetune.locale import N_

SPOKEN = frozenset(
    {
        *(
            "reason",
            "rule",
            "says",
            "meaning",
            "proposed by",
            "verdict",
            "what",
            "from",
            "why",
            "setting",
            "side",
            "kind",
        ),
        *("truly the same", "measure", "promise", "guarantee", "test_interval", "label", "store", "compares"),
        "decided by",
    }
)
"""Columns whose values are words of ours, not of the data."""
SCORED_BY = {
    "cosine": N_("cosine"),
    "untuned reranker": N_("untuned reranker"),
    "reranker": N_("reranker"),
    "both": N_("cosine and reranker together"),
}
"""The scores that pairs are decided by and search results ordered by: of the tuned model, of rerankers, of both."""


def scored_by(score: str, among: Collection[str]) -> str:
    """The name of a score, in English; the reranker's is that of the tuned one where the untuned one is compared, too.

    Args:
        score: a key of `SCORED_BY`.
        among: those that are shown together.
    """
    return N_("tuned reranker") if score == "reranker" and "untuned reranker" in among else SCORED_BY[score]


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
    *(N_("texts that came back"), N_("texts without an answer"), N_("dropped"), N_("left"), N_("origin"), N_("kept")),
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
    *(N_("grade"), N_("batches"), N_("largest batch"), N_("label")),
    *(N_("queries with another query of their cluster in the batch"), N_("implied")),
    *(N_("measure"), N_("tuned"), N_("merged"), N_("meaning"), N_("training data"), N_("training"), N_("step")),
    # 05
    *(N_("negatives"), N_("share of positives"), N_("difference"), N_("method"), N_("log_loss"), N_("offered")),
    *(N_("cosine"), N_("probability"), N_("lower_bound"), N_("test_precision"), N_("test_interval"), N_("test_recall")),
    *(N_("guarantee"), N_("threshold"), N_("coverage"), N_("side"), N_("gain"), N_("accepted"), N_("same")),
    *(N_("document"), N_("whole_sphere"), N_("dimension"), N_("slice")),
    *(N_("decided by"), N_("test_low"), N_("test_high"), N_("ms a pair"), N_("ms a query")),
)

RULES = (
    # of the gate
    *(N_("no text"), N_("known"), N_("copy"), N_("length"), N_("numbers"), N_("latin"), N_("terms"), N_("negation")),
    *(N_("meaning lost"), N_("other cluster"), N_("two clusters"), N_("enough"), N_("ungated")),
    *(N_("the language model calls them the same"), N_("the language model is not sure")),
    *(N_("answered"), N_("near_misses"), N_("generated near_misses"), N_("same_document"), N_("same_document edges")),
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

ROWS = (
    # 01
    N_("rows used"),
    N_("users"),
    N_("from, to"),
    N_("searches without a click"),
    N_("query and document pairs"),
    N_("rewrites (query, other query)"),
    N_("none, or no usable row"),
    N_("cannot be mined: the log holds no search without a click"),
    N_("cannot be mined: the log has no times (time_column)"),
    N_("a single user's co_click"),
    N_("a single user's rewrite"),
    N_("several users' co_click"),
    N_("several users' rewrite"),
    N_("confirmed"),
    N_("vetoed"),
    N_("results seen above a click and passed over (query, document)"),
    N_("days"),
    N_(
        "times of day without dates: all rows are one day; users with a few rows a day may look like robots (raise "
        "robot_searches_per_day)"
    ),
    N_("one: {low}-{middle}-{high}; users with a few rows a day may look like robots (raise robot_searches_per_day)"),
    # 01: what a column of a source is
    N_("user"),
    N_("session"),
    N_("time"),
    N_("url"),
    N_("title"),
    N_("dwell"),
    N_("clicked"),
    N_("label"),
    N_("words"),
    N_("positives"),
    N_("negatives"),
    N_("anchor"),
    N_("raw log"),
    N_("mined from the log"),
    N_("log and reranker"),
    N_("whole graph"),
    N_("positive pairs"),
    N_("labelled same"),
    N_("labelled different"),
    # 02
    N_("texts in all"),
    N_("queries of the train split (eligible)"),
    N_("of them paraphrased in this run"),
    N_("documents without a query"),
    N_("eligible"),
    N_("paraphrased"),
    N_("share_of_texts_with_paraphrase"),
    N_("correct_ungated"),
    N_("correct_kept"),
    N_("duplicate"),
    # 03
    N_("unknown"),
    N_("passed, but enough were taken"),
    N_("the {number} nearest texts of each query"),
    N_("the hard negatives"),
    N_("overlap of the {number} nearest"),
    N_("all rules"),
    N_("without the cluster rule"),
    N_("without the window"),
    N_("probability instead of the veto"),
    N_("margin instead of both"),
    N_("neither probability, margin nor veto"),
    N_("without any of them"),
    N_("hard_negative"),
    N_("positive"),
    N_("random"),
    N_("labelled"),
    # 04
    N_("graded pairs"),
    N_("texts of the warm-up"),
    N_("dev pairs"),
    N_("general pairs"),
    N_("shuffled"),
    N_("by cluster"),
    N_("step of the model"),
    N_("steps"),
    # 05
    N_("held out"),
    N_("search"),
    N_("rerank"),
    N_("up to {number} characters"),
    N_("more than {number}"),
    N_("missed"),
)
"""Names of rows and columns; `{number}`, or `{low}` and `{high}`, stand for numbers."""

REASONS = (
    N_("robot: a user with over {number} rows on one day"),
    N_("click not counted: left within {number} seconds"),
    N_("junk query"),
    N_("empty"),
    N_("personal data only"),
    N_("URL"),
    N_("single character"),
    N_("numbers only"),
    N_("no letters"),
    N_("clicks on a document of more than {number} distinct queries"),
    N_("query and document that meet no more often than by chance"),
    N_("query and document: too few users to tell from mis-clicks"),
    N_("query and document: a mis-click, most users of the query want something else"),
    N_("rewrite: too few users to tell from a change of subject"),
    N_("rewrite: a change of subject"),
    N_("a single user's pair that the reranker did not confirm"),
    N_("a pair that only the log speaks for, and the reranker vetoes"),
    N_("clicked is neither yes nor no"),
    N_("no query"),
    N_("no user"),
    N_("time not readable"),
    N_("label is no number"),
    N_("label is neither 0 nor 1"),
    N_("grade unknown"),
    N_("grade outside {low} to {high}"),
    N_("both texts are the same"),
    N_("fewer than two words"),
    N_("relevance is no number"),
    N_("relevance between {low} and {high}"),
    N_("not {number} fields in the line"),
    N_("no JSON object in the line"),
    N_("no document of this id"),
    N_("no query of this id"),
    N_("an answer to more than {number} questions"),
    N_("labelled 0 and 1 equally often"),
    N_("label contradicts the majority"),
    N_("synonym that says nothing"),
    N_("synonym in several lists: which meaning?"),
    N_("the same pair once more"),
    N_("the same pair with another grade"),
    N_("a held-out pair with a text that is trained on"),
    N_("a pair for training with a text that is held out"),
    N_("same as another text but for punctuation and blanks"),
    N_("edge cut: the cluster would be too large or join what people call different"),
    N_("nothing came back, or too few characters"),
    N_("the text was there before"),
    N_("the surface hardly changed"),
    N_("much shorter or longer"),
    N_("other numbers or units"),
    N_("other Latin words or codes"),
    N_("other product names or protected terms"),
    N_("negated where the origin is not, or the reverse"),
    N_("the translator itself finds it unlikely"),
    N_("translated again, a word of the pivot text would no longer come"),
    N_("similarity to the origin outside the band"),
    N_("as near to a cluster of another meaning as to its own"),
    N_("the reranker does not find the same meaning"),
    N_("made from two clusters, so it is of neither"),
    N_("made from another text of the cluster too"),
    N_("its text has the wanted number already"),
    N_("an edge or a label says that it means the same"),
    N_("it is in the query's cluster"),
    N_("the reranker confirms it in both directions: promoted to a positive"),
    N_("outside rank_min to rank_max"),
    N_("less similar than window_low: too easy"),
    N_("more similar than window_high: too much like a positive"),
    N_("not a margin below the positives, after whitening"),
    N_("more probably an unknown positive than max_false_negatives allows"),
    N_("the reranker doubts that it is a negative"),
    N_("the reranker confirms it, its cluster was not joined"),
    N_("the reranker confirms it in one direction only"),
    N_("the reranker is not sure"),
    N_("a positive with probability {number}"),
    N_("as similar as the typical positive"),
    N_("{low} known positives among the nearest texts of the queries; {high} are needed"),
    N_("all near texts are known positives: there is nothing to choose from"),
    N_("all known positives are in {low} clusters; {high} are needed"),
    N_(
        "similarity hardly tells the known positives apart: {low}% of the most similar candidates are known, of all "
        "{high}%"
    ),
    N_("in different splits"),
    N_("people called texts of the two clusters different"),
    N_("neighbours of neighbours"),
    N_("positive is the query itself"),
    N_("negative of the query's own cluster"),
    N_("group without a positive"),
)
"""Why something was left out."""

MEASURES = (
    N_("area under the ROC curve: how often a dev positive scores above a dev negative"),
    N_("area under the precision-recall curve of the same pairs"),
    N_("the same area for the pairs that people labelled, alone"),
    N_("share of positives and hard negatives that score between {low} and {high}"),
    N_("of random pairs; unit vectors that use all d dimensions have 1/d"),
    N_("share of positives and hard negatives where the middle four fifths lay before training"),
    N_("mean score of the positives"),
    N_("mean score of the hard negatives"),
    N_("mean reciprocal rank of a query's first positive among all dev texts, 0 beyond rank 10"),
    N_("on general text: how often a pair with the higher label scores above one with the lower"),
    N_("on general text: rank correlation of scores and grades"),
    N_("mean score of the general pairs with the higher label"),
    N_("mean score of the general pairs with the lower label"),
    N_("mean score of the general pairs"),
)
"""What a measure of notebook 04 says."""

FIGURES = (
    N_("co_click edges"),
    N_("given edges"),
    N_("qa edges"),
    N_("recall edges"),
    N_("rewrite edges"),
    N_("synonym edges"),
    N_("click edges"),
    N_("back_translation edges"),
    N_("generated edges"),
    N_("auc"),
    N_("average_precision"),
    N_("ks"),
    N_("best_f1"),
    N_("best_threshold"),
    N_("f1_at_{number}"),
    N_("f1_at_own_threshold"),
    N_("f1_at_old_threshold"),
    N_("accepted_at_{number}"),
    N_("share_{low}_{high}"),
    N_("mean_positive"),
    N_("mean_negative"),
    N_("d_prime"),
    N_("mean_squared_cosine_random"),
    N_("labelled_auc"),
    N_("crowded_share"),
    N_("mrr@{number}"),
    N_("ece"),
    N_("ece_low"),
    N_("ece_high"),
    N_("ece_plug_in"),
    N_("brier"),
    N_("reliability"),
    N_("resolution"),
    N_("uncertainty"),
    N_("within"),
    N_("mrr"),
    N_("mrr_low"),
    N_("mrr_high"),
    N_("ndcg"),
    N_("ndcg_low"),
    N_("ndcg_high"),
    N_("gain_low"),
    N_("gain_high"),
    N_("precision at least {low}% with {high}% confidence"),
    N_(
        "precision at least {low}% with {middle}% confidence; from {high} clusters only, so that a meaning that the "
        "model confuses as a whole may be missing"
    ),
    N_("{low} to {middle} ({high} pairs)"),
    N_("too few pairs: a test needs {number} above a threshold, all correct, to pass at all"),
    N_(
        "no threshold is that precise (best on these pairs: {number}%); more pairs will not help, a better model or a "
        "reranker will"
    ),
    N_("recall {number}%"),
    N_("precision {number}%"),
    N_("after, untuned reranker"),
    N_("after, reranker"),
    N_("after, both"),
    N_(
        "too few pairs: at least {low} labelled pairs like these are needed, there are {middle}; the "
        "threshold would then find about {high}% of the positives"
    ),
    N_(
        "the most similar pairs are less precise than those below them ({low} of the first {middle} have the "
        "label {high}), and no threshold is chosen past them: check their labels; more pairs alone will not help"
    ),
)
"""Measures, and what is said of thresholds."""

RERUNS = (
    *(N_("never run"), N_("recorded by another version"), N_("changed parameters"), N_("changed code")),
    *(N_("changed input"), N_("changed output"), N_("stopped before its notebook was saved")),
)
"""Why a stage runs again."""
