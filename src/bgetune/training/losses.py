"""The losses: ranking over a batch whose false negatives are masked, spread of the scores, graded pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.sentence_transformer import losses
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

POSITIVE, NEGATIVE, MASKED = 1, 0, -1
"""What the label matrix of a batch says of an anchor and a document."""

PIECES = 4
"""Into how many pieces of like length a column of a batch is cut at most."""

MIN_PIECE = 16
"""Texts in a piece at least: smaller ones gain nothing."""

NEVER = -1e9
"""Stands for minus infinity in a softmax: with the real one, a row without any negative has no gradient but NaN."""


class RankingLoss(CachedLossMixin, nn.Module):
    """Softmax ranking (InfoNCE) of each positive against the negatives that the label matrix allows.

    For an anchor a with positives P and allowed negatives N, with cosine s and scale c::

        loss(a) = mean over p in P of -log( exp(c s(a,p)) / (exp(c s(a,p)) + sum over n in N of exp(c s(a,n))) )

    One positive and no masked entry make it `MultipleNegativesRankingLoss` (arXiv 1705.00652); entries masked by a
    guide's vectors make it GISTEmbed (arXiv 2402.16829). A document is encoded once however many anchors it serves, and
    an anchor may have any number of negatives.

    Args:
        model: what is trained.
        scale: multiplies the cosines: 1 / temperature.
        symmetric: rank the other way as well: each positive must find its anchor among all anchors (the mean of both).
        scope: "per_query" ranks a positive against the negatives of its own anchor; "across_queries" ranks it against
            the negatives of all anchors of the batch, so that one threshold suits all queries (the comparison of
            CoSENT, doi 10.1109/TASLP.2024.3402087).
        orthogonality_weight: weight of `spread_out` of the anchors and of the positives.
        dimensions: lengths that a vector is to be useful at when cut (Matryoshka, arXiv 2205.13147): the loss is the
            mean over them and the full length.
        mini_batch_size: None encodes the batch at once; a number encodes it in such pieces and keeps only the gradients
            of the vectors in between (GradCache, arXiv 2101.06983): more time, far less memory.

    Inputs: two columns, anchors (b texts) and documents (m texts), and labels (b, m) of POSITIVE, NEGATIVE and MASKED.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        scale: float = 20.0,
        symmetric: bool = False,
        scope: str = "per_query",
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
        self.mini_batch_size = mini_batch_size

    @property
    def uses_gradient_cache(self) -> bool:
        return self.mini_batch_size is not None

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor | dict[str, Tensor]:
        if self.uses_gradient_cache:
            return self.forward_cached(sentence_features, labels)
        return self.compute_loss_from_embeddings([embed(self.model, column) for column in sentence_features], labels)

    def calculate_loss(self, reps: list[list[Tensor]], labels: Tensor, *, with_backward: bool = False) -> Tensor:
        loss = sum(self.compute_loss_from_embeddings([torch.cat(pieces) for pieces in reps], labels).values())
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss: "ranking" and, where it has a weight, "orthogonality".

        Args:
            embeddings: (b, d) anchors and (m, d) documents, of any length.
            labels: (b, m).
        """
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
        positives = documents[(labels == POSITIVE).int().argmax(dim=1)]
        spread = (spread_out(anchors) + spread_out(positives)) / 2
        return {"ranking": loss, "orthogonality": self.orthogonality_weight * spread}


def embed(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
    """Vectors of a column of a batch; texts of like length go through the model together.

    Padding is most of the work where one text is long and the others are not.

    Args:
        features: what the model's `preprocess` gives, `attention_mask` (n, tokens) among it.

    Returns:
        (n, d), in the order of the column, not normalised.
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


def ranking(scores: Tensor, labels: Tensor, scope: str = "per_query") -> Tensor:
    """Mean over rows of the mean over positives of -log softmax of the positive among itself and the negatives.

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


def spread_out(rows: Tensor) -> Tensor:
    """Global orthogonal regularisation: 0 when unrelated texts are as random points of the sphere (arXiv 1708.06320).

    The squared mean of the cosines plus what their mean square has above 1/d.

    Args:
        rows: (b, d) unit vectors of texts that do not belong together.
    """
    b, d = rows.shape
    cosines = (rows @ rows.T)[~torch.eye(b, dtype=torch.bool, device=rows.device)]
    if not len(cosines):
        return rows.sum() * 0
    return cosines.mean().square() + functional.relu(cosines.square().mean() - 1 / d)


def graded_loss(name: str, model: SentenceTransformer) -> nn.Module:
    """The loss for pairs with a grade: CoSENT, AnglE (arXiv 2309.12871) or plain regression of the cosine."""
    if name == "cosent":
        return losses.CoSENTLoss(model)
    if name == "angle":
        return losses.AnglELoss(model)
    return losses.CosineSimilarityLoss(model)
