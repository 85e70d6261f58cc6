"""A copy of one of a few passages, to the byte, as mirrors and reposts have it: the same passages come again and again.

Which passages are copied depends on `others` alone and on no seed, so that noise made twice of one train repeats the same ones.
"""

from collections.abc import Sequence

from harness.data.draws import Draws
from harness.data.texts.document import Document

COPIED = 8  # passages, evenly spaced over the source


def duplicated(document: bytes, others: Sequence[Document], draws: Draws) -> bytes:
    """As long as what is copied, whatever `document` has."""
    return others[draws.below(min(COPIED, len(others))) * len(others) // min(COPIED, len(others))].text


PART = duplicated
