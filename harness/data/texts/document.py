"""Documents of text, and how they lie in a split: one after the other, a blank line between them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SEPARATOR = b"\n\n"
PASSAGE_BYTES = 2048  # a passage is cut at the first blank line from here on


@dataclass(frozen=True)
class Document:
    """`key`: unique in its split of its source. `noise`: what it was made by in place of what stood there; "" of a source's
    own text."""

    key: str
    text: bytes
    noise: str = ""


@dataclass(frozen=True)
class Text:
    """The documents of a source, in their order."""

    train: tuple[Document, ...]
    val: tuple[Document, ...]

    def split(self, name: str) -> tuple[Document, ...]:
        return self.train if name == "train" else self.val


def joined(documents: Iterable[Document]) -> bytes:
    return SEPARATOR.join(document.text for document in documents)


def passages(document: Document) -> Iterator[Document]:
    """A document as pieces of PASSAGE_BYTES or a little more, cut at blank lines, which `joined` puts together again. The keys
    are KEY#0, KEY#1, ...; a short document stays as it is."""
    if len(document.text) <= PASSAGE_BYTES or SEPARATOR not in document.text:
        yield document
        return
    start, number = 0, 0
    while (end := document.text.find(SEPARATOR, start + PASSAGE_BYTES)) >= 0:
        yield Document(f"{document.key}#{number}", document.text[start:end])
        start, number = end + len(SEPARATOR), number + 1
    yield Document(f"{document.key}#{number}", document.text[start:])
