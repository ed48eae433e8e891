"""A run's folder: what the notebooks write into it and read from it."""

from bgetune.runs.stage import Stage, is_last_round, run_folder, start

__all__ = ["Stage", "is_last_round", "run_folder", "start"]
