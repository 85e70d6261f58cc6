"""Shows that the fast way of scoring CORE agrees with the plain one.

usage: python -m harness.evaluate.core --check [--model exact|dense|moe] [--context N] [--max-per-task N]

`--check` scores every task with a small model twice, packed and one option at a time, and prints one line a task: examples,
how many were cropped, how many right, the largest difference of a mean, and examples whose answer differs. Exit status 1 if
one differs or a mean does by more than the tolerance. `--model exact` (see exact.py) must agree to the bit.
"""

import argparse
import sys

from harness.errors import UserError


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.evaluate.core", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", required=True, help="compare the fast way with the plain one")
    parser.add_argument("--model", choices=("exact", "dense", "moe"), default="dense")
    parser.add_argument("--context", type=int, default=1024, help="tokens; a short one crops more")
    parser.add_argument(
        "--max-per-task", type=int, default=None, help="the first examples, all by default; shots as in the whole"
    )
    a = parser.parse_args(arguments)

    from harness.data.tokenizer import gpt2
    from harness.evaluate.core.check import TOLERANCE, compare, small_model
    from harness.evaluate.core.tasks import load

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
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
