"""Bytes of nothing: each of the 256 equally often, as a broken download or a binary file among texts is."""

import numpy as np

from harness.data.draws import Draws


def random_bytes(document: bytes, others: object, draws: Draws) -> bytes:
    """As many bytes as `document` has."""
    words = [draws.word() for _ in range(-(-len(document) // 8))]
    return np.array(words, "<u8").tobytes()[: len(document)]


PART = random_bytes
