"""What `confirm` leaves in the folder of a search: confirmations/K.json, champion.json, nulls.json.

Seconds are those of training (`clock.train_s`); slice and rest are in the unit of the track's target, bits per byte or nats
per token. A rest is what of val is not the slice, which no search scores.
"""

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
    `health`: what its router or its loss did beyond the bounds of ranking; `unranked`: why it is not ranked."""

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
    """A plan that is run: `name` says what it is ("trial moe/tpe/17"); `words`: all that a person types to have it again, the
    seed excepted; `base_hash`: of the plan at any budget."""

    name: v.Filled
    words: list[v.Filled]
    plan_hash: v.Hex
    base_hash: v.Hex
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
    """Standard deviations that were known beforehand: over seeds of the slice, and of differences in a pair of ln seconds and
    of the gap between rest and slice; `source`: where from, in words."""

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
    """The smallest true differences that `pairs` find `power` of the time at `alpha`: ln seconds, slice below the line,
    growth of the gap."""

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
    """confirmations/K.json. `trial`: ARM/NUMBER, None of a plan typed by hand; `asked`: the words of the call; `attempt`:
    which of this candidate; `trials`: the ledger's, and plans typed by hand so far; `ranks`: whether runs are to be ranked;
    `runs` and `against`, candidate and incumbent, in the order of `seeds`; `replaced`: runs of disturbed pairs, which were
    measured again; `slope`: of the incumbent, in bits per ln(second), where that is a start plan."""

    schema_version: v.Count
    number: v.Count
    space: v.Name
    lane: v.Name
    family: v.Name
    trial: v.Filled | None
    asked: list[v.Text]
    attempt: v.Count
    trials: v.Count
    ledger_sha256: v.Hex
    hardware_class: v.Filled
    commit: v.Filled
    began: v.Text
    ended: v.Text = v.absent()
    state: v.one_of(RUNNING, JUDGED, ABANDONED)
    seeds: list[v.Whole]
    ranks: v.Flag
    entropy: v.Share
    line: v.Filled
    level: v.Positive
    candidate: Side
    incumbent: Side
    slope: v.Positive = v.absent()
    fit: Fit | None
    known: Known
    power: Power
    runs: list[Seen] = []
    against: list[Seen] = []
    replaced: list[Seen] = []
    stopped: list[Stopped] = []
    verdict: Verdict = v.absent()


class Champion(v.Model):
    """champion.json: what holds a lane on one hardware class since confirmation `number`, and what it beat. `seconds` and
    `before_seconds`: means over the pairs, the latter as they count (report/search/verdict.py); `diff`: keys of the plan that
    differ, "key: before -> after"."""

    schema_version: v.Count
    space: v.Name
    lane: v.Name
    family: v.Name
    hardware_class: v.Filled
    number: v.Count
    trial: v.Filled | None
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
    """nulls/FAMILY/NUMBER.json: the same plan on both sides, each with seeds of its own."""

    number: v.Whole
    plan_hash: v.Hex
    hardware_class: v.Filled
    runs: list[Seen]
    against: list[Seen]
    verdict: Verdict


class FamilyNulls(v.Model):
    """Null candidates of a family's start plan, `words` all that is typed but the seed."""

    words: list[v.Filled]
    plan_hash: v.Hex
    pairs: v.Count
    nulls: Annotated[list[Null], Field(min_length=1)]


class Nulls(v.Model):
    """nulls.json."""

    schema_version: v.Count
    space: v.Name
    lane: v.Name
    hardware_class: v.Filled
    commit: v.Filled
    alpha: v.Share
    ranks: v.Flag
    entropy: v.Share
    line: v.Filled
    level: v.Positive
    families: Annotated[dict[v.Name, FamilyNulls], Field(min_length=1)]


class ClaimedSearch(v.Model):
    """The search that a claimed plan came from, with what it has spent: `trials`, those typed by hand among them, `runs` of
    them, and `confirmations`; `ledger_sha256`: of the ledger as it was when the plan was chosen."""

    name: v.Name
    trials: v.Count
    runs: v.Whole
    confirmations: v.Whole
    ledger_sha256: v.Hex

    @property
    def told(self) -> str:
        confirmed = f", {self.confirmations} confirmation{'s' if self.confirmations > 1 else ''}" if self.confirmations else ""
        return f"{self.trials} trials of search {self.name} ({self.runs} runs{confirmed})"
