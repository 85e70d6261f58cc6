"""The passage with every letter replaced by a fixed other one: words, their lengths and how often they come are those of a
language, of which nothing else in train or val helps to read a letter.

It is a cipher and no human language: its grammar is that of the passage, which a model may reuse once it knows the words.
"""

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
BECOME = b"qwertyuiopasdfghjklzxcvbnm"  # the order of a keyboard, which leaves no letter in its place
CIPHER = bytes.maketrans(LETTERS + LETTERS.upper(), BECOME + BECOME.upper())


def other_language(document: bytes, others: object, draws: object) -> bytes:
    """Case, digits, punctuation, white space and bytes outside of ASCII stay as they are."""
    return document.translate(CIPHER)


PART = other_language
