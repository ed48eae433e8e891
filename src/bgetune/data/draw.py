"""One random draw, by names: it depends on the seed and on what is drawn, not on the order or the number of draws."""

from __future__ import annotations

import hashlib


def draw(seed: int | str, *names: str) -> float:
    """A number in [0, 1), uniform over names: the first 64 bits of the SHA-256 of seed and names.

    Args:
        seed: the run's, or the name of what is drawn where further runs must draw the same.
        names: ids of what is drawn.
    """
    digest = hashlib.sha256(" ".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
