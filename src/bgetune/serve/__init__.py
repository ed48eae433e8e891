"""A finished run as an HTTP service: scores, matches, search and vectors, for many callers at once.

python -m bgetune.serve runs/mine
"""
