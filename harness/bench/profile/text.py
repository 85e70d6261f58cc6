"""What `make profile` prints, from numbers alone."""

from collections.abc import Iterator
from typing import Any

from harness.bench.profile.parts import OTHER
from harness.bench.table import Table

OF_ONE = ((10, ",.1f", "ms"), (7, ".0%", "share"), (10, "", "floor"), (9, ",.1f", "x floor"))
TABLE = Table(26, (*OF_ONE, (3, "", ""), *OF_ONE, (14, "+,.1f", "difference"), (15, "+.2f", "of the ratio")))
WIDTH = sum(column[0] for column in OF_ONE)
BINDS = {"flops": "f", "bytes": "b"}


def lines(hardware: dict[str, Any], execution: str, found: dict[str, Any]) -> Iterator[str]:
    """`hardware` as in a record; `execution` of bf16; `found` as in profile.json."""
    ours, twin = found["steps"]
    peak, fp32, memory = (hardware[key] for key in ("matmul_peak_flops", "fp32_peak_flops", "memory_bytes_per_s"))
    machine = f"{hardware['model']}, {hardware['isa']}, {hardware['threads']} threads, bf16 {execution}"
    yield f"{machine}, {found['rounds']} rounds in turns"
    measured = f"products {peak / 1e9:,.0f} GFLOP/s, in fp32 {fp32 / 1e9:,.0f}, memory {memory / 1e9:,.1f} GB/s"
    yield f"measured: {measured}; floors in ms, f where FLOPs bind, b where bytes do"
    yield f"{'':26}{ours['name']:>{WIDTH}}   {twin['name']:>{WIDTH}}{ours['name'] + ' - ' + twin['name']:>32}"
    yield TABLE.head("part")
    left, right = ({row["part"]: row for row in one["parts"]} for one in (ours, twin))
    for part in found["parts"]:
        difference = ms_of(left, part) - ms_of(right, part)
        cells = *_cells(left.get(part), ours["wall_ms"]), "", *_cells(right.get(part), twin["wall_ms"])
        yield TABLE.row(part, *cells, difference, difference / twin["wall_ms"])
    for title, key in (("all parts, profiled", "wall_ms"), ("a step not profiled", "plain_ms")):
        cells = *_whole(ours, key), "", *_whole(twin, key)
        yield TABLE.row(title, *cells, ours[key] - twin[key], ours[key] / twin[key] - 1)
    yield from notes(found)


def ms_of(rows: dict[str, dict[str, Any]], part: str) -> float:
    return rows[part]["ms"] if part in rows else 0.0


def notes(found: dict[str, Any]) -> Iterator[str]:
    ours, twin = found["steps"]
    ratio, added = ours["wall_ms"] / twin["wall_ms"], [f"{one['wall_ms'] / one['plain_ms'] - 1:+.0%}" for one in (ours, twin)]
    yield f"profiled, {ours['name']} takes {ratio:.2f} times as long as {twin['name']}, which is 1 and the last column"
    yield f"the profiler's own time is within the parts ({' and '.join(added)} of a step); nothing is scaled"
    for one in found["steps"]:
        for row in one["parts"]:
            if row["part"] == OTHER and row["operators"]:
                said = ", ".join(f"{name} {ms:,.2f} ms" for name, ms in row["operators"].items())
                yield f"{one['name']}: operators that no part knows (harness/bench/profile/parts.py): {said}"
        if one["shapes_shared"]:
            said = ", ".join(f"{inner} x {outer}" for inner, outer in one["shapes_shared"])
            yield f"{one['name']}: products of {said} are of several parts, and all counted as dense products"


def _cells(row: dict[str, Any] | None, wall_ms: float) -> tuple[Any, ...]:
    if row is None:
        return None, None, None, None
    floor = row.get("floor_ms")
    times = row["ms"] / floor if floor else None
    return row["ms"], row["ms"] / wall_ms, f"{floor:,.1f}{BINDS[row['bound']]}" if floor else None, times


def _whole(one: dict[str, Any], key: str) -> tuple[Any, ...]:
    floor = sum(row.get("floor_ms", 0.0) for row in one["parts"])
    return one[key], one[key] / one["wall_ms"], f"{floor:,.1f} ", one[key] / floor
