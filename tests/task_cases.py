"""Tasks at several keys: what their tests have in common."""

from itertools import islice

from harness.data.draws import Draws
from harness.data.instances import Instance, Task, drawn
from harness.plan import parts

# Defaults, the least that keys may be, and others. A word of keys is `key=value`.
CASES = [
    ("copy", ""), ("copy", "length=1 gap=0 symbols=8"), ("copy", "length=3 symbols=128"),
    ("depo", ""), ("depo", "entities=5 hops=4 queries=9 symbols=5 word=1"),
    ("depo", "entities=7 hops=1 queries=1 symbols=2 word=3"),
    ("brevo", ""), ("brevo", "nodes=3 symbols=8"), ("brevo", "nodes=5 symbols=128"),
    ("mano", ""), ("mano", "operations=1 modulus=2"), ("mano", "operations=3 modulus=64"),
    ("lano", ""), ("lano", "grammars=1 depth=3 symbols=2 degree=2"), ("lano", "grammars=24 depth=3 symbols=5 degree=8"),
    ("ngram", ""), ("ngram", "symbols=8 steps=1 successors=4"), ("ngram", "symbols=128 steps=5 successors=1"),
    ("polysemy", ""), ("polysemy", "symbols=8 steps=3 successors=4"), ("polysemy", "symbols=128 steps=6"),
    ("scrambled", ""), ("scrambled", "symbols=8 steps=1"),
]  # fmt: skip
NAMES = sorted({name for name, _ in CASES})


def made(name: str, words: str = "") -> Task:
    values = {key: int(value) for key, value in (word.split("=") for word in words.split())}
    return parts.part("task", name)(parts.keys("task", name)(**values))


def instances(task: Task, count: int, difficulty: int | None = None, test: bool = False, seed: int = 1) -> list[Instance]:
    """Of one stream."""
    draws = Draws(seed, "a test", difficulty or 0)
    return list(islice(iter(lambda: drawn(task, draws, difficulty, test), None), count))


def anything(task: Task, count: int, difficulty: int | None = None, seed: int = 1) -> list[Instance]:
    """Of one stream, whether they are of the test or not."""
    draws = Draws(seed, "a test", difficulty or 0)
    return [task.draw(draws, difficulty) for _ in range(count)]


def tokens_of(instance: Instance) -> list[int]:
    return instance.token_N.tolist()
