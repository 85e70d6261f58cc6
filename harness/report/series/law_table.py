"""The laws of a series as Markdown: exponents under each way to count, the joint law, and what families are worth."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.report.markup import head, row, text
from harness.report.series.answers import LEVEL, Interval, NoAnswer, left_out
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.contracts import sentence
from harness.report.series.frontier import CONTRACTS
from harness.report.series.isoflop import Growth, Valley
from harness.report.series.laws import Laws
from harness.report.series.points import CONVENTIONS
from harness.report.style import magnitude


def law_lines(laws: Laws) -> list[str]:
    """Lines of Markdown."""
    return [*_valleys(laws), "", *_growth(laws), "", *_joint(laws), *_worths(laws)]


def _valleys(laws: Laws) -> Iterator[str]:
    yield text(
        f"Minima of equal FLOPs: a parabola of bits per byte in log10 N, N counted as {laws.convention}; {LEVEL:.0%} intervals."
    )
    yield ""
    yield from head(("family", "FLOPs", "N*", "tokens", "tokens / N*", "bits per byte"))
    seen: dict[str, list[Interval]] = {}
    for name, by_convention in laws.valleys.items():
        spread = by_convention[laws.convention]
        for budget, it in spread.valleys.items():
            cells = [text(name), f"{budget:.3g}"]
            if isinstance(it, Valley):
                figures = ((spread.n, magnitude), (spread.d, magnitude), (spread.ratios, "{:.3g}"), (spread.bpb, "{:.4f}"))
                seen[f"{name} at {budget:.3g} FLOPs"] = [found[budget] for found, _ in figures]
                yield row([*cells, *(text(found[budget].short(form)) for found, form in figures)])
            else:
                yield row([*cells, text(f"none: {it.why}"), "-", "-", "-"])
    yield from _left_out(seen)


def _left_out(of: Mapping[str, Sequence[Interval]]) -> Iterator[str]:
    if said := left_out(of):
        yield ""
        yield text(said)


def _growth(laws: Laws) -> Iterator[str]:
    yield text("N* ~ C^a and D* ~ C^b through these minima, by what counts as a parameter.")
    yield ""
    yield from head(("family", "counted", "a", "b", "tokens / N*", "budgets", "N* off the line"))
    seen: dict[str, list[Interval]] = {}
    for name, by_convention in laws.valleys.items():
        for counted in CONVENTIONS:
            it = by_convention[counted]
            cells = [text(name), text(counted)]
            if isinstance(it.growth, Growth):
                miss = "two budgets: no residual" if it.growth.miss is None else f"{it.growth.miss:.0%}"
                figures = (it.a.short("{:.2f}"), it.b.short("{:.2f}"), it.ratio.short(), str(len(it.growth.budgets)), miss)
                seen.setdefault(name, []).extend((it.a, it.b, it.ratio))
                yield row([*cells, *map(text, figures)])
            else:
                yield row([*cells, text(f"none: {it.growth.why}"), "-", "-", "-", "-"])
    yield from _left_out(seen)
    yield from _constant(laws)


def _constant(laws: Laws) -> Iterator[str]:
    """By which counts tokens per parameter may be the same at every budget."""
    for name, by_convention in laws.valleys.items():
        drifts = {counted: it.drift for counted, it in by_convention.items() if it.drift and it.drift.known}
        if not drifts:
            continue
        constant = [counted for counted, drift in drifts.items() if drift.holds(0.0)]
        least = min(drifts, key=lambda counted: abs(drifts[counted].value))
        begin = f"Tokens per parameter of {name}"
        yield ""
        if constant:
            yield text(f"{begin} may be the same at every budget by {', '.join(constant)}: the points do not resolve a change.")
        else:
            yield text(
                f"{begin} change with the budget however they are counted, least by {least}: C^{drifts[least].text('{:.2f}')}."
            )


def _joint(laws: Laws) -> Iterator[str]:
    yield text(f"L(N, D) = E + A / N^a + B / D^b of all points, N counted as {laws.convention}.")
    yield text("N* ~ C^(b / (a + g b)), where FLOPs per token go as N^g: below 1 by what attention and the rest take.")
    yield ""
    yield from head(("family", "runs", "E", "a", "b", "g", "b / (a + g b)", "sd of a run", "largest residual"))
    for name, it in laws.joint.items():
        if isinstance(it, Bootstrap):
            e, a, b, grown = (_marked(figure, it) for figure in ("E", "a", "b", "n_exponent"))
            misses = f"{it.fit.spread:.2%}", f"{np.abs(it.fit.residuals).max():.2%}"
            yield row([text(name), str(len(it.fit.points)), e, a, b, f"{it.family.flops_exponent:.2f}", grown, *misses])
        else:
            yield row([text(name), text(f"none: {it.why}"), *["-"] * 7])
    yield from _left_out({name: [*it.figures.values()] for name, it in laws.joint.items() if isinstance(it, Bootstrap)})
    yield from _two_ways(laws)


def _two_ways(laws: Laws) -> Iterator[str]:
    """What the parabolas and the joint law say of the same exponent: what families are worth rests on the latter alone."""
    for name, it in laws.joint.items():
        one = laws.valleys[name][laws.convention].a
        if not isinstance(it, Bootstrap) or one is None:
            continue
        other = it.figures["n_exponent"]
        said = f"N* of {name} grows as C^{one.short('{:.2f}')} by the parabolas, as C^{other.short('{:.2f}')} by the joint law"
        apart = one.known and other.known and (one.high < other.low or other.high < one.low)
        yield ""
        yield text(f"{said}{': these intervals do not overlap' if apart else ''}.")


def _marked(figure: str, it: Bootstrap) -> str:
    return text(it.figures[figure].short("{:.2f}") + (", not resolved" if figure in it.fit.unresolved else ""))


def _worths(laws: Laws) -> Iterator[str]:
    for it in laws.worths:
        yield ""
        yield text(sentence(it))
    yield from _left_out({
        f"{it.other} {CONTRACTS[it.contract].name.partition(',')[0]}": [it.multiplier]
        for it in laws.worths if isinstance(it.multiplier, Interval)
    })  # fmt: skip
    if not laws.worths:
        without = [name for name, it in laws.joint.items() if isinstance(it, NoAnswer)]
        yield ""
        yield text(
            f"What one family is worth against another is not said: no law of {' and '.join(without)}."
            if without
            else "What one family is worth against another is not said: there is one family."
        )
