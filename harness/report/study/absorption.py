"""Who takes the noise: what the experts of a model that was trained with noise tell of it, beside one that was not.

A text that is noise throughout and val go through the model at the end. *Told*, by layer: the mutual information, in bits, of a
row's expert and whether the row is noise, at equal numbers of both (Jensen-Shannon divergence, Lin 1991). 0: noise goes where
text goes, 1: no expert gets both. *Noisiest*: of the rows of the expert that takes the most noise beyond what it takes of val,
the share that is noise, at equal numbers again: 0.5 where noise goes where text goes, 1 where it gets noise alone.

Both are large for a noise of other bytes in any model, whose routers tell bytes apart. So the model that was trained without
noise, scored on the same noise at the same seed, is the control.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np

from harness.plan.study import Study
from harness.report.markup import head, row, text
from harness.report.statistics import LEVEL, MIN_SEEDS, Sample
from harness.report.study.families import dials
from harness.report.study.trials import Trial
from harness.surprise import surprise

PREFIX = "noise-"  # of the parts of a final row (harness/data/corpora/bytes.py)
HEADER = (
    "trained with noise", "noise", "n", "told, bits", "by layer", "without it", "difference", "noisiest", "without it",
    "verdict",
)  # fmt: skip
SAID = (
    "Told: mutual information of a row's expert and whether it is noise, at equal numbers of noise and of val, the mean over "
    "MoE layers; without it: the same of the case that was trained on text alone, at equal seeds. Noisiest: the share of noise "
    "among the rows of the expert that takes the most noise beyond what it takes of val (0.5: as for text), the mean over "
    f"layers. Each interval holds by itself at {LEVEL:.0%}."
)


@dataclass(frozen=True, eq=False)
class Absorption:
    """`noise_LE`, `clean_LE`: rows by MoE layer and expert, of noise and of val."""

    noise_LE: np.ndarray
    clean_LE: np.ndarray

    @cached_property
    def shares_LEZ(self) -> np.ndarray:
        """The experts' shares of noise and of val."""
        counts_LEZ = np.stack([self.noise_LE, self.clean_LE], -1).astype(float)
        return counts_LEZ / counts_LEZ.sum(-2, keepdims=True)

    @property
    def told_L(self) -> np.ndarray:
        """In bits."""
        return surprise(self.shares_LEZ).mean(-1) / log(2)

    @property
    def noisiest_L(self) -> np.ndarray:
        noise_LE, clean_LE = np.moveaxis(self.shares_LEZ, -1, 0)
        most_L1 = (noise_LE - clean_LE).argmax(-1, keepdims=True)
        noise_L1, clean_L1 = (np.take_along_axis(some, most_L1, -1) for some in (noise_LE, clean_LE))
        return (noise_L1 / (noise_L1 + clean_L1))[:, 0]


def absorptions(trial: Trial) -> dict[str, Absorption]:
    """By kind of noise that a run was scored on; none of a dense model, or of a run that did not finish."""
    if not trial.experts or not trial.record:
        return {}
    clean_LE = np.array(trial.final["counts"])
    parts = trial.final.get("parts") or {}
    return {
        name.removeprefix(PREFIX): Absorption(np.array(part["counts"]), clean_LE)
        for name, part in parts.items()
        if name.startswith(PREFIX)
    }


def is_spoilt(trial: Trial) -> bool:
    """Whether there was noise in what it was trained on."""
    turned = trial.record and trial.record.data.turned
    return bool(turned and turned.noise_bytes)


def absorption_table(study: Study, trials: Sequence[Trial]) -> list[str]:
    """Lines of Markdown; none of a study where no MoE was trained with noise and scored on it."""
    rows = []
    for base, turned in dials(study).values():
        control = _by_kind([trial for trial in trials if trial.case == base and not is_spoilt(trial)])
        for case in turned.values():
            found = _by_kind([trial for trial in trials if trial.case == case and is_spoilt(trial)])
            rows += [row([text(case), text(kind), *_of(some, control.get(kind, {}))]) for kind, some in found.items()]
    return ["", text("What experts tell of the noise."), "", *head(HEADER), *rows, "", text(SAID)] if rows else []


def _by_kind(trials: Sequence[Trial]) -> dict[str, dict[int, Absorption]]:
    """By kind of noise, {seed: what is found}."""
    found: dict[str, dict[int, Absorption]] = {}
    for trial in trials:
        for kind, one in absorptions(trial).items():
            found.setdefault(kind, {})[trial.seed] = one
    return found


def _of(found: Mapping[int, Absorption], control: Mapping[int, Absorption]) -> list[str]:
    told, noisiest = (Sample.of([value(one) for one in found.values()]) for value in (_told, _noisiest))
    by_layer = " ".join(f"{value:.3f}" for value in np.mean([one.told_L for one in found.values()], 0))
    both = sorted(found.keys() & control.keys())
    cells = [str(len(found)), told.text("{:.4f}"), by_layer]
    if not both:
        return [*cells, "-", "-", noisiest.text("{:.2f}"), "-", "no case without noise to compare with"]
    without = [Sample.of([value(control[seed]) for seed in both]) for value in (_told, _noisiest)]
    between = Sample.of([_told(found[seed]) - _told(control[seed]) for seed in both])
    bounds = between.interval()
    difference = f"{between.mean:+.4f}" + (f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})" if bounds else "")
    cells += [without[0].text("{:.4f}"), difference, noisiest.text("{:.2f}"), without[1].text("{:.2f}")]
    return [*cells, text(_verdict(between))]


def _told(one: Absorption) -> float:
    return float(one.told_L.mean())


def _noisiest(one: Absorption) -> float:
    return float(one.noisiest_L.mean())


def _verdict(between: Sample) -> str:
    bounds = between.interval()
    if between.n < MIN_SEEDS:
        return f"n = {between.n}: a verdict takes {MIN_SEEDS} seeds"
    if bounds[0] <= 0 <= bounds[1]:
        return f"no difference that {between.n} seeds resolve"
    return f"experts part noise from text {'more' if bounds[0] > 0 else 'less'} than without it in training"
