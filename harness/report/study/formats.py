"""What a format below bf16 costs, beside the same plan in bf16: the figures of a study of formats.

Cases are told apart by their plans. The *control* of a run is that in bf16 with the same seed and the same plan but for
`precision`; the *plain* run of a format is the one without dither and late switch. Costs are bits of val at equal seeds, in %.
"""

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from harness.plan.study import Study
from harness.report.statistics import Sample
from harness.report.study.families import BySeed, between, percents
from harness.report.study.trials import Trial

BF16 = "bf16"
CAUSES = ("weight", "scale", "dither")
LENGTHS = 3  # budgets for a slope


def format_of(trial: Trial) -> str:
    return trial.plan["precision"]["format"]


def is_plain(trial: Trial) -> bool:
    """Whether its format acts from the first step to the last, without dither."""
    precision = trial.plan["precision"]
    return not precision.get("dither") and precision.get("switch_at", 1.0) >= 1.0


def _key(trial: Trial, *without: str) -> str:
    left = {name: section for name, section in trial.plan.items() if name not in ("seed", "run", "precision", *without)}
    return json.dumps(left, sort_keys=True)


class Formats:
    """The cases of a study by what they are."""

    def __init__(self, study: Study, trials: Sequence[Trial]):
        self.study, self.trials = study, trials
        self.first = {trial.case: trial for trial in reversed(trials)}  # of each case
        self.cases = [case for case in study.cases if case in self.first]

    def control(self, case: str) -> str | None:
        """The case in bf16 with the same plan."""
        return self._alike(case, lambda other: format_of(other) == BF16)

    def plain(self, case: str) -> str | None:
        """The case with the same plan and format, without dither and late switch."""
        own = format_of(self.first[case])
        return self._alike(case, lambda other: format_of(other) == own and is_plain(other))

    def without_gains(self, case: str) -> str | None:
        """The case with the same plan and precision, and the gains of its family's own case."""
        trial, family = self.first[case], self.study.family_of(case)
        if family not in self.first:
            return None
        gains, precision = self.first[family].plan.get("gains"), trial.plan["precision"]
        return next(
            (other for other in self.cases if (it := self.first[other]).plan["precision"] == precision
             and it.plan.get("gains") == gains and _key(it, "gains") == _key(trial, "gains")), None,
        )  # fmt: skip

    def _alike(self, case: str, wanted: Any) -> str | None:
        key = _key(self.first[case])
        return next((other for other in self.cases if _key(it := self.first[other]) == key and wanted(it)), None)

    @property
    def low(self) -> list[str]:
        """Cases of a format below bf16 whose control was run."""
        return [case for case in self.cases if format_of(self.first[case]) != BF16 and self.control(case)]

    def cost(self, case: str) -> BySeed:
        return percents(self.trials, self.control(case) or case, case)

    def gained(self) -> dict[str, str]:
        """{case: the same without its gains} of cases of a format with gains of their own."""
        found = {case: self.without_gains(case) for case in self.low}
        return {case: base for case, base in found.items() if base and base != case}

    def specific(self, case: str, base: str) -> tuple[BySeed, BySeed, BySeed]:
        """What gains change in bf16, in the format, and in the format more."""
        controls = self.control(base), self.control(case)
        in_bf16 = percents(self.trials, *controls) if all(controls) else {}
        in_format = percents(self.trials, base, case)
        return in_bf16, in_format, between(in_bf16, in_format)

    def eased(self) -> dict[str, str]:
        """{case: its plain one} of cases with dither or a late switch."""
        found = {case: self.plain(case) for case in self.low if not is_plain(self.first[case])}
        return {case: plain for case, plain in found.items() if plain}

    def lengths(self) -> dict[tuple[str, str], dict[int, str]]:
        """{(family, format): {tokens: case}} of plain cases that differ in their budget alone, where there are several."""
        found: dict[tuple[str, str], dict[int, str]] = {}
        for case in self.low:
            trial, family = self.first[case], self.study.family_of(case)
            own = self.first.get(family)
            if own and is_plain(trial) and _key(trial, "budget", "validation") == _key(own, "budget", "validation"):
                found.setdefault((family, format_of(trial)), {})[trial.plan["budget"]["tokens"]] = case
        return {key: dict(sorted(cases.items())) for key, cases in found.items() if len(cases) > 1}

    def slope(self, cases: Mapping[int, str]) -> Sample | None:
        """Points of % by which the cost changes with each doubling of the budget, seed by seed."""
        costs = {tokens: self.cost(case) for tokens, case in cases.items()}
        seeds = set.intersection(*(set(found) for found in costs.values()))
        if len(costs) < LENGTHS or not seeds:
            return None
        doublings = [math.log2(tokens) for tokens in costs]
        return Sample.of(
            [float(np.polyfit(doublings, [found[seed] for found in costs.values()], 1)[0]) for seed in sorted(seeds)]
        )

    def flips(self, case: str) -> list[tuple[float, dict[str, float]]]:
        """(share of the budget, {cause: share of weight codes that a step flips}) by window; the mean over layers, matrices and
        seeds. Of all causes as "all"."""
        found: dict[float, list[dict[str, float]]] = {}
        for trial in self.trials:
            if trial.case == case:
                for window in trial.windows:
                    if shares := _flips(window.get("precision") or {}):
                        found.setdefault(window["tokens"] / trial.plan["budget"]["tokens"], []).append(shares)
        return [(at, {name: fmean(one[name] for one in some) for name in some[0]}) for at, some in sorted(found.items())]


def _flips(precision: Mapping[str, Any]) -> dict[str, float]:
    every = [share for of_layer in (precision.get("flips") or {}).values() for share in of_layer.values()]
    if not every:
        return {}
    causes = [item for of_layer in (precision.get("flip_causes") or {}).values() for item in of_layer.items()]
    by_cause = {cause: [share for name, share in causes if name.endswith(f".{cause}")] for cause in CAUSES}
    return {"all": fmean(every)} | {cause: fmean(found) if found else 0.0 for cause, found in by_cause.items()}
