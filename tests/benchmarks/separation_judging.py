"""How a tuned model is judged: ranking, drift, calibration, and its hard negatives by known truth."""

from __future__ import annotations

from separation_worlds import MAX_LENGTH, Task


def judge(model, job: Task, negatives: list[tuple[str, list[str]]]) -> tuple[dict[str, float], dict]:
    """The measures, and the test scores for the paired bootstrap."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import precision_recall_curve

    from bgetune.metrics import calibration, separation
    from bgetune.models.encoder import Encoder

    base = Encoder(job.model, max_length=MAX_LENGTH)
    options = {"normalize_embeddings": True, "show_progress_bar": False}
    lots = np.random.default_rng(0).permutation(len(job.test))
    scores = {}
    texts = sorted({text for pair in [*job.dev, *job.test] for text in pair[:2]})
    number = {text: i for i, text in enumerate(texts)}
    for who, rows in (("base", base.encode(texts)), ("tuned", model.encode(texts, **options))):
        for part, pairs in (("dev", job.dev), ("test", job.test)):
            left, right = (rows[[number[pair[side]] for pair in pairs]] for side in (0, 1))
            scores[who, part] = np.einsum("pd,pd->p", left, right)
            if part == "test":
                scores[who, "random"] = np.einsum("pd,pd->p", left, right[lots])
    labels = {"dev": np.array([p[2] for p in job.dev]), "test": np.array([p[2] for p in job.test])}
    band = separation.crowded_band(scores["base", "test"])
    found = separation.separation(scores["tuned", "test"], labels["test"], band=band)
    precision, recall, _ = precision_recall_curve(labels["test"], scores["tuned", "test"])
    platt = LogisticRegression(C=1e6).fit(scores["tuned", "dev"][:, None], labels["dev"])
    fitted = platt.predict_proba(scores["tuned", "test"][:, None])[:, 1]
    measures = {
        "auc": float(found["auc"][0]),
        "average_precision": float(found["average_precision"][0]),
        **_retrieval(rows, number, job),
        "recall@p.9": float(recall[precision >= 0.9].max()),
        "overlap": float(found["overlap"][0]),
        "squared_cosine": float(np.mean(scores["tuned", "random"] ** 2)),
        "relative_band": float(found["crowded_share"][0]),
        "ece": calibration.calibration_error(fitted, labels["test"]).value,
        **_negatives(base, job, negatives),
    }
    return measures, {"scores": scores["tuned", "test"].round(6).tolist(), "labels": labels["test"].tolist()}


def _retrieval(rows, number: dict[str, int], job: Task) -> dict[str, float]:
    """MAP@R and MRR@10 of test texts among test texts: relevant is what has the same meaning, or is a test positive."""
    import numpy as np

    texts = sorted({text for pair in job.test for text in pair[:2]})
    place = {text: i for i, text in enumerate(texts)}
    if job.meaning:
        names = np.array([job.meaning[text] for text in texts])
        same = names[:, None] == names[None]
    else:
        same = np.zeros((len(texts), len(texts)), dtype=bool)
        for a, b, label in job.test:
            same[place[a], place[b]] |= bool(label)
            same[place[b], place[a]] |= bool(label)
    np.fill_diagonal(same, False)
    asked = np.flatnonzero(same.any(axis=1))[:3000]
    vectors = rows[[number[text] for text in texts]]
    precisions, reciprocal = [], []
    for query in asked:
        scores = vectors @ vectors[query]
        scores[query] = -np.inf
        wanted = int(same[query].sum())
        hits = same[query, np.argsort(-scores, kind="stable")[: max(wanted, 10)]]
        first = np.flatnonzero(hits[:10])
        reciprocal.append(1 / (1 + first[0]) if len(first) else 0.0)
        hits = hits[:wanted]
        precisions.append((hits * np.cumsum(hits) / np.arange(1, wanted + 1)).sum() / wanted)
    return {"map@r": float(np.mean(precisions)), "mrr@10": float(np.mean(reciprocal))}


def _negatives(base, job: Task, negatives: list[tuple[str, list[str]]]) -> dict[str, float]:
    """False negatives by known truth (else by labelled positives), similarity by the base model, queries served."""
    import numpy as np

    pairs = [(query, text) for query, texts in negatives for text in texts]
    if not pairs:
        return {}
    queries = {text for pair in job.positives() for text in pair}
    texts = sorted({text for pair in pairs for text in pair})
    number = {text: i for i, text in enumerate(texts)}
    rows = base.encode(texts)
    left, right = (rows[[number[pair[side]] for pair in pairs]] for side in (0, 1))
    served = {query for query, found in negatives if found}
    found = {"similarity": float(np.einsum("pd,pd->p", left, right).mean()), "served": len(served) / len(queries)}
    if job.meaning:
        found["false_negatives"] = float(np.mean([job.meaning[a] == job.meaning[b] for a, b in pairs]))
    return found


def bootstrap(ours: dict, peer: dict, samples: int = 300) -> tuple[float, float]:
    """90 % interval of the difference in AUC, the test pairs drawn anew."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    labels, lots = np.array(ours["labels"]), np.random.default_rng(0)
    a, b = np.array(ours["scores"]), np.array(peer["scores"])
    rows = [lots.integers(len(labels), size=len(labels)) for _ in range(samples)]
    differences = [roc_auc_score(labels[r], a[r]) - roc_auc_score(labels[r], b[r]) for r in rows]
    return tuple(float(value) for value in np.quantile(differences, [0.05, 0.95]))
