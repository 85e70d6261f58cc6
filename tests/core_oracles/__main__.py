"""Shows that the fast way of scoring CORE agrees with the plain one.

usage: python -m tests.core_oracles [--model exact|dense|moe] [--context N] [--max-per-task N]

Every task is scored with a small model twice, packed and one option at a time; one line a task: examples, how many were
cropped, how many right, the largest difference of a mean, and examples whose answer differs. Exit status 1 if one differs or a
mean does by more than the tolerance. `--model exact` (see exact.py) must agree to the bit. A short context crops more;
--max-per-task takes the first examples, with shots as in the whole.
"""

import sys

from harness.__main__ import HELP, answered
from harness.launch.options import Word, Words, choice, whole

WORDS = Words(
    "core_oracles", Word("model", choice("exact", "dense", "moe"), "dense"), Word("context", whole(2), 1024),
    Word("max-per-task", whole(1)),
)  # fmt: skip


def main(arguments: list[str]) -> int:
    if any(word in HELP for word in arguments):
        print(__doc__)
        return 0
    return answered(lambda: _check(arguments))


def _check(arguments: list[str]) -> int:
    a = WORDS.read(arguments)

    from harness.data.tokenizer import gpt2
    from harness.evaluate.core.tasks import load
    from tests.core_oracles.check import TOLERANCE, compare, small_model

    tolerance = 0.0 if a.model == "exact" else TOLERANCE
    model, tokenizer, found = small_model(a.model, a.context), gpt2(), []
    print(f"{'task':33}{'n':>7}{'cropped':>9}{'right':>7}{'largest':>10}{'differ':>8}{'tied':>6}{'fast s':>9}{'plain s':>9}")
    for task in load():
        one = compare(model, tokenizer, task, task.count(a.max_per_task))
        found.append(one)
        print(f"{one.label:33}{one.n:7,}{one.cropped:9,}{one.correct:7,}{one.largest:10.1e}{len(one.wrong):8}{len(one.tied):6}"
              f"{one.fast_s:9.1f}{one.plain_s:9.1f}", flush=True)  # fmt: skip
    bad = [one for one in found if one.wrong or one.largest > tolerance]
    examples, shortened = sum(one.n for one in found), sum(one.cropped for one in found)
    largest = max(one.largest for one in found)
    print(f"{examples:,} examples of {len(found)} tasks, {shortened:,} cropped")
    print(f"largest difference of a mean {largest:.1e} nats, {tolerance:g} allowed")
    differing, tied = sum(len(one.wrong) for one in found), sum(len(one.tied) for one in found)
    print(f"{differing} answers differ, {tied} more between options whose means are a tie within that")
    for one in bad:
        print(f"{one.label}: examples {one.wrong[:10]}, largest difference {one.largest:.1e}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
