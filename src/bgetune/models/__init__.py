"""Models: loading, batching and caching of encoders (texts to vectors) and rerankers (pairs to scores)."""

from bgetune.models.encoder import Encoder
from bgetune.models.reranker import Reranker

__all__ = ["Encoder", "Reranker"]
