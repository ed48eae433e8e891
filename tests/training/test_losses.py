import math

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as theirs
from torch.nn import functional

from bgetune.training.losses import MASKED, NEGATIVE, POSITIVE, RankingLoss, embed, graded_loss, orthogonality, ranking


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return torch.randn(5, 8), torch.randn(12, 8)


def in_batch(anchors, documents):
    labels = torch.zeros(len(anchors), len(documents), dtype=torch.int8)
    labels.fill_diagonal_(POSITIVE)
    return labels


def test_is_multiple_negatives_ranking_where_nothing_is_masked(vectors):
    anchors, documents = vectors
    documents = documents[:10]
    expected = theirs.MultipleNegativesRankingLoss(None, scale=30).compute_loss_from_embeddings(
        [anchors, documents[:5], documents[5:]], None
    )
    found = RankingLoss(None, scale=30).compute_loss_from_embeddings([anchors, documents], in_batch(anchors, documents))
    torch.testing.assert_close(found["ranking"], expected)


def test_symmetric_is_the_mean_of_both_directions(vectors):
    anchors, positives = vectors[0], vectors[1][:5]
    expected = theirs.MultipleNegativesSymmetricRankingLoss(None).compute_loss_from_embeddings(
        [anchors, positives], None
    )
    loss = RankingLoss(None, symmetric=True)
    found = loss.compute_loss_from_embeddings([anchors, positives], in_batch(anchors, positives))
    torch.testing.assert_close(found["ranking"], expected)


def test_masked_documents_have_no_part(vectors):
    anchors, documents = vectors
    labels = in_batch(anchors, documents)
    labels[:, 7:] = MASKED
    loss = RankingLoss(None)
    with_masked = loss.compute_loss_from_embeddings([anchors, documents], labels)["ranking"]
    without = loss.compute_loss_from_embeddings([anchors, documents[:7]], labels[:, :7])["ranking"]
    torch.testing.assert_close(with_masked, without)


def test_several_positives_count_alike_and_never_against_each_other():
    scores = torch.tensor([[2.0, 1.0, 0.0, 5.0]])
    labels = torch.tensor([[POSITIVE, POSITIVE, NEGATIVE, MASKED]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert ranking(scores, labels).item() == pytest.approx(expected, rel=1e-6)


def test_a_row_without_negatives_has_no_loss_and_finite_gradients():
    scores = torch.tensor([[3.0, 1.0], [0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([[POSITIVE, MASKED], [NEGATIVE, POSITIVE]])
    loss = ranking(scores, labels)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)) / 2, rel=1e-6)
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0].abs().max() == 0


def test_spread_is_the_global_orthogonal_regularisation(vectors):
    rows = functional.normalize(vectors[1], dim=1)
    mean, second = theirs.GlobalOrthogonalRegularizationLoss(None).compute_gor(rows)
    torch.testing.assert_close(orthogonality(rows, all_but_diagonal(rows)), mean + second)
    assert orthogonality(torch.eye(6), all_but_diagonal(torch.eye(6))) == 0
    alike = torch.ones(6, 4) / 2
    assert orthogonality(alike, all_but_diagonal(alike)).item() == pytest.approx(1.75)
    assert orthogonality(rows[:1], all_but_diagonal(rows[:1])) == 0


def all_but_diagonal(rows):
    return ~torch.eye(len(rows), dtype=torch.bool)


def test_spread_is_a_part_of_the_loss(vectors):
    anchors, documents = vectors
    labels = in_batch(anchors, documents)
    parts = RankingLoss(None, orthogonality_weight=2.0).compute_loss_from_embeddings([anchors, documents], labels)
    unit = functional.normalize(anchors, dim=1), functional.normalize(documents[:5], dim=1)
    unrelated = all_but_diagonal(anchors)
    expected = orthogonality(unit[0], unrelated) + orthogonality(unit[1], unrelated)
    torch.testing.assert_close(parts["orthogonality"], expected)


def test_rows_that_mean_the_same_are_not_pushed_apart():
    anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([[POSITIVE, MASKED, NEGATIVE], [MASKED, POSITIVE, NEGATIVE], [NEGATIVE, NEGATIVE, POSITIVE]])
    loss = RankingLoss(None, orthogonality_weight=2.0)
    assert loss.compute_loss_from_embeddings([anchors, anchors.clone()], labels)["orthogonality"] == 0


@pytest.mark.parametrize("mini_batch_size", [3, 64])
def test_cached_has_the_same_loss_and_gradients(base, mini_batch_size):
    model = SentenceTransformer(str(base), device="cpu").eval()  # no dropout: pieces would draw other masks
    texts = ["怎么查询密码", "如何修改我的订单", "我想取消贷款", "请问冻结账单在哪里"]
    found = []
    for size in (None, mini_batch_size):
        model.zero_grad()
        loss = RankingLoss(model, symmetric=True, orthogonality_weight=0.5, mini_batch_size=size)
        features = [model.preprocess(texts[:2]), model.preprocess(texts)]
        labels = torch.tensor([[1, 0, 0, -1], [0, 1, -1, 0]], dtype=torch.int8)
        value = loss(features, labels)
        value = sum(value.values()) if isinstance(value, dict) else value
        value.backward()
        found.append((value.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert len(found[0][1]) == len(found[1][1]) > 10
    for plain, cached in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(plain, cached, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("count", [1, 31, 70])
def test_texts_of_like_length_are_embedded_together(base, count):
    """The same vectors and gradients as in one go, in the order of the texts, with less padding."""
    model = SentenceTransformer(str(base), device="cpu").eval()  # no dropout: pieces would draw other masks
    texts = ["查密码" * (1 if number % 8 else 5) for number in range(count)]
    widths, gradients, vectors = [], [], []
    model.register_forward_pre_hook(lambda _, given: widths.append(given[0]["input_ids"].shape))
    for how in (lambda column: model(column)["sentence_embedding"], lambda column: embed(model, column)):
        model.zero_grad()
        vectors.append(how(model.preprocess(texts)))
        (vectors[-1] * torch.arange(count)[:, None]).mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
    for plain, pieced in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, pieced, rtol=1e-3, atol=1e-4)
    tokens = [rows * width for rows, width in widths]
    assert sum(tokens[1:]) < 0.7 * tokens[0] if count == 70 else tokens[1:] == tokens[:1]


def test_graded_losses(base):
    model = SentenceTransformer(str(base), device="cpu")
    kinds = [type(graded_loss(name, model)) for name in ("cosent", "angle", "cosine")]
    assert kinds == [theirs.CoSENTLoss, theirs.AnglELoss, theirs.CosineSimilarityLoss]


def test_matryoshka_is_the_mean_over_the_lengths(vectors):
    anchors, documents = vectors
    labels = in_batch(anchors, documents)
    cut = RankingLoss(None).compute_loss_from_embeddings([anchors[:, :4], documents[:, :4]], labels)["ranking"]
    full = RankingLoss(None).compute_loss_from_embeddings([anchors, documents], labels)["ranking"]
    both = RankingLoss(None, dimensions=[4, 99]).compute_loss_from_embeddings([anchors, documents], labels)["ranking"]
    torch.testing.assert_close(both, (cut + full) / 2)


def test_comparing_over_the_batch_sets_a_positive_against_all_negatives():
    scores = torch.tensor([[2.0, 1.0], [3.0, 0.5]])
    labels = torch.tensor([[POSITIVE, NEGATIVE], [NEGATIVE, POSITIVE]])
    against = math.log(math.exp(1.0) + math.exp(3.0))
    expected = (math.log(1 + math.exp(against - 2.0)) + math.log(1 + math.exp(against - 0.5))) / 2
    assert ranking(scores, labels, "across_queries").item() == pytest.approx(expected, rel=1e-6)
    assert ranking(scores, labels, "per_query").item() != pytest.approx(expected, rel=1e-3)
