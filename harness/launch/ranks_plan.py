"""What each of several ranks would hold, send and take: `make plan RANKS=N`. All is derived or predicted, and on no device."""

from collections.abc import Iterator, Sequence
from textwrap import fill

from harness.errors import UserError
from harness.launch.ways import Way, Ways, advised, faster, ways, would_fit
from harness.plan.compose import Composed
from harness.train.estimate import (
    EXPERT_EFFICIENCY,
    FLASH_EFFICIENCY,
    GPU_ITERATION_EFFICIENCY,
    PRODUCT_EFFICIENCY,
    STREAMED,
    expert_weights,
)
from harness.train.memory import numbers_per_weight
from harness.train.named_gpus import GPUS, MESSAGES, NODE, PRODUCTS, STREAMS
from harness.train.wire import INNER, TILE, Calls, seconds, sent

WIDTH, NAME, CELL, FIGURE = 100, 56, 12, 9


def say_plan(composed: Composed, ranks: int, gpu: str | None) -> None:
    """Prints it. Raises: UserError where it fits none of the GPUs, with what would, or cannot be put on so many ranks."""
    found = ways(composed.plan, ranks, [GPUS[gpu]] if gpu else GPUS.values())
    print("\n\n".join("\n".join(part) for part in _parts(found)))
    _refuse(found)
    way, why = advised(found)
    print("\n" + _filled(f"Advised: parallel.ep={way.ep}. {why} {faster(found, way)}".rstrip(), ""))
    print(_command(composed, way))


def _filled(text: str, indent: str = "  ") -> str:
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _command(composed: Composed, way: Way) -> str:
    """What starts it."""
    p, ranks = way.plan.parallel, way.ranks
    own = {"ep": p.ep, "sums": p.sums, "micro_batch_tokens": p.micro_batch_tokens}
    turned = [f"parallel.{key}={value}" for key, value in own.items() if value != getattr(composed.plan.parallel, key)]
    words = " ".join([*composed.overrides, *turned])
    nodes, rest = divmod(ranks, NODE)
    if ranks == 1:
        return f"  python -m harness speedrun {words}"
    if not nodes or rest:
        return f"  torchrun --nproc-per-node {ranks} -m harness speedrun {words}"
    several = f"--nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500 " if nodes > 1 else ""
    return f"  torchrun {several}--nproc-per-node {NODE} -m harness speedrun {words}"


def _parts(found: Ways) -> Iterator[list[str]]:
    yield _head(found)
    yield [*_memory(found)]
    yield [*_fitting(found)]
    if found.without.ranks > 1:
        yield [*_wire(found)]
    if found.fits:
        yield [*_seconds(found)]


def _head(found: Ways) -> list[str]:
    plan, ranks, counts = found.without.plan, found.without.ranks, found.counts
    unit, step = plan.parallel.micro_batch_tokens, plan.by_step.largest
    experts = expert_weights(plan)
    of_experts = f", {experts / 1e6:,.1f} M of them routed experts' ({experts / counts.params_total:.1%})" if experts else ""
    said = [
        f"{plan.lane.name} on {ranks} rank{'s' if ranks > 1 else ''}, nothing measured: bytes are derived, seconds predicted",
        f"{counts.params_total / 1e6:,.1f} M parameters{of_experts}",
        f"a step is {step // unit:,} micro-batches of {unit:,} tokens, {step // unit // ranks:,} a rank",
    ]
    return [*said, *([f"parallel.micro_batch_tokens: {found.taken}"] if found.taken else [])]


def _row(name: str, cells: Sequence[str], width: int = CELL) -> str:
    return (f"{name:<{NAME}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


def _memory(found: Ways) -> Iterator[str]:
    of = [way.memory for way in found.all]
    per_weight = numbers_per_weight(found.without.plan.optim.matrices)

    def row(name: str, sizes: Sequence[float]) -> Iterator[str]:
        if any(sizes):
            yield _row(name, [f"{size / 1e9:,.2f}" if size else "-" for size in sizes])

    yield _row("memory, GB (1e9 bytes) a rank", [f"ep={way.ep}" for way in found.all])
    yield "throughout a step"
    yield from row("  experts: weights, fp32", [m.experts for m in of])
    yield from row("  experts: copies, bf16", [m.copies for m in of])
    yield from row("  experts: moments", [per_weight * m.experts for m in of])
    yield from row("  the rest: weights, fp32", [m.weights - m.experts for m in of])
    yield from row("  the rest: moments", [m.moments - per_weight * m.experts for m in of])
    yield from row("  the rest: its part of the gradients' sums", [m.sums for m in of])
    yield from row("  interpreter, torch, compiled code", [m.program for m in of])
    yield "while a micro-batch passes"
    yield from row("  gradients so far: experts", [m.experts if m.summed else 0 for m in of])
    yield from row("  gradients so far: the rest", [max(0, m.summed - m.experts) for m in of])
    yield from row("  weights cast to bf16", [m.operands for m in of])
    yield from row("  activations", [m.activations for m in of])
    yield from row("  rows that its experts keep, on average", [m.rows for m in of])
    yield from row("  logits, or a layer's gradients and rows under way", [max(m.logits, m.layer) for m in of])
    yield from row("  = sum", [m.passes for m in of])
    yield "while weights are updated"
    yield from row("  gradients", [m.gradients for m in of])
    yield from row("  iterations and a measured step's copy, or messages", [max(m.update, m.messages) for m in of])
    yield from row("  = sum", [m.gradients + max(m.update, m.messages) for m in of])
    yield from row("at its fullest, with what is there throughout", [m.total for m in of])
    if spread := found.spread:
        rows, layers = spread.received, len(spread.plan.model.moe_layers)
        yield _filled(
            f"In a layer a rank's experts get {rows.average:,} rows on average and {rows.worst:,} at worst, which is "
            f"{spread.beyond / 1e9:.1f} GB more in that layer, and {layers * spread.beyond / 1e9:.1f} if it is so in all "
            f"{layers} at once{_bounded(spread)}."
        )


def _bounded(spread: Way) -> str:
    factor = spread.plan.balance.capacity_factor
    return f"; balance.capacity_factor={factor:g} lets no more through" if factor else "; balance.capacity_factor bounds it"


def _fitting(found: Ways) -> Iterator[str]:
    def row(name: str, cells: Sequence[str]) -> str:
        return (f"{name:<{NAME - 5 * FIGURE}}" + "".join(f"{cell:>{FIGURE}}" for cell in cells[:5])).ljust(NAME) + "".join(
            f"{cell:>{CELL}}" for cell in cells[5:]
        )

    yield row("what fits", ["GB", "TFLOP/s", "TB/s", "NVLink", "network", *(f"ep={way.ep}" for way in found.all)])
    for gpu in found.gpus:
        figures = gpu.memory / 1e9, gpu.peak / 1e12, gpu.bandwidth / 1e12, gpu.link / 1e9, gpu.network / 1e9
        cells = [f"{way.memory.total / gpu.memory:.0%}{'' if way.fits([gpu]) else ': no'}" for way in found.all]
        yield row(f"  {gpu.title}", [*(f"{figure:,.4g}" for figure in figures), *cells])
    yield from (_filled(f"{gpu.title}: {gpu.source}.") for gpu in found.gpus)
    yield _filled(
        f"NVLink and network: GB/s one way; {NODE} GPUs a node. A device has some 7% more bytes than its name says, which the "
        "driver, messages and fragments take."
    )


def _wire(found: Ways) -> Iterator[str]:
    by_way = [sent(way.plan, found.counts, way.ranks) for way in found.all]
    names = dict.fromkeys(name for messages in by_way for name in messages)
    yield _row("sent by a rank in a step, GB", [f"ep={way.ep}" for way in found.all])
    for name in names:
        yield _row(f"  {name}", [f"{found[name].size / 1e9:,.2f}" if name in found else "-" for found in by_way])
    yield _row("  = sum", [f"{sum(it.size for it in messages.values()) / 1e9:,.2f}" for messages in by_way])
    ranks = found.without.ranks
    said = " and ".join(f"ep={way.ep} with parallel.sums={way.plan.parallel.sums}" for way in found.all)
    if ranks > NODE:
        said += f"; {(ranks - NODE) / (ranks - 1):.0%} of rows and of folded gradients leave the node"
    yield _filled(f"{said}.")


def _seconds(found: Ways) -> Iterator[str]:
    columns = [(gpu, way) for gpu in found.gpus for way in found.all]
    by_column = [seconds(way.plan, found.counts, gpu, way.ranks) for gpu, way in columns]
    names, width = dict.fromkeys(name for parts in by_column for name in parts), 11
    left = WIDTH - width * len(columns) - 1 if len(columns) > 3 else NAME
    fitting = [bool(way.fits([gpu])) for gpu, way in columns]

    def row(name: str, cells: Sequence[str]) -> str:
        return (f"{name:<{left}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()

    yield row("predicted, ms a step", [gpu.title.removesuffix(" SXM") for gpu, _ in columns])
    yield row("", [f"ep={way.ep}" for _, way in columns])
    for name in names:
        yield row(f"  {name}", [_or_dash(1e3 * parts.get(name, 0.0), fit) for parts, fit in zip(by_column, fitting)])
    totals = [sum(parts.values()) for parts in by_column]
    yield row("  = sum, nothing at once", [_or_dash(1e3 * total, fit) for total, fit in zip(totals, fitting)])
    tokens = found.without.plan.by_step.largest
    yield row("  tokens a second, all", [_or_dash(tokens / total, fit) for total, fit in zip(totals, fitting)])
    yield _filled(_assumed(found))


def _or_dash(figure: float, fit: bool) -> str:
    return f"{figure:,.0f}" if fit and figure else "-"


def _assumed(found: Ways) -> str:
    said = (
        f"Assumed: {PRODUCTS:.0%} of the bf16 peak can be reached, and of that {PRODUCT_EFFICIENCY:.0%} by products, "
        f"{FLASH_EFFICIENCY:.0%} by attention, {GPU_ITERATION_EFFICIENCY:.0%} by the optimizer's products; {STREAMS:.0%} of "
        f"the memory's bandwidth; {MESSAGES:.0%} of NVLink and of the network, both at once; nothing else overlaps; "
        "balanced routing."
    )
    if found.without.plan.model.num_experts:
        full = ", ".join(f"{1 / Calls.of(way.plan, way.ranks).padded(way.plan):.0%} with ep={way.ep}" for way in found.all)
        said += (
            f" Experts: {EXPERT_EFFICIENCY:.0%} in tiles of {TILE} rows, of {INNER} in weight gradients, which theirs fill to "
            f"{full}; {STREAMED:.0%} of the bandwidth where their weights are read and gradients added, which takes less in "
            "larger micro-batches."
        )
    return said


def _refuse(found: Ways) -> None:
    if found.fits:
        return
    plan, ranks = found.without.plan, found.without.ranks
    where = " or ".join(f"{gpu.title} of {gpu.memory / 1e9:.0f} GB" for gpu in found.gpus)
    takes = ", ".join(f"{way.memory.total / 1e9:.1f} GB a rank with {way.said}" for way in found.all)
    changes = would_fit(found)
    raise UserError(
        f"{plan.lane.name} on {ranks} rank{'s' if ranks > 1 else ''} does not fit {where}: it takes {takes}"
        + (f" ({found.why_not})" if found.why_not else ""),
        f"what would: {'; '.join(changes)}" if changes else "nothing here would: a smaller model, or more memory",
    )
