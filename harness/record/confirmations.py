"""What `confirm` leaves in the folder of a search: confirmations/K.json, champion.json, nulls.json.

Seconds are those of training (`clock.train_s`); slice and rest are in the unit of the track's target, bits per byte or nats
per token. A rest is what of val is not the slice, which no search scores.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from harness import values as v
from harness.plan.space import Noise

VERSION = 1
RUNNING, JUDGED, ABANDONED = "running", "judged", "abandoned"
PROMOTED, TIE, VETOED = "promoted", "tie", "vetoed"
# What must hold of a candidate: its slice below the line, its seconds below the incumbent's, the health of its router, the rest
# of val, and machines that were its own.
LINE, SECONDS, HEALTH, REST, MACHINE = CONDITIONS = ("line", "seconds", "health", "rest", "machine")


class Seen(v.Model):
    """What a verdict needs of one finished run. `entropy`: the worst layer's over that of even routing, None of a dense model;
    `health`: what its router or its loss did beyond the bounds of ranking; `unranked`: why it is not ranked, where it is to be."""

    seed: v.Int
    folder: v.Text
    record_sha256: v.Hex
    chain: v.Hex
    seconds: v.Positive
    slice: v.Positive
    rest: v.Positive | None
    entropy: v.Least0 | None
    dead: v.Whole
    health: list[v.Text]
    unranked: list[v.Text]
    disturbed: v.Text | None


class Side(v.Model):
    """A plan that is run: `name` says what it is ("trial 17 of moe/tpe"); `words`: all that a person types to have it again, the
    seed excepted."""

    name: v.Filled
    words: list[v.Filled]
    plan_hash: v.Hex
    tokens: v.Count


class Fit(v.Model):
    """How a budget was fixed: `tokens_before` came to `slice` on average over `seeds` seeds, `slope` bits per ln(seconds) and
    `margin` below the level make `tokens`."""

    of: v.Filled
    tokens_before: v.Count
    slice: v.Positive
    seeds: v.Count
    slope: v.Positive
    margin: v.Least0
    level: v.Positive
    tokens: v.Count


class Known(v.Model):
    """Standard deviations that were known beforehand: over seeds of the slice, and of differences in a pair of ln seconds and of
    the gap between rest and slice; `source`: where from, in words."""

    slice_sd: v.Positive
    pair_seconds_sd: v.Positive
    pair_gap_sd: v.Positive
    source: v.Filled

    @classmethod
    def stated(cls, noise: Noise) -> "Known":
        """A space's own; a difference in a pair spreads by the root of two more than one run."""
        return cls(
            slice_sd=noise.slice_sd, pair_seconds_sd=2**0.5 * noise.seconds_sd, pair_gap_sd=2**0.5 * noise.gap_sd,
            source="as the space states",
        )  # fmt: skip


class Power(v.Model):
    """The smallest true differences that `pairs` find `power` of the time at `alpha`: ln seconds, slice below the line, growth of
    the gap."""

    power: v.Share
    alpha: v.Share
    pairs: v.Count
    fall: v.Positive
    slice: v.Positive
    gap: v.Positive


class Found(v.Model):
    """One of `CONDITIONS`. `p`: of its test, None where it is none."""

    name: v.Name
    holds: v.Flag
    text: v.Filled
    p: v.Share | None


class Verdict(v.Model):
    """`outcome`: promoted where all conditions hold, vetoed where one beside the seconds does not, else a tie."""

    outcome: v.one_of(PROMOTED, TIE, VETOED)
    conditions: list[Found]

    @property
    def failed(self) -> list[str]:
        return [found.name for found in self.conditions if not found.holds]


class Stopped(v.Model):
    """A run that health stopped, which leaves no record."""

    side: v.one_of("candidate", "incumbent")
    seed: v.Int
    what: v.Text


class Confirmation(v.Model):
    """confirmations/K.json. `trial`: None of a plan typed by hand; `trials`: the ledger's, and plans typed by hand so far;
    `attempt`: which of this candidate; `runs` of either side in the order of `seeds`."""

    version: v.Count
    number: v.Count
    space: v.Name
    lane: v.Name
    family: v.Name
    trial: v.Whole | None
    attempt: v.Count
    trials: v.Count
    ledger_sha256: v.Hex
    hardware_class: v.Filled
    commit: v.Filled
    began: v.Text
    ended: v.Text = v.absent()
    state: v.one_of(RUNNING, JUDGED, ABANDONED)
    seeds: list[v.Whole]
    entropy: v.Share
    line: v.Filled
    level: v.Positive
    candidate: Side
    incumbent: Side
    fit: Fit | None
    known: Known
    power: Power
    runs: list[Seen] = []
    against: list[Seen] = []
    stopped: list[Stopped] = []
    verdict: Verdict = v.absent()


class Champion(v.Model):
    """champion.json: what holds a lane on one hardware class since confirmation `number`, and what it beat. `seconds` and
    `before_seconds`: means over the pairs; `diff`: keys of the plan that differ, "key: before -> after"."""

    version: v.Count
    space: v.Name
    lane: v.Name
    family: v.Name
    hardware_class: v.Filled
    number: v.Count
    trial: v.Whole | None
    at: v.Text
    champion: Side
    before: Side
    seconds: v.Positive
    before_seconds: v.Positive
    slice: v.Positive
    level: v.Positive
    diff: list[v.Text]
    runs: list[Seen]


class Null(v.Model):
    """The same plan on both sides, each with seeds of its own."""

    number: v.Whole
    runs: list[Seen]
    against: list[Seen]
    verdict: Verdict


class Nulls(v.Model):
    """nulls.json."""

    version: v.Count
    space: v.Name
    family: v.Name
    lane: v.Name
    hardware_class: v.Filled
    commit: v.Filled
    words: list[v.Filled]
    plan_hash: v.Hex
    pairs: v.Count
    alpha: v.Share
    entropy: v.Share
    line: v.Filled
    level: v.Positive
    nulls: Annotated[list[Null], Field(min_length=1)]


def seeds_of(runs: Sequence[Seen]) -> list[int]:
    return [run.seed for run in runs]
