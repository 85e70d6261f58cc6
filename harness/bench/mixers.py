"""What every attention of the harness costs over the length of a lane's sequences: time, FLOPs, bytes kept for the backward and
bytes cached; and from which length on it is faster than full attention.

Width, heads and keys of parts are the plan's. Every pass has the same number of tokens, whatever the length, so that nothing
else changes. A pass is that of a run, but nothing is compiled unless `kernels.compile=on` is said: loops over chunks are
unrolled, and 8,192 tokens have 512 chunks.
"""

import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from harness.bench.crossings import crossings
from harness.bench.kernel_table import arithmetic_of
from harness.bench.measure import once_timed
from harness.bench.mixer import Mixer, mixer
from harness.bench.table import Table
from harness.errors import UserError
from harness.plan import parts
from harness.plan.schema import Plan
from harness.train.machine import Machine, memory_available_bytes

BASE = "full"  # with which the others are compared
EVERY = (256, 512, 1024, 2048, 4096, 8192)
LENGTHS = {"gpu": EVERY, "cpu": EVERY, "first": (256, 2048, 8192), "toy": (128, 256)}
TOKENS = {"gpu": 1 << 15, "cpu": 1 << 13, "first": 1 << 15, "toy": 1 << 9}  # of a pass
LONGEST = 1 << 17
SHARE = 0.8  # of the memory that is free: what a pass may take
ADDS_UP = ("flops_per_token", "saved_bytes", "cached_bytes")  # over layers
NOTE = "x floor: all FLOPs at the peak of products. cached: once a sequence is read; * is counted, the part does not decode"
PER_FLOP = 1.3  # times the base's time per FLOP: what an attention may take without an explanation in kernels/cpu/NOTES.md
TABLE = Table(32, (
    (9, ",.2f", "forward", "ms"), (10, ",.2f", "backward", "ms"), (10, ",.2f", "both", "us/token"),
    (9, ".2f", "time", "x full"), (9, ".2f", "MFLOP", "a token"), (9, ".2f", "both", "x floor"),
    (10, ".2f", "per FLOP", "x full"), (10, ",.0f", "saved", "B/token"), (11, "", "cached", "B/token"),
))  # fmt: skip

Seconds = dict[str, list[tuple[float, float]]]  # of each, forward and backward, round by round


def mixers(
    plan: Plan, here: Machine, which: str, rounds: int, lengths: list[int] | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """A row for each attention and length, with medians over rounds, or why it was left out. `lengths` in place of the set's.

    Raises:
        UserError: a length beyond LONGEST.
    """
    lengths = sorted(lengths or LENGTHS[which])
    if lengths[-1] > LONGEST:
        raise UserError(f"lengths={lengths[-1]}", f"choose at most {LONGEST:,}: loops over chunks are unrolled")
    tokens = max(TOKENS[which], lengths[-1])
    names = [BASE, *(name for name in parts.names("attention") if name != BASE)]
    if here.device == "cuda":
        torch.cuda.empty_cache()  # what torch holds of an earlier part is free
    limit, rows = SHARE * memory_available_bytes(here.device), []
    say(TABLE.head(f"attentions, {plan.lane.name}"))
    for length in lengths:
        shape = tokens // length, length, plan.model.width
        say("B {}, S {:,}, D {}".format(*shape) + f", H {plan.model.heads}")
        new = _rows(plan, here, names, shape, rounds, limit)
        for row in new:
            say(_line(row))
        rows += new
    say(NOTE)
    say(beyond(rows))
    crossed = crossings(rows, BASE)
    for each in crossed:
        say(each["said"])
    return {
        "lane": plan.lane.name, "model": {key: getattr(plan.model, key) for key in ("width", "heads", "attentions")},
        "turned": _turned(plan, names),
        "precision": arithmetic_of(here).name, "compiled": plan.kernels.compile == "on", "rounds": rounds, "tokens": tokens,
        "base": BASE, "lengths": lengths, "rows": rows, "crossings": crossed,
    }  # fmt: skip


def _turned(plan: Plan, names: list[str]) -> list[str]:
    """The words of keys that are not as they usually are."""
    found = []
    for name in names:
        if (made := parts.keys("attention", name)) is not None:
            usual, own = asdict(made()), asdict(parts.keys_of(plan, "attention", name))
            found += [f"attention.{name}.{key}={value}" for key, value in own.items() if value != usual[key]]
    return found


def _rows(
    plan: Plan, here: Machine, names: list[str], shape: tuple[int, int, int], rounds: int, limit: float
) -> list[dict[str, Any]]:
    """`shape`: B, S, D."""
    if plan.kernels.compile == "on":
        torch.compiler.reset()  # torch compiles a function eight times at most
    ready: dict[str, Mixer] = {}
    rows: dict[str, dict[str, Any]] = {name: {"name": name, "length": shape[1]} for name in names}
    for name in names:
        try:
            ready[name] = mixer(plan, name, here, shape, limit)
        except UserError as error:
            rows[name]["left_out"] = error.problem
    seconds: Seconds = {name: [] for name in ready}
    for _ in range(rounds):
        for name, each in ready.items():
            seconds[name].append(once_timed(each.prepared, each.dy_BSD, here.device))
    shares = {name: layers / plan.model.layers for name, layers in Counter(plan.model.attentions).items()}
    if len(shares) > 1 and shares.keys() <= ready.keys():
        mix = f"mix of {', '.join(f'{round(share * plan.model.layers)} {name}' for name, share in shares.items())}"
        ready[mix], seconds[mix] = _mean(ready, seconds, shares)
        rows[mix] = {"name": mix, "length": shape[1], "derived": True}
    for name in ready:
        rows[name] |= _figures(name, ready, seconds, shape[0] * shape[1], here.matmul_peak_flops)
    return list(rows.values())


def _mean(ready: dict[str, Mixer], seconds: Seconds, shares: dict[str, float]) -> tuple[Mixer, list[tuple[float, float]]]:
    """A layer of the plan's, where layers have attentions of several kinds."""
    some = ready[next(iter(shares))]
    figures = {key: sum(share * getattr(ready[name], key) for name, share in shares.items()) for key in ADDS_UP}
    one = replace(some, **figures, counted=any(ready[name].counted for name in shares))
    turns = zip(*(seconds[name] for name in shares))
    return one, [tuple(sum(share * s for share, s in zip(shares.values(), way)) for way in zip(*turn)) for turn in turns]


def _figures(name: str, ready: dict[str, Mixer], seconds: Seconds, tokens: int, peak: float) -> dict[str, Any]:
    mine, of_turn = ready[name], [sum(ways) for ways in seconds[name]]
    forward_s, backward_s = (statistics.median(column) for column in zip(*seconds[name]))
    both_s = statistics.median(of_turn)
    figures = {
        "forward_s": forward_s, "backward_s": backward_s, "us_per_token": 1e6 * both_s / tokens,
        "flops_per_token": mine.flops_per_token, "floors": both_s * peak / (mine.flops_per_token * tokens),
        "saved_bytes": mine.saved_bytes, "cached_bytes": mine.cached_bytes, "counted": mine.counted,
    }  # fmt: skip
    if BASE not in ready:
        return figures
    ratio = statistics.median(took / sum(ways) for took, ways in zip(of_turn, seconds[BASE]))
    return figures | {"ratio": ratio, "per_flop": ratio * ready[BASE].flops_per_token / mine.flops_per_token}


def beyond(rows: list[dict[str, Any]]) -> str:
    """Says which take more than PER_FLOP times the base's time per FLOP, and where most."""
    worst: dict[str, dict[str, Any]] = {}
    for row in rows:
        name, found = row["name"], row.get("per_flop") or 0
        if found > PER_FLOP and (name not in worst or found > worst[name]["per_flop"]):
            worst[name] = row
    said = ", ".join(f"{name} up to {row['per_flop']:.2f} (S = {row['length']:,})" for name, row in worst.items())
    return f"time per FLOP above {PER_FLOP:g} times that of {BASE}: {said or 'none'}"


def _line(row: dict[str, Any]) -> str:
    if "left_out" in row:
        return f"  {row['name']:<30}left out: {row['left_out']}"
    cached = f"{row['cached_bytes'] / row['length']:,.1f}{'*' if row['counted'] else ' '}"
    return TABLE.row(
        f"  {row['name']}", 1e3 * row["forward_s"], 1e3 * row["backward_s"], row["us_per_token"], row.get("ratio"),
        row["flops_per_token"] / 1e6, row["floors"], row.get("per_flop"), row["saved_bytes"], cached,
    )  # fmt: skip
