"""Whole steps of an earlier commit and of this tree, in turns: processes of `bench steps`, one of each side after the other."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.launch.checkout import Checkout, JobFailed
from harness.launch.worktree import worktree

TURNS = 4


def before(ref: str, words: list[str], rounds: int, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds of a step on either side, medians of `rounds` in each turn, and how many times as fast this tree is, turn by
    turn. What the processes say goes to files below `out`.

    Raises:
        UserError: an unknown commit, or one that cannot time these steps.
    """
    seconds: dict[str, dict[str, list[float]]] = {"before": {}, "now": {}}
    with worktree(ref) as there:
        for turn in range(1, TURNS + 1):
            for side, checkout in (("before", Checkout(there.root)), ("now", Checkout())):
                folder = (out / "base" / f"{side}-{turn}").resolve()
                try:
                    ask = ["bench", "steps", *words, f"rounds={rounds}", f"out={folder}"]
                    checkout.run(f"steps {side}", ask, folder.with_suffix(".log"))
                except JobFailed as failed:
                    raise UserError(f"base={ref}: {failed}", "name a commit that times this lane") from failed
                for row in json.loads((folder / "steps.json").read_text())["rows"]:
                    seconds[side].setdefault(row["name"], []).append(row["step_s"])
    say(f"{ref} ({there.commit[:8]}) and this tree, {TURNS} turns of {rounds} steps; medians of their medians, ms")
    say(f"{'':<24}{'before':>10}{'now':>10}{'times as fast':>16}   turn by turn")
    for name, times in seconds["now"].items():
        ratios = [a / b for a, b in zip(seconds["before"].get(name, []), times)]
        if ratios:
            was, now = (1e3 * statistics.median(seconds[side][name]) for side in ("before", "now"))
            by_turn = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            say(f"{name:<24}{was:>10,.0f}{now:>10,.0f}{statistics.median(ratios):>15.2f}x   {by_turn}")
    return {"base": there.commit, "rounds": rounds, "turns": TURNS, "seconds": seconds}
