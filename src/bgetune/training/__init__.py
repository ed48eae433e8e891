"""Fine-tuning: groups and graded pairs in, a tuned model and its training log out.

    trained = train("BAAI/bge-small-zh-v1.5", groups, cluster_of, Train(), Path("checkpoints"), pairs=dev)
    save.save(trained.model, "models/mine")

By the trainer of sentence-transformers (:mod:`.sentence_transformers`) or that of BGE (:mod:`.flagembedding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgetune.training.sentence_transformers import Trained


def train(base, groups, cluster_of, options, folder, **data) -> Trained:
    """Train by the backend that `options` names; arguments as for `sentence_transformers.train`."""
    if options.backend == "flagembedding":
        from bgetune.training import flagembedding as backend
    else:
        from bgetune.training import sentence_transformers as backend
    return backend.train(base, groups, cluster_of, options, folder, **data)
