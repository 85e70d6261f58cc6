"""torch.profiler's events of one step: whose time each moment was.

On a CPU operators return when they have computed, so an event's own time (what its callees did not take) is what it cost; own
times of a thread add up to the step's wall time. On a GPU the time is that of kernels: each belongs where the operator that
launched it does, on whichever thread that was; what the step took beside them is the host's. Where kernels of several streams
overlap, a moment counts once, for the kernel that began first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.bench.profile.parts import EXPERTS, HEAD, HOST, MARK, NOWHERE, OTHER, PRODUCT, Place, Products, place

STEP = "the step that is profiled"  # the mark around it
LAUNCHES = ("cuda_runtime", "cuda_driver")  # kinds of calls that a kernel has its number of
KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")  # kinds of what a GPU does
HEADS = Place(HEAD, whole=True)
BACKWARD = "autograd::engine::evaluate_function"  # runs a node of the graph, named by its number in the forward


@dataclass
class Spent:
    """Microseconds. `parts`: they add up to `wall`; `operators`: by part and name, what each part is made of."""

    wall: float
    parts: dict[str, float]
    operators: dict[str, dict[str, float]]


@dataclass
class _Node:
    event: Any
    place: Place
    own: float
    end: float
    callees: list["_Node"] = field(default_factory=list)


def spent(events: Iterable[Any], products: Products, device: str) -> Spent:
    """What one step went on. An event has name, id, thread, time_range (start, end in microseconds), input_shapes,
    input_dtypes, sequence_nr, device_type, activity_type and linked_correlation_id, as torch.profiler's have; before torch 2.12
    neither dtypes (products in fp32 are then told by their shapes alone) nor the last two, but is_user_annotation."""
    threads: dict[int, list[Any]] = defaultdict(list)
    kernels = []
    for event in events:
        if _activity(event) in KERNELS:
            kernels.append(event)
        elif "cpu" in str(event.device_type).lower():
            threads[event.thread].append(event)
    trees = {thread: _tree(ours) for thread, ours in threads.items()}
    (root,) = [node for nodes in trees.values() for node in nodes if node.event.name == STEP]
    marked = dict(_marked(root))
    for nodes in trees.values():
        for node in nodes:
            _settle(node, NOWHERE, marked, products)
    wall = root.event.time_range.end - root.event.time_range.start
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    if device == "cuda":
        everything = [node for nodes in trees.values() for top in nodes for node in _all(top)]
        for part, name, took in _of_kernels(kernels, everything, products):
            found[part][name] += took
        found[HOST]["no kernel ran"] = wall - sum(sum(names.values()) for names in found.values())
    else:
        for node in _all(root):
            found[node.place.part][_name(node)] += node.own
    return Spent(wall, {part: sum(names.values()) for part, names in found.items()}, {p: dict(n) for p, n in found.items()})


def _activity(event: Any) -> str:
    """Kineto's word, or where torch does not say it yet, what name and device say."""
    if (found := getattr(event, "activity_type", None)) is not None:
        return found
    if event.is_user_annotation:
        return "user_annotation"
    if "cuda" in str(event.device_type).lower():
        return "kernel"
    return "cuda_runtime" if event.name.startswith(("cuda", "cuLaunch")) else "cpu_op"


def _of_kernels(kernels: list[Any], nodes: list[_Node], products: Products) -> Iterator[tuple[str, str, float]]:
    """(part, name, time): where what launched a kernel is, or where its own name says."""
    launches, operators = (  # each have numbers of their own
        {node.event.id: node.place for node in nodes if (_activity(node.event) in LAUNCHES) == launching}
        for launching in (True, False)
    )
    for event, took in _in_turn(kernels):
        launched = launches.get(event.id) or operators.get(getattr(event, "linked_correlation_id", None), NOWHERE)
        part = place(event.name, (), (), launched, products).part
        yield OTHER if part == HOST else part, event.name, took


def _tree(events: list[Any]) -> list[_Node]:
    """The events of a thread by what called them; those that nothing did."""
    tops: list[_Node] = []
    open_: list[_Node] = []
    for event in sorted(events, key=lambda e: (e.time_range.start, -e.time_range.end, e.name != STEP)):
        start, end = event.time_range.start, event.time_range.end
        while open_ and start >= open_[-1].end:
            open_.pop()
        end = min(end, open_[-1].end) if open_ else end
        node = _Node(event, NOWHERE, end - start, end)
        if open_:
            open_[-1].callees.append(node)
            open_[-1].own -= node.own
        else:
            tops.append(node)
        open_.append(node)
    return tops


def _all(node: _Node) -> Iterator[_Node]:
    left = [node]
    while left:
        one = left.pop()
        yield one
        left += one.callees


def _marked(root: _Node) -> Iterator[tuple[int, Place]]:
    """By number of the graph's nodes: those that were made within the head, where their backward belongs too."""
    for node in _all(root):
        if node.event.name == MARK + HEAD:
            yield from ((made.event.sequence_nr, HEADS) for made in _all(node) if made.event.sequence_nr >= 0)


def _settle(top: _Node, caller: Place, marked: dict[int, Place], products: Products) -> None:
    left = [(top, caller)]
    while left:
        node, caller = left.pop()
        event = node.event
        if event.name.startswith(BACKWARD) and event.sequence_nr in marked:
            node.place = marked[event.sequence_nr]
        else:
            shapes = event.input_shapes or ()
            dtypes = getattr(event, "input_dtypes", None) or [""] * len(shapes)
            node.place = place(event.name, shapes, dtypes, caller, products)
        left += [(callee, node.place) for callee in node.callees]


def _in_turn(kernels: list[Any]) -> Iterator[tuple[Any, float]]:
    """Each kernel and the time that none before it covers."""
    covered = float("-inf")
    for event in sorted(kernels, key=lambda e: e.time_range.start):
        start = max(covered, event.time_range.start)
        yield event, max(0.0, event.time_range.end - start)
        covered = max(covered, event.time_range.end)


def _name(node: _Node) -> str:
    """A product has its shapes in its name, which say which one it is; expert by expert they differ, and say nothing."""
    name = node.event.name
    if PRODUCT.search(name) and node.place.part != EXPERTS:
        shapes = [shape for shape in node.event.input_shapes or () if len(shape) >= 2]
        return " ".join([name, *("x".join(map(str, shape)) for shape in shapes[:3])])
    return name
