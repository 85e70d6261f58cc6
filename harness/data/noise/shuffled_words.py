"""The passage's own words in random order, white space kept in its place: the words of a text without what it says."""

import re

from harness.data.draws import Draws

WORD = re.compile(rb"\S+")  # between ASCII white space


def shuffled_words(document: bytes, others: object, draws: Draws) -> bytes:
    """As many bytes as `document` has, and each of its words as often."""
    words = WORD.findall(document)
    order = iter(draws.some(len(words), len(words)))
    return WORD.sub(lambda _: words[next(order)], document)


PART = shuffled_words
