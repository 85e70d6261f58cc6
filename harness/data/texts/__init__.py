"""Where the text of a track of bytes comes from: a reader a corpus, each of which gives its documents.

A document has a key. Equal keys of two sources are the same passage, as a chapter is in two translations, so that a choice of
keys chooses the same passages of both.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.data.texts import pythonbible, sotu
from harness.data.texts.document import Text
from harness.plan.track import Source


@dataclass(frozen=True)
class Reader:
    """`read(source)` gives both splits; `remedy(source)` says what to type where they are not what the track states."""

    read: Callable[[Source], Text]
    remedy: Callable[[Source], str]


READERS: dict[str, Reader] = {
    "sotu": Reader(sotu.read, sotu.remedy),
    **{name: Reader(pythonbible.read, pythonbible.remedy) for name in pythonbible.TRANSLATIONS},
}
