"""The ways that a plan can be put on a number of ranks, what each takes, and which of them is advised.

With parallel.ep=1 every rank has all experts; with parallel.ep=RANKS each has its share. The advice is the usual one for expert
parallelism: where experts take more than half of a rank's memory, or where nothing else fits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from harness.errors import UserError
from harness.model.build import count_plan
from harness.model.counts import Counts
from harness.plan.check_parallel import check_parallel, check_ranks, units_of
from harness.plan.schema import Plan
from harness.train.backends import check_spread
from harness.train.estimate import expected
from harness.train.memory import Memory, memory, numbers_per_weight, row_bytes
from harness.train.named_gpus import GPUS, Gpu
from harness.train.wire import Received, number, received, seconds

MOST_RANKS = 1024  # that are looked at for a plan that does not fit
SHARE = 0.5  # of a rank's memory, from which on experts are better spread
QUICKER = 0.9  # of a step's predicted time: below it another micro-batch is worth a word


@dataclass(frozen=True)
class Way:
    plan: Plan
    ranks: int
    memory: Memory

    @classmethod
    def of(cls, plan: Plan, ranks: int, **keys: object) -> "Way":
        """With these keys of the section `parallel`. Raises: UserError where they do not go together, or not with so many
        ranks."""
        plan = replace(plan, parallel=replace(plan.parallel, **keys))
        check_parallel(plan)
        check_ranks(plan, ranks)
        here = expected(GPUS["h100-80"], ranks)  # as any of them: what differs is no part of the bytes
        if plan.precision.format == "fp32":
            here = replace(here, arithmetic="full")
        check_spread(plan, here)
        return cls(plan, ranks, memory(plan, here))

    @property
    def ep(self) -> int:
        return self.plan.parallel.ep

    @property
    def experts(self) -> int:
        """Bytes of everything that there is of routed experts' weights: masters, copies, gradients, moments."""
        m = self.memory
        return int(m.experts * (2 + numbers_per_weight(self.plan.optim.matrices))) + m.copies

    @cached_property
    def received(self) -> Received:
        return received(self.plan)

    @property
    def beyond(self) -> int:
        """Bytes more than on average of one layer whose experts here get the most rows that they can."""
        rows = self.received.worst - self.received.average
        return rows * row_bytes(self.plan, number(self.plan)) if self.ep > 1 else 0

    def fits(self, gpus: Iterable[Gpu]) -> list[Gpu]:
        return [gpu for gpu in gpus if self.memory.total <= gpu.memory]

    def step_s(self, counts: Counts, gpu: Gpu) -> float:
        return sum(seconds(self.plan, counts, gpu, self.ranks).values())

    @property
    def said(self) -> str:
        return f"parallel.ep={self.ep}"


@dataclass(frozen=True)
class Ways:
    """`without`: all experts on every rank; `spread`: None where they cannot be, and `why_not` says why; `taken`: what is said
    of a micro-batch that is not the plan's."""

    counts: Counts
    gpus: tuple[Gpu, ...]
    without: Way
    spread: Way | None
    why_not: str
    taken: str

    @property
    def all(self) -> list[Way]:
        return [self.without, *([self.spread] if self.spread else [])]

    @property
    def fits(self) -> bool:
        return any(way.fits(self.gpus) for way in self.all)


def ways(plan: Plan, ranks: int, gpus: Iterable[Gpu]) -> Ways:
    """Raises: UserError where so many ranks cannot share a step of the plan, or the plan says another parallel.ep."""
    gpus = tuple(gpus)
    if plan.parallel.ep > 1:
        check_ranks(plan, ranks)
    unit, taken = _unit(plan, ranks, gpus)
    why_not, spread = "", None
    try:
        spread = _spread(plan, ranks, unit) if ranks > 1 and plan.model.num_experts else None
    except UserError as refusal:
        why_not = f"{refusal.problem}: {refusal.remedy}"
    return Ways(count_plan(plan), gpus, _without(plan, ranks, unit), spread, why_not, taken)


def _without(plan: Plan, ranks: int, unit: int, **keys: object) -> Way:
    return Way.of(plan, ranks, ep=1, transport="auto", micro_batch_tokens=unit, **keys)


def _spread(plan: Plan, ranks: int, unit: int, **keys: object) -> Way:
    return Way.of(plan, ranks, ep=ranks, transport="auto", sums="units", micro_batch_tokens=unit, **keys)


def _each(plan: Plan, ranks: int, unit: int, **keys: object) -> Iterator[Way]:
    """Those that there are."""
    for make in (_without, _spread):
        try:
            yield make(plan, ranks, unit, **keys)
        except UserError:
            continue


def _unit(plan: Plan, ranks: int, gpus: tuple[Gpu, ...]) -> tuple[int, str]:
    """The micro-batch of all ways, and what is said of one that is not the plan's."""
    known, planned = units_of(plan, ranks), plan.parallel.micro_batch_tokens
    if not known:
        check_ranks(replace(plan, parallel=replace(plan.parallel, ep=1)), ranks)
    if planned in known:
        return planned, ""
    if planned:
        unit = min(known, key=lambda other: (abs(other - planned), other))
        return unit, f"{unit:,} is taken, since {ranks} ranks cannot share a step in micro-batches of {planned:,}"
    for unit in reversed(known):
        if any(way.fits(gpus) for way in _each(plan, ranks, unit)):
            return unit, f"{unit:,} is taken for 0: the largest that {ranks} ranks can share and that fits"
    return known[0], f"{known[0]:,} is taken for 0: the smallest"


def would_fit(found: Ways) -> list[str]:
    """What to change in a plan that fits none of the GPUs, each with what a rank then takes."""
    plan, ranks, unit = found.without.plan, found.without.ranks, found.without.plan.parallel.micro_batch_tokens
    changes = [_more_ranks(found), *_fewer_ranks(found), *_smaller(found)]
    if not plan.parallel.activation_checkpointing:
        again = [*_each(plan, ranks, unit, activation_checkpointing=True)]
        changes.append(_first(again, found.gpus, "parallel.activation_checkpointing=true"))
    others = [gpu for gpu in GPUS.values() if gpu not in found.gpus]
    changes += [_first(found.all, [gpu], f"{gpu.title} of {gpu.memory / 1e9:.0f} GB") for gpu in others]
    return [change for change in changes if change]


def _first(candidates: Iterable[Way], gpus: Iterable[Gpu], change: str) -> str:
    gpus = list(gpus)
    for way in candidates:
        if way.fits(gpus):
            return f"{change} ({way.said}: {way.memory.total / 1e9:.1f} GB a rank)"
    return ""


def _more_ranks(found: Ways) -> str:
    plan, unit = found.without.plan, found.without.plan.parallel.micro_batch_tokens
    ranks = found.without.ranks * 2
    while ranks <= MOST_RANKS and (known := units_of(plan, ranks)):
        nearest = min(known, key=lambda other: (abs(other - unit), other))
        also = "" if nearest == unit else f" parallel.micro_batch_tokens={nearest}"
        if said := _first(_each(plan, ranks, nearest), found.gpus, f"ranks={ranks}{also}"):
            return said
        ranks *= 2
    return ""


def _fewer_ranks(found: Ways) -> Iterator[str]:
    """The most below the plan's that experts can be spread over, where its own cannot."""
    plan, ranks = found.without.plan, found.without.ranks
    unit, experts = plan.parallel.micro_batch_tokens, plan.model.num_experts
    fewer = [count for count in range(ranks - 1, 1, -1) if experts and experts % count == 0]
    for count in fewer if found.spread is None else []:
        if unit in units_of(plan, count) and (said := _first(_each(plan, count, unit), found.gpus, f"ranks={count}")):
            yield said
            return


def _smaller(found: Ways) -> Iterator[str]:
    """The largest micro-batch below the plan's that fits."""
    plan, ranks, unit = found.without.plan, found.without.ranks, found.without.plan.parallel.micro_batch_tokens
    for smaller in reversed([known for known in units_of(plan, ranks) if known < unit]):
        if said := _first(_each(plan, ranks, smaller), found.gpus, f"parallel.micro_batch_tokens={smaller}"):
            yield said
            return


def advised(found: Ways) -> tuple[Way, str]:
    """Which way, and sentences with the numbers that it rests on. One of them fits."""
    without, spread = found.without, found.spread
    if spread is None:
        alone = "One rank has all experts" if without.plan.model.num_experts else "There are no experts"
        return without, f"It cannot be spread: {found.why_not}." if found.why_not else f"{alone}."
    share, total, less = (without.experts / without.memory.total, without.memory.total / 1e9, spread.memory.total / 1e9)
    much = (
        f"Experts (weights, copies, moments, gradients) are {share:.0%} of the {total:.1f} GB a rank that parallel.ep=1 takes"
    )
    there, here = without.fits(found.gpus), spread.fits(found.gpus)
    if not there:
        return spread, f"{much}, more than {_titles(found.gpus, 'or')} has; spread, a rank takes {less:.1f} GB."
    if not here:
        return without, f"{much}; spread, a rank takes {less:.1f} GB, more than {_titles(found.gpus, 'or')} has."
    alone = [gpu for gpu in here if gpu not in there]
    but = f" {_titles(alone, 'and')} can only take it spread." if alone else ""
    if share <= SHARE:
        return without, f"{much}, not over half, and that fits {_titles(there, 'and')}.{but}"
    slower = [gpu for gpu in there if spread.step_s(found.counts, gpu) > without.step_s(found.counts, gpu)]
    said = f"{much}, over half; spread, a rank takes {less:.1f} GB.{but}"
    if slower:
        figures = ", ".join(f"{gpu.title} ({_compared(found, gpu)})" for gpu in slower)
        said += f" But steps are predicted slower on {figures}: for seconds alone keep parallel.ep=1 there."
    return spread, said


def _compared(found: Ways, gpu: Gpu) -> str:
    assert found.spread
    now, then = (1e3 * way.step_s(found.counts, gpu) for way in (found.without, found.spread))
    return f"{then:,.0f} ms for {now:,.0f}"


def faster(found: Ways, way: Way) -> str:
    """The micro-batch that is predicted to take the least, where it is less by QUICKER; of the last GPU that `way` fits."""
    gpu = way.fits(found.gpus)[-1]
    known = [unit for unit in units_of(way.plan, way.ranks) if unit > way.plan.parallel.micro_batch_tokens]
    others = [Way.of(way.plan, way.ranks, micro_batch_tokens=unit) for unit in known]
    others = [other for other in others if other.fits([gpu])]
    best = min(others, key=lambda other: other.step_s(found.counts, gpu), default=way)
    now, then = (1e3 * it.step_s(found.counts, gpu) for it in (way, best))
    if then > QUICKER * now:
        return ""
    word = f"parallel.micro_batch_tokens={best.plan.parallel.micro_batch_tokens}"
    return (
        f"Another plan, {word}, is predicted to take {then:,.0f} ms a step on {gpu.title} and not {now:,.0f}, with "
        f"{best.memory.total / 1e9:.1f} GB a rank."
    )


def _titles(gpus: Iterable[Gpu], link: str) -> str:
    *first, last = (gpu.title for gpu in gpus)
    return f"{', '.join(first)} {link} {last}" if first else last
