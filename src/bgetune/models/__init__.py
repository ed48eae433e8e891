"""Models: texts to vectors, pairs to scores, and how they are loaded, batched and cached."""

from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker

__all__ = ["Encoder", "Reranker"]
