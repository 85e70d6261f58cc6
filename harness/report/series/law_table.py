"""The laws of a series as Markdown: exponents under each way to count, the joint law, and what families are worth."""

from collections.abc import Iterator

import numpy as np

from harness.report.markup import head, row, text
from harness.report.series.answers import LEVEL, Interval, NoAnswer
from harness.report.series.bootstrap import Bootstrap
from harness.report.series.contracts import sentence
from harness.report.series.isoflop import Growth, Valley
from harness.report.series.laws import Laws
from harness.report.series.points import CONVENTIONS


def law_lines(laws: Laws) -> list[str]:
    """Lines of Markdown."""
    return [*_valleys(laws), "", *_growth(laws), "", *_joint(laws), *_worths(laws)]


def _valleys(laws: Laws) -> Iterator[str]:
    yield text(
        f"Minima of equal FLOPs: a parabola of bits per byte in log10 N, N counted as {laws.convention}; {LEVEL:.0%} intervals."
    )
    yield ""
    yield from head(("family", "FLOPs", "N*", "tokens", "tokens / N*", "bits per byte"))
    for name, by_convention in laws.valleys.items():
        spread = by_convention[laws.convention]
        for budget, it in spread.valleys.items():
            cells = [text(name), f"{budget:.3g}"]
            if isinstance(it, Valley):
                figures = ((spread.n, "{:.3g}"), (spread.d, "{:.3g}"), (spread.ratios, "{:.3g}"), (spread.bpb, "{:.4f}"))
                yield row([*cells, *(text(found[budget].text(form)) for found, form in figures)])
            else:
                yield row([*cells, text(f"none: {it.why}"), "-", "-", "-"])


def _growth(laws: Laws) -> Iterator[str]:
    yield text("N* ~ C^a and D* ~ C^b through these minima, by what counts as a parameter.")
    yield ""
    yield from head(("family", "counted", "a", "b", "tokens / N*", "budgets", "N* off the line"))
    for name, by_convention in laws.valleys.items():
        for counted in CONVENTIONS:
            it = by_convention[counted]
            cells = [text(name), text(counted)]
            if isinstance(it.growth, Growth):
                miss = "two budgets: no residual" if it.growth.miss is None else f"{it.growth.miss:.0%}"
                figures = (it.a.text("{:.2f}"), it.b.text("{:.2f}"), it.ratio.text(), str(len(it.growth.budgets)), miss)
                yield row([*cells, *map(text, figures)])
            else:
                yield row([*cells, text(f"none: {it.growth.why}"), "-", "-", "-", "-"])
    yield from _most_constant(laws)


def _most_constant(laws: Laws) -> Iterator[str]:
    for name, by_convention in laws.valleys.items():
        drift = {kind: it.growth.b - it.growth.a for kind, it in by_convention.items() if isinstance(it.growth, Growth)}
        if drift:
            least = min(drift, key=lambda kind: abs(drift[kind]))
            yield ""
            yield text(
                f"Tokens per parameter of {name} are most constant over budgets where {least} is counted: they go as "
                f"C^{drift[least]:+.2f}."
            )


def _joint(laws: Laws) -> Iterator[str]:
    yield text(f"L(N, D) = E + A / N^a + B / D^b of all points, N counted as {laws.convention}; N* ~ C^(b/(a+b)).")
    yield ""
    yield from head(("family", "runs", "E", "a", "b", "b / (a + b)", "sd of a run", "largest residual"))
    for name, it in laws.joint.items():
        if isinstance(it, Bootstrap):
            of = [it.figures[figure] for figure in ("E", "a", "b", "n_exponent")]
            largest = np.abs(it.fit.residuals).max()
            marked = (_marked(figure, found, it) for figure, found in zip(("E", "a", "b", ""), of))
            yield row([text(name), str(len(it.fit.points)), *marked, f"{it.fit.spread:.2%}", f"{largest:.2%}"])
        else:
            yield row([text(name), text(f"none: {it.why}"), *["-"] * 6])


def _marked(name: str, found: Interval, it: Bootstrap) -> str:
    return text(found.text("{:.2f}") + (", not resolved" if name in it.fit.unresolved else ""))


def _worths(laws: Laws) -> Iterator[str]:
    for it in laws.worths:
        yield ""
        yield text(sentence(it))
    if not laws.worths:
        without = [name for name, it in laws.joint.items() if isinstance(it, NoAnswer)]
        yield ""
        yield text(
            f"What one family is worth against another is not said: no law of {' and '.join(without)}."
            if without
            else "What one family is worth against another is not said: there is one family."
        )
