"""The one vocabulary of all tasks: 256 ids, so that a track of tasks is one of bytes."""

SIZE = 256
SYMBOLS = 128  # ids 0 to 127: symbols, whose meaning is the task's
ANSWER = 128  # what follows is the answer
QUERY = 129
END = 130  # of an answer of unknown length
OPERATORS = (131, 132, 133)  # plus, minus, times
NUMBERS = 160  # 160 + n: the number n, below 64
BEGINS = 224  # 224 + i: the mark that a task's instances begin with

MARKS = {
    "copy": 0, "depo": 1, "brevo": 2, "mano": 3, "ngram": 4, "polysemy": 5, "scrambled": 7, "lano": 8,
}  # fmt: skip
# polysemy has two marks, one a map: its own and the next; lano one a grammar: its own and as many after it.


def begin(task: str, which: int = 0) -> int:
    """The mark of a task; `which` of several."""
    return BEGINS + MARKS[task] + which
