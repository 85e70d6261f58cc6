"""Kinds of noise: a file each, which ends with `PART`, a function that makes what stands in a document's place.

    PART(document, others, draws) -> bytes

`document`: bytes of the passage that is replaced. `others`: the passages of train of its source, never none, for noise that is
made of them. `draws`: randomness keyed by the seed and the passage, its only randomness. The result is as long as the passage,
unless the kind needs another length, as a copy of a whole passage does: what is planted is counted in its own bytes.
"""

from collections.abc import Sequence

from harness.data.draws import Draws
from harness.data.texts.document import Document
from harness.plan import parts


def noisy(kind: str, document: Document, others: Sequence[Document], seed: int) -> Document:
    """`document` with noise of this kind in place of its text."""
    text = parts.part("noise", kind)(document.text, others, Draws(seed, "noise", kind, document.key))
    return Document(document.key, text, kind)
