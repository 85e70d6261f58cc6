"""Kinds of noise: a file each, which ends with `PART`, a function that makes what stands in a document's place.

    PART(document, others, draws) -> bytes

`document`: bytes of the passage that is replaced. `others`: all passages of its split, for noise that is made of them. `draws`:
randomness keyed by the seed and the passage, its only randomness. The result has exactly as many bytes as the passage had.
"""

from collections.abc import Sequence

from harness.data.draws import Draws
from harness.data.texts.document import Document
from harness.plan import parts


def noisy(kind: str, document: Document, others: Sequence[Document], seed: int) -> Document:
    """`document` with noise of this kind in place of its text."""
    text = parts.part("noise", kind)(document.text, others, Draws(seed, "noise", kind, document.key))
    assert len(text) == len(document.text), (kind, document.key, len(text), len(document.text))
    return Document(document.key, text, kind)
