"""The parameters of every notebook: the only place where a default, a range or a help text is written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from bgetune.config.augmentation import Gate, Generation, Pivot
from bgetune.config.base import Embeds, ModelLocation, Reranks, Section, Seeded
from bgetune.config.sources import GeneralSource, Sources

RENAMED = {
    ("04_train", "spread"): "orthogonality_weight",
    ("04_train", "compare"): "loss_scope",
    ("04_train", "drift_price"): "drift_penalty",
}
"""Section and old name of a parameter -> its name now. Profiles with the old one are read, with a warning."""

RENAMED_VALUES = {("04_train", "compare"): {"query": "per_query", "batch": "across_queries"}}
"""Section and old name of a parameter -> its old values, and how they are called now."""


class Positives(Reranks, Embeds, Seeded):
    """01_positives: click logs, rewrites, QA, synonyms, labelled pairs and recall become the positive graph."""

    sources: Sources = Field(Sources(), description="The team's own data.")
    positive_grade: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Graded pairs from this grade on (scaled to 0..1) mean the same, in every notebook: positives in "
        "training, on dev and in calibration.",
    )
    truth: str | None = Field(
        None,
        description="Table with the true meaning of texts (columns text, meaning), to measure with. For the "
        "demo and tests.",
    )
    sample_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of users, pairs and texts to use, for a first look. The same share is drawn every time.",
    )
    mask: list[Literal["email", "id_card", "card", "phone"]] = Field(
        ["email", "id_card", "card", "phone"],
        description="Kinds of personal data to replace by tokens such as <电话>. []: none.",
    )
    opencc: str | None = Field(
        None,
        description="OpenCC configuration applied to all texts, such as t2s (to simplified characters). Null: none.",
    )
    synonym_lexicon: bool = Field(
        False, description="Whether to join texts that become equal when synonyms in them are replaced."
    )
    session_gap_minutes: float = Field(
        30,
        gt=0,
        description="Minutes without a search after which a user's session ends, where the log has no session ids.",
    )
    rewrite_window_seconds: float = Field(
        120, gt=0, description="Maximum seconds between a search without a click and the rewritten query that follows."
    )
    robot_searches_per_day: int = Field(
        300, ge=1, description="Maximum number of rows of a user on one day; users with more are dropped as robots."
    )
    min_dwell_seconds: float = Field(
        2, ge=0, description="Minimum seconds on a page; shorter clicks are dropped as mis-clicks. Needs dwell_column."
    )
    min_support: int = Field(
        2,
        ge=1,
        description="Minimum number of distinct users that must support a pair from a click log. Larger "
        "values give fewer, surer pairs.",
    )
    misclick_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Assumed share of clicks on a wrong document; pairs that such noise alone explains are dropped.",
    )
    min_npmi: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="Minimum normalised pointwise mutual information of a query and a clicked document.",
    )
    min_jaccard: float = Field(0.05, ge=0, le=1, description="Minimum Jaccard overlap of the clicks of two queries.")
    hub_cap: int = Field(
        100,
        ge=2,
        description="Maximum number of distinct queries of a document; documents with more (home pages) are "
        "no evidence.",
    )
    recall_neighbors: int = Field(
        10, ge=1, le=200, description="Number of nearest neighbours of each text that are proposed as positives."
    )
    recall_similarity: float = Field(
        0.98,
        ge=-1,
        le=1,
        description="Minimum similarity of a proposed pair. Smaller values propose more and cost more reranker time.",
    )
    recall_reranker_score: float = Field(
        0.9, ge=0, le=1, description="Minimum reranker score, in both directions, that confirms a proposed pair."
    )
    recall_max_pairs: int = Field(
        50000,
        ge=0,
        description="Maximum number of pairs the reranker reads: proposed pairs first, then the least certain "
        "pairs of the log.",
    )
    veto_reranker_score: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Minimum reranker score, in both directions, of a pair that only the log supports; pairs "
        "below are dropped. Null: none is dropped.",
    )
    max_cluster_size: int = Field(
        60, ge=2, description="Maximum number of texts in a cluster; larger clusters are cut at their weakest edges."
    )
    dev_fraction: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of the texts for dev, on which checkpoints are chosen and scores are calibrated.",
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the texts for test, which only the final evaluation uses."
    )

    @model_validator(mode="after")
    def _agree(self) -> Positives:
        if self.dev_fraction + self.test_fraction > 0.9:
            raise ValueError("dev_fraction and test_fraction together leave less than a tenth to train on; lower them")
        if (self.veto_reranker_score or 0) > self.recall_reranker_score:
            raise ValueError(
                "veto_reranker_score is above recall_reranker_score: what confirms a pair would veto it; lower the veto"
            )
        return self


class Backtranslate(Reranks, Embeds, Seeded):
    """02_backtranslate: paraphrases by way of another language or an LLM, and the gate they must pass."""

    truth: str | None = Positives.model_fields["truth"]
    enabled: bool = Field(True, description="Whether to add paraphrases. False: none, to measure whether they pay.")
    pivots: list[Pivot] = Field([], description="Pivot languages to translate through. []: no back-translation.")
    max_texts: int | None = Field(
        20000, ge=1, description="Maximum number of train texts to paraphrase, spread over the clusters. Null: all."
    )
    candidates: int = Field(4, ge=1, le=50, description="Number of paraphrases to ask for, for each text and pivot.")
    decoding: Literal["sampling", "beam"] = Field(
        "sampling",
        description="Decoding method of the translation back into the texts' language: sampling (more varied) "
        "or beam (more literal).",
    )
    top_p: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Nucleus probability of sampling: smaller values stay nearer to the most likely words.",
    )
    temperature: float = Field(
        0.7, gt=0, le=5, description="Sampling temperature: larger values give more varied texts."
    )
    num_beams: int = Field(
        4,
        ge=1,
        le=64,
        description="Number of beams of the translation into the pivot language, and of the way back with "
        "decoding: beam.",
    )
    generation: Generation = Field(Generation(), description=Generation.__doc__)
    gate: Gate = Field(Gate(), description=Gate.__doc__)


class HardNegatives(Reranks, Embeds, Seeded):
    """03_hard_negatives: candidates by search, the rules that reject false negatives, training groups."""

    truth: str | None = Positives.model_fields["truth"]
    num_negatives: int = Field(5, ge=1, le=100, description="Maximum number of hard negatives of a query.")
    rank_min: int = Field(
        1,
        ge=1,
        description="Minimum rank of the search results to consider as negatives: 11 skips the ten nearest, "
        "which may be positives.",
    )
    rank_max: int = Field(
        100,
        ge=1,
        le=2000,
        description="Maximum rank of the search results to consider as negatives: the depth of the search. "
        "With max_false_negatives the search goes deeper where too few texts within this rank are "
        "safe.",
    )
    window_low: float | None = Field(
        None, ge=-1, le=1, description="Minimum similarity of a negative. Null: no minimum."
    )
    window_high: float | None = Field(
        None, ge=-1, le=1, description="Maximum similarity of a negative. Null: no maximum."
    )
    max_false_negatives: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="Highest probability of being an unknown positive with which a text may become a negative. It is "
        "estimated from the known positives, and lower where a reranker vetoes. Larger: harder negatives, more of them "
        "false. Null: no limit.",
    )
    margin: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="A negative stays this share below the positives, similarity measured after what all texts have in "
        "common is taken out (whitening). Applies where no reranker vetoes. Null: no such rule, except that 0.05 "
        "applies where the probability of max_false_negatives cannot be estimated.",
    )
    cluster_rule: bool = Field(True, description="No text of the query's cluster is a negative. False: no direct edge.")
    veto_score: float | None = Field(
        0.3,
        ge=0,
        le=1,
        description="Maximum reranker score of a negative; candidates from this score on may be positives and "
        "are left out. Null: none is left out.",
    )
    promote_score: float | None = Field(
        0.9,
        ge=0,
        le=1,
        description="Minimum reranker score, in both directions, at which a candidate is added to the "
        "positives. Null: none is added.",
    )
    promote_neighbors: bool = Field(
        False,
        description="In a later round: two texts that the tuned model finds nearest to each other are positives, too, "
        "unless the reranker vetoes. Scores bunch less; where near-misses abound, ranking suffers.",
    )
    sampling: Literal["top", "random", "band"] = Field(
        "top",
        description="Which of the candidates that pass become negatives: the most similar (top), random ones, "
        "or one from each of equal bands of ranks (band).",
    )
    too_few: Literal["fewer", "random"] = Field(
        "fewer",
        description="What to do when too few candidates pass: use fewer negatives, or add random texts of "
        "other clusters.",
    )
    max_positives: int = Field(
        10, ge=1, description="Maximum number of positives of a query; the best supported come first."
    )
    index: str = Field(
        "Flat",
        description="FAISS index factory string. Flat searches exactly; for millions of texts take "
        "IVF4096,Flat or HNSW32.",
    )
    search_params: dict[str, int] = Field(
        {},
        description="Search parameters of that index: {nprobe: 32} or {efSearch: 128}. Larger values find "
        "more and take longer.",
    )
    memory_mb: int = Field(512, ge=16, description="Working memory of the search, in MiB.")
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = Field(
        "float32",
        description="Number format the models compute in. auto is about twice as fast; its results repeat on "
        "one machine only. int8 runs the encoder by ONNX Runtime on the CPU (pip install "
        "'bgetune[onnx]') and the reranker in float32.",
    )
    heldout_per_cluster: int = Field(
        20, ge=1, description="Maximum number of positive pairs of each dev or test cluster used for evaluation."
    )
    review_limit: int = Field(
        200, ge=0, description="Maximum number of doubtful pairs written to review.csv for people to label."
    )
    review_file: str | None = Field(None, description="Labelled review.csv of another run, to use here as well.")

    @model_validator(mode="after")
    def _agree(self) -> HardNegatives:
        if self.rank_min > self.rank_max:
            raise ValueError("rank_min is above rank_max: no candidate would be left; 1 is the top rank")
        if None not in (self.window_low, self.window_high) and self.window_low >= self.window_high:
            raise ValueError("window_low is not below window_high: no candidate would be left; null lifts a bound")
        if None not in (self.veto_score, self.promote_score) and self.promote_score < self.veto_score:
            raise ValueError(
                "promote_score is below veto_score: what may still be a negative would become a positive; raise it"
            )
        return self


class Train(Embeds, Seeded):
    """04_train: fine-tuning by sentence-transformers or FlagEmbedding."""

    backend: Literal["sentence_transformers", "flagembedding"] = Field(
        "sentence_transformers",
        description="Who trains. flagembedding is the official trainer of BGE: of what says how to train, it takes "
        "epochs, batch_size, learning_rate, warmup, weight_decay, scale, negatives, precision and max_length alone.",
    )
    loss: Literal["ranking", "gist"] = Field(
        "ranking",
        description="Ranking loss. ranking: MultipleNegativesRanking with the known clusters masked; gist: "
        "also masks what a guide model finds too similar (GISTEmbed).",
    )
    scale: float = Field(
        20.0,
        gt=0,
        le=200,
        description="Scale of the ranking loss, 1 / temperature. Larger values look at the hardest negatives "
        "more. BGE was trained with 50 to 100.",
    )
    loss_scope: Literal["per_query", "across_queries"] = Field(
        "per_query",
        description="Which negatives a positive is ranked against. per_query: those of its own query; across_queries: "
        "those of all queries of the batch, so that one threshold suits all queries.",
    )
    symmetric: bool = Field(
        True,
        description="Whether the ranking loss also ranks queries for each positive, not only texts for each query. "
        "Needs loss_scope: per_query.",
    )
    orthogonality_weight: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight of the orthogonality regularisation, which spreads the scores of unrelated texts around 0. "
        "Where dev shows more drift than before training, the weight doubles until it is gone. 0: no regularisation.",
    )
    drift_penalty: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Penalty, in units of metric, for a checkpoint whose scores bunch more than those of the model "
        "before training, when the best checkpoint is chosen. 0: drift does not count; 1: such a checkpoint is chosen "
        "only if all have drifted.",
    )
    matryoshka: list[Annotated[int, Field(ge=2)]] = Field(
        [],
        description="Further vector lengths to train, such as [64, 128], to which vectors may be cut later. "
        "Applies to the ranking loss.",
    )
    guide: ModelLocation | None = Field(
        None, description="Guide model of loss: gist. Null: the model as it was before training."
    )
    guide_margin: float = Field(
        0.0, ge=-1, le=1, description="Margin of loss: gist, in cosine. Larger values mask more texts."
    )
    graded_loss: Literal["none", "cosent", "angle", "cosine"] = Field(
        "cosent",
        description="Loss for labelled and graded pairs, trained together with the ranking loss. none leaves "
        "these pairs out.",
    )
    mixing: Literal["proportional", "round_robin"] = Field(
        "proportional",
        description="How batches of groups and of graded pairs are mixed. proportional: all of both once an "
        "epoch; round_robin: in turn while both last.",
    )
    positives: int | None = Field(
        None,
        ge=1,
        description="Maximum number of positives of a query in a batch. Null: as many as needed for all to be "
        "used during training.",
    )
    negatives: int = Field(4, ge=0, description="Maximum number of hard negatives of a query in a batch.")
    denoising_epochs: int = Field(
        0,
        ge=0,
        description="Epochs of unsupervised warm-up (TSDAE) on all train texts before training. Pays where "
        "the model hardly knows such texts and positives are few; compare with --set "
        "'04_train.denoising_epochs=[0, 3]'. 0: none.",
    )
    denoising_texts: int | None = Field(
        50_000, ge=1, description="Maximum number of texts for the warm-up, drawn by the seed. Null: all."
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="Passes over all queries. Null: 3 from 4,000 queries on, for fewer up to 10, so that small sets "
        "get steps enough; dev chooses the best checkpoint of them. Without dev pairs 3.",
    )
    batch_size: int = Field(
        64,
        ge=2,
        description="Number of queries in a batch, for each process. Larger values give more in-batch "
        "negatives and need more memory.",
    )
    mini_batch_size: int | None = Field(
        None,
        ge=1,
        description="Number of texts encoded at a time (GradCache), for large batches in little memory. Null: "
        "all at once.",
    )
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Peak learning rate; it then falls linearly to 0.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps during which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW.")
    lora_rank: int | None = Field(
        None,
        ge=1,
        description="Rank of LoRA: train low-rank additions to the linear layers instead of all weights; 8 to "
        "64 are usual, with about ten times the learning rate. They are merged into the saved "
        "model. Null: train all weights.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the computation; weights stay float32. auto: bfloat16 where the GPU or "
        "CPU supports it, else float32.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32",
        description="Type of the saved weights. The two short ones halve the folder; how far vectors move is measured, "
        "and 05_calibrate chooses its thresholds on what was saved.",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Whether to recompute activations in the backward pass: less memory, about a third more time.",
    )
    eval_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between two evaluations on dev, each with a checkpoint. Null: a tenth of the training.",
    )
    dev_pairs: int = Field(
        2000,
        ge=1,
        description="Maximum number of dev pairs of each kind to evaluate on, and of general pairs, drawn by the seed.",
    )
    metric: Literal["auc", "average_precision", "labelled_auc", "mrr@10"] = Field(
        "average_precision", description="Metric on dev that chooses the best checkpoint."
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="Number of evaluations without a better metric after which training stops. Null: never stop early.",
    )
    general: GeneralSource | None = Field(
        None,
        description="Labelled or graded pairs of general text, to measure what the model forgets during "
        "training. Null: not measured.",
    )
    merge_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the tuned weights in the saved model; the rest are the weights before training "
        "(LM-Cocktail). Smaller values forget less general text. 1: the tuned model as it is.",
    )
    tensorboard: bool = Field(
        False, description="Whether to write TensorBoard files: tensorboard --logdir runs/NAME/04_train/tensorboard"
    )
    push_to_hub: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Also upload the model to this repository of the hub, team/name, private if it is new. The token "
        "is taken from the environment variable HF_TOKEN. Null: nothing leaves this machine.",
    )
    onnx: list[Literal["float32", "int8"]] = Field(
        [], description="Number formats in which the tuned model is also written as ONNX (pip install 'bgetune[onnx]')."
    )

    @model_validator(mode="after")
    def _agree(self) -> Train:
        if self.backend == "flagembedding" and self.negatives < 1:
            raise ValueError("backend flagembedding needs negatives of 1 or more, or take sentence_transformers")
        return self


# --- 05_calibrate -------------------------------------------------------------------------------------------------


Quantile = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]


class Calibrate(Reranks, Embeds, Seeded):
    """05_calibrate: drift before and after, calibrated scores, thresholds with a promise."""

    precisions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95, 0.99],
        description="Precisions to guarantee; for each the lowest threshold that reaches it is given.",
    )
    recalls: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95], description="Recalls to guarantee; for each the highest threshold that reaches it is given."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the guaranteed precisions.")
    prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of positives among the pairs that production scores. Null: the same as among the "
        "calibration pairs.",
    )
    min_labelled: int = Field(
        100,
        ge=2,
        description="Minimum number of labelled pairs of each label in dev and in test for calibration to use "
        "them; with fewer, the positives and hard negatives of 03_hard_negatives are used.",
    )
    calibration: Literal["auto", "min_max", "platt", "isotonic", "beta"] = Field(
        "auto",
        description="Map from cosine to probability. auto: the one with the lowest log loss on held-out dev clusters; "
        "for another one the report shows what it costs. min_max is linear and no probability.",
    )
    min_max_quantiles: list[Quantile] = Field(
        [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="For min_max: quantiles of the dev pairs' cosines that become 0 and 1. [0.01, 0.99]: no single "
        "pair stretches the map.",
    )
    min_max_bounds: list[Cosine] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="For min_max: the cosines that become 0 and 1, by hand. Null: at min_max_quantiles.",
    )
    isotonic_min_pairs: int = Field(
        1000,
        ge=10,
        description="Minimum number of dev pairs for calibration: auto to take isotonic; with fewer it overfits.",
    )
    resamples: int = Field(
        500, ge=100, le=10000, description="Number of bootstrap resamples for the confidence intervals."
    )
    top_k: int = Field(10, ge=1, le=1000, description="Number of search results to evaluate and rerank.")
    search_queries: int = Field(300, ge=10, description="Maximum number of dev and of test queries to search with.")

    @model_validator(mode="after")
    def _agree(self) -> Calibrate:
        for name in ("min_max_quantiles", "min_max_bounds"):
            pair = getattr(self, name)
            if pair is not None and pair[0] >= pair[1]:
                raise ValueError(f"{name}: the first must be below the second: they become 0 and 1")
        return self


STAGES: dict[str, type[Section]] = {
    "01_positives": Positives,
    "02_backtranslate": Backtranslate,
    "03_hard_negatives": HardNegatives,
    "04_train": Train,
    "05_calibrate": Calibrate,
}

ROUND = ("03_hard_negatives", "04_train")
"""The stages that run once in every round."""


class Shared(Reranks, Embeds, Seeded):
    """Parameters that several notebooks use."""

    positive_grade: float = Positives.model_fields["positive_grade"]
    truth: str | None = Positives.model_fields["truth"]


ProfileModel = create_model(
    "Profile",
    __base__=Shared,
    name=(
        str | None,
        Field(None, description="Names the run's folder, runs/NAME. Default: the file's name."),
    ),
    base=(
        str | None,
        Field(None, description="Another profile, whose values hold where this one gives none."),
    ),
    study=(
        dict[str, Annotated[list[Any], Field(min_length=1)]],
        Field(
            {},
            description="Values to try, such as {04_train.scale: [10, 20, 50]}: every combination becomes a run of its "
            "own, runs/NAME/scale=10, and a page compares them.",
        ),
    ),
    language=(
        Literal["zh", "en"] | None,
        Field(None, description="Of reports, figures and tables. Default: the language of the system's locale."),
    ),
    rounds=(
        int,
        Field(
            1,
            ge=1,
            le=9,
            description="How often 03 and 04 run: from the second time on, the model tuned last mines the negatives.",
        ),
    ),
    **{
        f"stage_{stage}": (model | None, Field(None, alias=stage, description=model.__doc__))
        for stage, model in STAGES.items()
    },
)
"""A whole profile file: shared parameters, and a section per notebook that may give any of them another value."""
