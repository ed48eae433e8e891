"""The parameters of every notebook: the only place where a default, a range or a help text is written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from bgetune.config.augmentation import Gate, Generation, Pivot
from bgetune.config.base import Embeds, ModelLocation, Reranks, Section, Seeded
from bgetune.config.sources import GeneralSource, Sources

RENAMED = {("04_train", "spread"): "orthogonality_weight"}
"""Section and old name of a parameter -> its name now. Profiles with the old one are read, with a warning."""


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
    truth: str | None = Field(None, description="Known meanings (text, meaning), to measure with. Demo and tests only.")
    sample_fraction: float = Field(
        1.0, gt=0, le=1, description="A stable share of users, pairs and texts, for a first look."
    )
    mask: list[Literal["email", "id_card", "card", "phone"]] = Field(
        ["email", "id_card", "card", "phone"], description="Personal data replaced by tokens such as <电话>. []: none."
    )
    opencc: str | None = Field(None, description="OpenCC configuration for all texts: t2s makes them simplified.")
    synonym_lexicon: bool = Field(
        False, description="Also join texts that become one another when synonyms in them are replaced."
    )
    session_gap_minutes: float = Field(
        30, gt=0, description="A user's pause that ends a session, where the log has no session ids."
    )
    rewrite_window_seconds: float = Field(
        120, gt=0, description="A rewrite comes at most this long after the search that found nothing."
    )
    robot_searches_per_day: int = Field(
        300, ge=1, description="A user with more rows on one day is a program; its rows are dropped."
    )
    min_dwell_seconds: float = Field(
        2, ge=0, description="A click that is left sooner is a mis-click (needs dwell_column)."
    )
    min_support: int = Field(2, ge=1, description="Distinct users a pair of a click log takes.")
    misclick_rate: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="How often a click goes to some wrong document: pairs that such noise explains are dropped.",
    )
    min_npmi: float = Field(
        0.1,
        ge=-1,
        le=1,
        description="Normalised pointwise mutual information of a query and a clicked document.",
    )
    min_jaccard: float = Field(0.05, ge=0, le=1, description="Overlap of the clicks of two queries of one document.")
    hub_cap: int = Field(
        100, ge=2, description="A document clicked after more distinct queries says nothing about any of them."
    )
    recall_neighbors: int = Field(10, ge=1, le=200, description="Nearest texts that each text proposes.")
    recall_similarity: float = Field(0.98, ge=-1, le=1, description="Similarity from which a pair is proposed.")
    recall_reranker_score: float = Field(
        0.9, ge=0, le=1, description="Reranker's score, in both directions, from which a pair is confirmed."
    )
    recall_max_pairs: int = Field(
        50000, ge=0, description="Pairs that the reranker reads at most: proposals first, then the log's least sure."
    )
    veto_reranker_score: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="A pair that only the log speaks for is dropped below this score in a direction. Null: no veto.",
    )
    max_cluster_size: int = Field(60, ge=2, description="Larger clusters are cut at their weakest edges.")
    dev_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the texts to validate and calibrate on.")
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the texts that only the last judgement sees.")

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
    enabled: bool = Field(True, description="False: nothing is added, to see whether it pays.")
    pivots: list[Pivot] = Field([], description="Languages to translate by way of. None: no back-translation.")
    max_texts: int | None = Field(
        20000, ge=1, description="Texts of the train split to paraphrase, spread over the clusters. Null: all."
    )
    candidates: int = Field(4, ge=1, le=50, description="Paraphrases asked for per text and pivot.")
    decoding: Literal["sampling", "beam"] = Field(
        "sampling", description="How the way back is chosen; the way there is always the most likely one."
    )
    top_p: float = Field(0.8, gt=0, le=1, description="Sampling: nucleus.")
    temperature: float = Field(0.7, gt=0, le=5, description="Sampling: higher is more varied.")
    num_beams: int = Field(4, ge=1, le=64, description="Beams of the way there, and of the way back with beam.")
    generation: Generation = Field(Generation(), description=Generation.__doc__)
    gate: Gate = Field(Gate(), description=Gate.__doc__)


class HardNegatives(Reranks, Embeds, Seeded):
    """03_hard_negatives: candidates by search, the rules that reject false negatives, training groups."""

    truth: str | None = Positives.model_fields["truth"]
    num_negatives: int = Field(5, ge=1, le=100, description="Hard negatives of a query, at most.")
    rank_min: int = Field(1, ge=1, description="First rank of the search that may become a negative.")
    rank_max: int = Field(
        100,
        ge=1,
        le=2000,
        description="Last rank: how deep the search goes. With max_false_negatives it goes deeper by itself where too "
        "few texts within this rank are safe.",
    )
    window_low: float | None = Field(None, ge=-1, le=1, description="Similarity a negative must reach. Null: any.")
    window_high: float | None = Field(None, ge=-1, le=1, description="Similarity a negative must not pass. Null: any.")
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
        0.3, ge=0, le=1, description="Reranker score from which a candidate is no negative. Null: no veto."
    )
    promote_score: float | None = Field(
        0.9, ge=0, le=1, description="Reranker score, in both directions, of a missed positive. Null: none is promoted."
    )
    promote_neighbors: bool = Field(
        False,
        description="In a later round: two texts that the tuned model finds nearest to each other are positives, too, "
        "unless the reranker vetoes. Scores bunch less; where near-misses abound, ranking suffers.",
    )
    sampling: Literal["top", "random", "band"] = Field(
        "top", description="Which of those that pass: the most similar, any, or one from each of equal bands of ranks."
    )
    too_few: Literal["fewer", "random"] = Field(
        "fewer", description="When too few pass: fewer negatives, or random texts of other clusters to fill up."
    )
    max_positives: int = Field(10, ge=1, description="Positives of a query, the best supported first.")
    index: str = Field("Flat", description="Flat is exact; for millions of texts FAISS's IVF4096,Flat, HNSW32...")
    search_params: dict[str, int] = Field({}, description="Of that index: {nprobe: 32} or {efSearch: 128}.")
    memory_mb: int = Field(512, ge=16, description="Working memory of the search, in MiB.")
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = Field(
        "float32",
        description="What the models compute in; auto is twice as fast, and the same on one machine only. int8: the "
        "encoder by ONNX Runtime on the CPU (pip install 'bgetune[onnx]'), the reranker in float32.",
    )
    heldout_per_cluster: int = Field(20, ge=1, description="Positive pairs of a dev or test cluster that are judged.")
    review_limit: int = Field(200, ge=0, description="Doubtful pairs written to review.csv for a person to judge.")
    review_file: str | None = Field(None, description="Judged review file of another run, to honour here too.")

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
        description="ranking: MultipleNegativesRanking, without the false negatives that the clusters know; gist: the "
        "guide's vectors mask further ones (GISTEmbed).",
    )
    scale: float = Field(20.0, gt=0, le=200, description="1 / temperature of the ranking loss; BGE was made with 50.")
    compare: Literal["query", "batch"] = Field(
        "query",
        description="A positive must score above the negatives of its own query, or above those of all queries of the "
        "batch, which makes the scores of different queries comparable, as one threshold for all needs.",
    )
    symmetric: bool = Field(
        True, description="With compare: query, positives must find their query, too, not only the query its positive."
    )
    orthogonality_weight: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight of the orthogonality regularisation, which spreads the scores of unrelated texts around 0. "
        "Where dev shows more drift than before training, the weight doubles until it is gone. 0: no regularisation.",
    )
    drift_price: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How much better in metric a checkpoint must be to be chosen although its scores bunch more than "
        "those of the model before training. 0: drift does not count; 1: never.",
    )
    matryoshka: list[Annotated[int, Field(ge=2)]] = Field(
        [],
        description="Lengths, such as [64, 128], to which vectors may be cut later; the ranking loss trains them, too.",
    )
    guide: ModelLocation | None = Field(
        None, description="Model that masks for gist. Null: the model as it was before training."
    )
    guide_margin: float = Field(0.0, ge=-1, le=1, description="For gist, in cosine: larger masks more.")
    graded_loss: Literal["none", "cosent", "angle", "cosine"] = Field(
        "cosent", description="For labelled and graded pairs, which train along; none leaves them out."
    )
    mixing: Literal["proportional", "round_robin"] = Field(
        "proportional", description="Groups and graded pairs: all of both once an epoch, or by turns while both last."
    )
    positives: int | None = Field(
        None, ge=1, description="Most positives of a query in a batch. Null: so many that all have their turn."
    )
    negatives: int = Field(4, ge=0, description="Most hard negatives that a query brings into a batch.")
    denoising_epochs: int = Field(
        0,
        ge=0,
        description="Passes over the texts of the train split, also those without a positive, before the training: the "
        "model learns to tell a text from a part of it (TSDAE). Pays if the model hardly knows such texts and "
        "positives are few; [0, 3] with --set compares. 0: none.",
    )
    denoising_texts: int | None = Field(
        50_000, ge=1, description="Most texts for denoising_epochs, drawn by the seed. Null: all."
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="Passes over all queries. Null: 3 from 4,000 queries on, for fewer up to 10, so that small sets "
        "get steps enough; dev chooses the best checkpoint of them. Without dev pairs 3.",
    )
    batch_size: int = Field(64, ge=2, description="Queries in a batch, per process.")
    mini_batch_size: int | None = Field(
        None,
        ge=1,
        description="Texts encoded at a time (GradCache): large batches in little memory. Null: all at once.",
    )
    learning_rate: float = Field(5e-5, gt=0, le=1, description="At its highest; it then falls to 0 in a line.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    lora_rank: int | None = Field(
        None,
        ge=1,
        description="Train low-rank additions to the linear layers (LoRA) instead of all weights; 8 to 64 are usual, "
        "with about ten times the learning rate. They are merged into the weights of the saved model. Null: no LoRA.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What is computed in (weights stay float32); auto: bfloat16 on a GPU or CPU with instructions for "
        "it, else float32.",
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32",
        description="Type of the saved weights. The two short ones halve the folder; how far vectors move is measured, "
        "and 05_calibrate chooses its thresholds on what was saved.",
    )
    gradient_checkpointing: bool = Field(False, description="Less memory, about a third more time.")
    eval_steps: int | None = Field(
        None, ge=1, description="Steps between two looks at dev, each with a checkpoint. Null: a tenth of the training."
    )
    dev_pairs: int = Field(
        2000, ge=1, description="Most dev pairs of a kind to look at, and most general pairs, drawn by the seed."
    )
    metric: Literal["auc", "average_precision", "labelled_auc", "mrr@10"] = Field(
        "average_precision", description="On dev: the checkpoint that is best by it becomes the model."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many looks at dev without a better metric. Null: never."
    )
    general: GeneralSource | None = Field(
        None,
        description="Labelled or graded pairs of general text: what the model forgets while it learns is measured on "
        "them. Null: not measured.",
    )
    merge_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the tuned weights in the model; the rest are those from before training (LM-Cocktail), "
        "which brings back forgotten general text. 1: the tuned model as it is.",
    )
    tensorboard: bool = Field(
        False, description="Write event files, too: tensorboard --logdir runs/NAME/04_train/tensorboard"
    )
    push_to_hub: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="Also upload the model to this repository of the hub, team/name, private if it is new. The token "
        "is taken from the environment variable HF_TOKEN. Null: nothing leaves this machine.",
    )
    onnx: list[Literal["float32", "int8"]] = Field(
        [], description="Also write the tuned model as ONNX in these precisions (pip install 'bgetune[onnx]')."
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
        [0.90, 0.95, 0.99], description="Precisions to promise, each with the lowest threshold that keeps it."
    )
    recalls: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.90, 0.95], description="Shares of the positives to reach, each with the highest threshold that does."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the promised precisions.")
    prior: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of positives in production. Null: as among the calibration pairs.",
    )
    min_labelled: int = Field(
        100,
        ge=2,
        description="Pairs labelled by people, of either label, that dev and test each must have for calibration to "
        "use them; with fewer, the positives and hard negatives of 03_hard_negatives are used.",
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
    isotonic_min_pairs: int = Field(1000, ge=10, description="Dev pairs below which auto does not take isotonic.")
    resamples: int = Field(500, ge=100, le=10000, description="Bootstrap resamples of clusters, for the intervals.")
    top_k: int = Field(10, ge=1, le=1000, description="Search results that are judged and reranked.")
    search_queries: int = Field(300, ge=10, description="Queries searched with, at most, in dev and in test.")

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
