"""All that a series says of how its families grow and of what they are worth against each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.report.series.answers import NoAnswer
from harness.report.series.bootstrap import RESAMPLES, Bootstrap, bootstrap
from harness.report.series.contracts import Worth, worth
from harness.report.series.frontier import CONTRACTS
from harness.report.series.points import CONVENTIONS, Point
from harness.report.series.valley_spread import ValleySpread, valley_spread

COUNTED = "matrices+head"  # by what the joint law counts N: of dense models it alone gave a constant ratio (nanochat)


@dataclass(frozen=True)
class Laws:
    """By family, in the order of the series. `valleys`: by family and convention. `worths`: of every family but the first,
    which is their base, under each contract; none where a law is missing."""

    convention: str
    valleys: dict[str, dict[str, ValleySpread]]
    joint: dict[str, Bootstrap | NoAnswer]
    worths: tuple[Worth, ...]


def laws_of(points: Sequence[Point], families: Sequence[str], convention: str = COUNTED, count: int = RESAMPLES) -> Laws:
    """`families`: the base first; those without a point are left out."""
    of_family = {name: some for name in families if (some := [point for point in points if point.family == name])}
    spreads = {
        name: {counted: valley_spread(some, counted, count) for counted in CONVENTIONS} for name, some in of_family.items()
    }
    joint: dict[str, Bootstrap | NoAnswer] = {}
    for name, some in of_family.items():
        try:
            joint[name] = bootstrap(some, convention, count)
        except UserError as error:  # said where the law would stand; the valleys may still be there
            joint[name] = NoAnswer(error.problem)
    known = [it for it in joint.values() if isinstance(it, Bootstrap)]
    base = joint.get(families[0])
    pairs = [(base, other) for other in known if other is not base] if isinstance(base, Bootstrap) else []
    worths = tuple(worth(one, other, contract) for one, other in pairs for contract in CONTRACTS)
    return Laws(convention, spreads, joint, worths)
