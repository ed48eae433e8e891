"""The losses: ranking with masked false negatives, orthogonality regularisation, and losses of graded pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.sentence_transformer import losses
from torch import Tensor, distributed, nn
from torch.nn import functional

from bgetune.training.collator import shares
from bgetune.training.settings import LossScope

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

POSITIVE, NEGATIVE, MASKED = 1, 0, -1
"""Values of the label matrix of a batch: what a document is to an anchor."""

PIECES = 4
"""Maximum number of pieces, of texts of similar length, that a column of a batch is split into."""

MIN_PIECE = 16
"""Minimum number of texts in a piece; smaller ones save no time."""

NEVER = -1e9
"""Used instead of minus infinity in a softmax, which would make the gradient of a row without negatives NaN."""


class RankingLoss(CachedLossMixin, nn.Module):
    """Softmax ranking (InfoNCE) of each positive against the negatives that the label matrix allows.

    For an anchor a with positives P and allowed negatives N, with cosine s and scale c::

        loss(a) = mean over p in P of -log( exp(c s(a,p)) / (exp(c s(a,p)) + sum over n in N of exp(c s(a,n))) )

    With one positive and no masked entry it is `MultipleNegativesRankingLoss` (arXiv 1705.00652); with entries masked
    by the vectors of a guide it is GISTEmbed (arXiv 2402.16829). A document is encoded once even if it belongs to
    several anchors, and an anchor may have any number of negatives.

    Args:
        model: the model to train.
        scale: factor of the cosines, 1 / temperature.
        symmetric: whether to add the loss in the other direction, from each positive to all anchors (the mean of both).
        scope: "per_query" ranks a positive against the negatives of its own anchor; "across_queries" ranks it against
            the negatives of all anchors of the batch, so that one threshold suits all queries (the comparison of
            CoSENT, doi 10.1109/TASLP.2024.3402087).
        orthogonality_weight: weight of `orthogonality`, of the anchors and of the positives.
        dimensions: shorter lengths at which vectors are trained as well (Matryoshka, arXiv 2205.13147): the loss is the
            mean over them and the full length.
        mini_batch_size: number of texts encoded at a time with GradCache (arXiv 2101.06983), which needs more time and
            far less memory; None encodes the batch at once.

    Inputs: two columns, anchors (b texts) and documents (m texts), and labels (b, m) of POSITIVE, NEGATIVE and MASKED.
    In several processes each has its share of either column (`collator.shares`) and the labels of all: the loss of each
    is that of the whole batch in one process, and so is the gradient that DistributedDataParallel averages.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        scale: float = 20.0,
        symmetric: bool = False,
        scope: LossScope = "per_query",
        orthogonality_weight: float = 0.0,
        dimensions: Sequence[int] = (),
        mini_batch_size: int | None = None,
    ):
        super().__init__()
        self.model = model
        self.scale = scale
        self.symmetric = symmetric
        self.scope = scope
        self.orthogonality_weight = orthogonality_weight
        self.dimensions = tuple(dimensions)
        self.mini_batch_size = mini_batch_size or 0
        self.uses_gradient_cache = mini_batch_size is not None

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor | dict[str, Tensor]:
        if self.uses_gradient_cache:
            return self.forward_cached(sentence_features, labels)
        return self.compute_loss_from_embeddings([embed(self.model, column) for column in sentence_features], labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of a batch encoded in pieces, as `CachedLossMixin` wants it.

        Args:
            reps: vectors (texts, d) of each piece of each column.
            labels: (b, m).
            with_backward: whether to compute the gradients of the vectors.
        """
        assert labels is not None  # every batch has them
        parts = list(self.compute_loss_from_embeddings([torch.cat(pieces) for pieces in reps], labels).values())
        loss = sum(parts[1:], start=parts[0])
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss: "ranking" and, where it has a weight, "orthogonality".

        Args:
            embeddings: (b, d) anchors and (m, d) documents, not normalised; in several processes, this one's share.
            labels: (b, m).
        """
        if len(embeddings[0]) < len(labels):
            embeddings = [gathered(rows, count) for rows, count in zip(embeddings, labels.shape, strict=True)]
        full = embeddings[0].shape[1]
        lengths = [length for length in self.dimensions if length < full] + [full]
        parts = [self._at_length([rows[:, :length] for rows in embeddings], labels) for length in lengths]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _at_length(self, embeddings: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        anchors, documents = (functional.normalize(rows.float(), dim=1) for rows in embeddings)
        scores = self.scale * anchors @ documents.T
        loss = ranking(scores, labels, self.scope)
        if self.symmetric and self.scope == "per_query":
            is_positive = (labels == POSITIVE).any(dim=0)
            loss = (loss + ranking(scores.T[is_positive], labels.T[is_positive])) / 2
        if not self.orthogonality_weight:
            return {"ranking": loss}
        first = (labels == POSITIVE).int().argmax(dim=1)
        unrelated = (labels[:, first] == NEGATIVE) & (labels[:, first].T == NEGATIVE)
        regularisation = (orthogonality(anchors, unrelated) + orthogonality(documents[first], unrelated)) / 2
        return {"ranking": loss, "orthogonality": self.orthogonality_weight * regularisation}


def gathered(rows: Tensor, count: int) -> Tensor:
    """The vectors of a column of a batch from all processes; this one's gradient times the number of processes.

    Each process has the loss of the whole batch and the gradient of its own vectors alone. The mean of the processes'
    gradients, times their number, is the sum: the gradient of one process with all of them.

    Args:
        rows: (n, d), this process's share (`collator.shares`).
        count: number of vectors in all.

    Returns:
        (count, d), in the order of the batch.
    """
    processes, rank = distributed.get_world_size(), distributed.get_rank()
    sizes = shares(count, processes)
    padded = rows.new_zeros(max(sizes), rows.shape[1])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    every = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    every[rank] = rows.detach() + processes * (rows - rows.detach())  # the value is exactly that of the rows
    return torch.cat(every)


def embed(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
    """Encode a column of a batch, texts of similar length together, which avoids most of the padding.

    Args:
        model: a SentenceTransformer.
        features: output of the model's `preprocess`, with `attention_mask` (n, tokens).

    Returns:
        (n, d) vectors in the order of the column, not normalised.
    """
    mask = features["attention_mask"]
    pieces = min(PIECES, len(mask) // MIN_PIECE)
    if pieces < 2 or not mask[:, 0].all():  # padded on the left: cutting the end would cut text
        return model(features)["sentence_embedding"]
    lengths = mask.sum(dim=1)
    order = lengths.argsort(stable=True)
    vectors = []
    for rows in order.tensor_split(pieces):
        width = int(lengths[rows[-1]])
        piece = {
            key: value[rows, :width] if isinstance(value, Tensor) and value.shape == mask.shape else value
            for key, value in features.items()
        }
        vectors.append(model(piece)["sentence_embedding"])
    return torch.cat(vectors)[order.argsort()]


def ranking(scores: Tensor, labels: Tensor, scope: LossScope = "per_query") -> Tensor:
    """Cross-entropy of each positive among itself and the negatives, the mean over positives and then over rows.

    Args:
        scores: (b, m) scaled cosines.
        labels: (b, m) of POSITIVE, NEGATIVE, MASKED; at least one POSITIVE a row.
        scope: "per_query" takes the negatives of the row, "across_queries" those of all rows.
    """
    positive = labels == POSITIVE
    against = scores.masked_fill(labels != NEGATIVE, NEVER).logsumexp(dim=1, keepdim=True)
    if scope == "across_queries":
        against = against.logsumexp(dim=0, keepdim=True)
    per_pair = functional.softplus(against - scores) * positive
    return (per_pair.sum(dim=1) / positive.sum(dim=1)).mean()


def orthogonality(rows: Tensor, unrelated: Tensor) -> Tensor:
    """Global orthogonal regularisation: 0 when unrelated vectors are spread like random ones (arXiv 1708.06320).

    The squared mean of the cosines plus the excess of their mean square over 1/d.

    Args:
        rows: (b, d) unit vectors.
        unrelated: (b, b) bool, which pairs of them count.
    """
    cosines = (rows @ rows.T)[unrelated]
    if not len(cosines):
        return rows.sum() * 0
    return cosines.mean().square() + functional.relu(cosines.square().mean() - 1 / rows.shape[1])


def graded_loss(name: str, model: SentenceTransformer) -> nn.Module:
    """The loss for pairs with a grade.

    Args:
        name: "cosent" (doi 10.1109/TASLP.2024.3402087), "angle" (AnglE, arXiv 2309.12871), or else the squared error
            of the cosine.
        model: the model to train.
    """
    if name == "cosent":
        return losses.CoSENTLoss(model)
    if name == "angle":
        return losses.AnglELoss(model)
    return losses.CosineSimilarityLoss(model)
