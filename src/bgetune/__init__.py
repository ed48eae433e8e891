"""bgetune: a team's own data in, a fine-tuned BGE embedding model and a threshold one can trust out."""

__version__ = "0.2.0"
