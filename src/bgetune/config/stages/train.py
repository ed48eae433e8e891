"""The parameters of 04_train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bgetune.config.base import Embeds, ModelLocation, Reranks, Seeded
from bgetune.config.sources import GeneralSource
from bgetune.locale import _


class Train(Reranks, Embeds, Seeded):
    """04_train: fine-tuning by sentence-transformers or FlagEmbedding."""

    backend: Literal["sentence_transformers", "flagembedding"] = Field(
        "sentence_transformers",
        description="Training library. flagembedding is the official trainer of BGE; it uses only epochs, "
        "batch_size, learning_rate, warmup, weight_decay, scale, negatives, precision and "
        "max_length, and of the reranker's parameters all but reranker_loss.",
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
        description="Scale of the ranking loss, 1 / temperature. Larger values give the hardest negatives more "
        "weight. BGE was trained with 50 to 100.",
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
    implied_weight: float | None = Field(
        0.95,
        gt=0,
        le=1,
        description="Minimum trust in a positive that follows from two others (a and b, b and c mean the same, so do a "
        "and c). A batch reads one such text of a query at most, and none where positives leaves no room. Null: only "
        "positives that a source names.",
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
        description="Number of passes over all queries. Null: 3 for 4,000 queries or more, up to 10 for fewer, so that "
        "small sets get enough steps; the best checkpoint on dev is kept. Without dev pairs: 3.",
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
    learning_rates: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [],
        description="Further learning rates to try before training: all of them, and learning_rate, train on an eighth "
        "of the steps, the better half on twice as many, and so on; the best on dev trains to the end. Three rates "
        "take about as long as one training. Empty: learning_rate alone.",
    )
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
    tune_reranker: bool = Field(
        False,
        description="Whether to fine-tune the reranker, too, on the same groups and labelled pairs. 05_calibrate then "
        "uses the tuned one. Needs reranker.",
    )
    reranker_loss: Literal["binary", "lambda", "listnet"] = Field(
        "binary",
        description="Loss of the reranker's training. binary: cross-entropy of each pair, so that one threshold suits "
        "all queries; lambda and listnet: LambdaLoss and ListNet on a query's texts, which only rank.",
    )
    reranker_epochs: int = Field(2, ge=1, description="Passes over all queries in the reranker's training.")
    reranker_batch_size: int = Field(
        16,
        ge=2,
        description="Number of queries in a batch of the reranker's training; each is read with a positive, "
        "its hard negatives and a random text.",
    )
    reranker_learning_rate: float = Field(
        2e-5, gt=0, le=1, description="Peak learning rate of the reranker's training; it then falls linearly to 0."
    )
    tensorboard: bool = Field(
        False, description="Whether to write TensorBoard files: tensorboard --logdir runs/NAME/04_train/tensorboard"
    )
    wandb: bool = Field(
        False,
        description="Whether to log the training to Weights & Biases (pip install wandb), as a run of the profile's "
        "name in the project that WANDB_PROJECT names. Needs WANDB_API_KEY, or WANDB_MODE=offline, with which nothing "
        "leaves this machine.",
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
            raise ValueError(_("backend flagembedding needs negatives of 1 or more, or take sentence_transformers"))
        return self
