"""Unsupervised warm-up on unlabelled texts: a denoising auto-encoder (TSDAE, arXiv 2104.06979)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.models import hub
from bgetune.models.tokens import preprocessor
from bgetune.training import checkpoints, save
from bgetune.training.callbacks import Progress
from bgetune.training.settings import TrainingSettings, uses_bfloat16
from bgetune.training.trainer import CheckedTrainer, load, training_arguments

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

DELETED = 0.6
"""Share of the tokens that are deleted; the best value of the paper."""

DECODER = "decoder.safetensors"


@dataclass(frozen=True)
class WarmedUp:
    """The result of a warm-up.

    Attributes:
        folder: folder of the model, from which the training starts.
        log: columns step, loss (cross-entropy of a token, in nats).
    """

    folder: Path
    log: pd.DataFrame


def corpus(texts: pd.DataFrame, clusters: pd.DataFrame, most: int | None, seed: int) -> list[str]:
    """The texts to warm up on: all kinds, with and without a positive, but none of a held-out cluster.

    Args:
        texts: the table `texts`.
        clusters: the table `clusters`; a text without a cluster is not held out.
        most: maximum number of texts; of more, a random sample is taken. None: all.
        seed: seed of the sample.
    """
    held_out = clusters.loc[clusters["split"] != "train", "text_id"]
    kept = texts.loc[~texts["text_id"].isin(held_out), "text"]
    return (kept if most is None or len(kept) <= most else kept.sample(most, random_state=seed)).sort_index().tolist()


def warm_up(
    base: str | Path, texts: Sequence[str], settings: TrainingSettings, folder: Path, *, epochs: int
) -> WarmedUp:
    """Train a model so that a text can be reconstructed from the vector of its remains after deleting most tokens.

    A decoder with the model's own weights, and cross-attention to that one vector, reconstructs the text; it is
    discarded at the end. Batch size, learning rate and precision are those of the training. With `mini_batch_size`, so
    many texts are computed at a time and their gradients are accumulated, because the scores of all words of the
    vocabulary at every token take much memory. A warm-up that was killed continues from its last checkpoint and ends
    with the weights of an uninterrupted one. Runs in one process only.

    Args:
        base: the model's folder, hub name or demo://.
        texts: n texts.
        settings: how to train; its epochs are those of the training that follows.
        folder: for checkpoints and the model.
        epochs: passes over the texts; other tokens are deleted every time.

    Raises:
        InputError: no texts, a model whose architecture has no decoder, a loss that is not finite, no room.
    """
    if not texts:
        raise InputError(_("04_train: denoising_epochs: there is no text to warm up on; set it to 0"))
    model = load(base, max_length=settings.max_length, device=settings.device)
    torch.manual_seed(settings.seed)  # of the decoder's cross-attention, which the model does not have
    try:
        with hub.quiet():
            loss = DenoisingAutoEncoderLoss(model)
    except (ValueError, AssertionError) as error:
        raise InputError(
            _(
                "04_train: denoising_epochs: {base} cannot be its own decoder, as BERT and XLM-R can "
                "({reason}); set it to 0"
            ).format(base=base, reason=str(error).strip().splitlines()[0])
        ) from None
    weights = sum(p.nelement() * p.element_size() for p in loss.parameters())
    folder = checkpoints.prepare(folder, _key(base, texts, settings, epochs), 3 * 3 * weights / 1e9)
    last = checkpoints.latest(folder)
    items = Dataset.from_dict({"item": range(len(texts) * epochs)})
    at_once = min(settings.batch_size, settings.mini_batch_size or settings.batch_size)
    accumulated = -(-settings.batch_size // at_once)
    steps = -(-len(items) // (at_once * accumulated))
    # one epoch of all items: the number of an item tells text and pass
    one_pass = replace(settings, epochs=1, batch_size=at_once)
    arguments = training_arguments(one_pass, folder, steps, evaluates=False)
    arguments.gradient_accumulation_steps = accumulated
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=items,
        loss=loss,
        data_collator=Collator(model, texts, settings.seed),
        callbacks=[Progress(_("denoising"))],
    )
    with hub.quiet():
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    save.save(model.eval(), folder / "model")
    log = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return WarmedUp(folder / "model", pd.DataFrame(log, columns=["step", "loss"]))


def delete_tokens(
    features: Mapping[str, Tensor], special: Tensor, pad: int, rngs: Sequence[np.random.Generator]
) -> dict[str, Tensor]:
    """Delete tokens, each with probability `DELETED`; special tokens and at least one other token are kept.

    Args:
        features: (n, tokens) each, `input_ids` and `attention_mask` among them.
        special: (n, tokens) bool, which tokens are special ones, padding included.
        pad: id of the padding token.
        rngs: a random number generator for each row.

    Returns:
        The features (n, fewer tokens), without gaps, padded on the right.
    """
    kept = special & features["attention_mask"].bool()
    for row, rng in enumerate(rngs):
        others = (~special[row]).nonzero()[:, 0]
        if len(others):
            chosen = rng.random(len(others)) >= DELETED
            chosen[rng.integers(len(others))] |= not chosen.any()
            kept[row, others[torch.from_numpy(chosen)]] = True
    order = torch.argsort((~kept).int(), dim=1, stable=True)[:, : int(kept.sum(dim=1).max())]
    filled = kept.gather(1, order)
    return {
        key: values.gather(1, order).masked_fill(~filled, pad if key == "input_ids" else 0)
        for key, values in features.items()
    }


class Collator:
    """Makes a batch of two columns, texts with deleted tokens and whole texts. Item i is text i modulo n."""

    valid_label_columns: tuple[str, ...] = ()

    def __init__(self, model: SentenceTransformer, texts: Sequence[str], seed: int):
        self.preprocess = preprocessor(model)
        self.tokenizer = model.tokenizer
        self.texts = texts
        self.seed = seed

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        items = [row["item"] for row in rows]
        whole = self.preprocess([self.texts[item % len(self.texts)] for item in items])
        whole = {key: value for key, value in whole.items() if isinstance(value, torch.Tensor)}
        special = torch.isin(whole["input_ids"], torch.tensor(self.tokenizer.all_special_ids))
        rngs = [np.random.default_rng([self.seed, item]) for item in items]
        part = delete_tokens(whole, special, self.tokenizer.pad_token_id, rngs)
        return {
            **{f"part_{key}": value for key, value in part.items()},
            **{f"whole_{key}": value for key, value in whole.items()},
        }


class Trainer(CheckedTrainer):
    """The trainer of the warm-up; its checkpoints also hold the weights that only the decoder has."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        with self.accelerator.autocast():  # the decoder, too
            return super().compute_loss(model, inputs, *args, **options)

    def divergence_message(self, loss: float, inputs: Mapping[str, Any]) -> str:
        return _(
            "04_train: denoising_epochs: the loss is {loss} in step {step} of the warm-up, which has diverged; lower "
            "learning_rate, or set precision to float32"
        ).format(loss=loss, step=self.state.global_step + 1)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        own = {name: value.detach().contiguous() for name, value in self._decoder().items()}
        save_file(own, Path(output_dir or str(self.args.output_dir)) / DECODER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint)
        saved = load_file(Path(resume_from_checkpoint) / DECODER)
        with torch.no_grad():
            for name, value in self._decoder().items():
                value.copy_(saved[name])

    def _decoder(self) -> dict[str, Tensor]:
        """The weights that only the decoder has; those it shares with the encoder have other names."""
        assert isinstance(self.loss, torch.nn.Module)
        return {name: value for name, value in self.loss.named_parameters() if name.startswith("decoder.")}


def _key(base: str | Path, texts: Sequence[str], settings: TrainingSettings, epochs: int) -> list[str]:
    """Everything that the weights of a warm-up depend on."""
    sizes, rates = ["batch_size", "mini_batch_size", "max_length"], ["learning_rate", "warmup", "weight_decay"]
    values = asdict(settings)
    return [
        json.dumps([epochs, *(values[name] for name in ("seed", "eval_steps", "device", *sizes, *rates))]),
        hub.fingerprint(hub.fetch(base)),
        str(uses_bfloat16(settings.precision, settings.device)),
        *texts,
        checkpoints.code_hash(),
    ]
