"""A space: what a search may turn of an open lane's plan, in which families, at which budget (`studies/spaces/*.yaml`).

A *trial* is one draw of the dials in one *arm*, which is a family and a sampler. A *rung* is a share of the trial's own budget,
trained with a whole schedule of its own. `space_check.py` composes what a space says.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from harness.errors import UserError, nearest
from harness.plan.lanes import ROOT
from harness.plan.schema import FIXED_IN_OPEN, walk
from harness.plan.series import key_of
from harness.reading import read_yaml
from harness.values import Closed, Count, Filled, Flag, Name, Number, Positive, Share, Text, Whole, absent, broken, one_of

SPACES = ROOT / "studies" / "spaces"
REMEDY = "see studies/spaces/tiny-open.yaml"
SAMPLERS = ("tpe", "random")  # the second is the first one's control
BUDGET, BATCH = "budget.tokens", "batch.tokens_per_step"
# Of words: each trial's own, or the search's.
OWN = ("lane", "seed", "fork", "unranked", "validation")
DIGITS = 4  # of a drawn number, as it is typed
TYPES = {key: f.type for key, f in walk()}
# What may differ between two calls of one search: it moves no draw and no verdict of a trial.
BESIDE = ("name", "title", "question", "trials", "confirm", "noise")


class Dial(Closed):
    """From `low` to `high`, or one of `choices`: values of the key, or by name words of several keys. `step_of: batch` of
    budget.tokens: rounded to whole steps of the trial's own batch."""

    low: Number = absent()
    high: Number = absent()
    log: Flag = False
    step_of: one_of("batch") = absent()
    choices: Any = absent()

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        ends = [end for end in ("low", "high") if getattr(self, end) is not None]
        if (self.choices is None) == (not ends) or len(ends) == 1:
            raise broken("it has low and high, or choices")
        if ends and not self.low < self.high:
            raise broken(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and not (ends and self.low > 0):
            raise broken("log is of a range that begins above 0")
        if not ends:
            self._look_at_choices()
        return self

    def _look_at_choices(self) -> None:
        if not isinstance(self.choices, (list, dict)) or len(self.choices) < 2:
            raise broken("choices are two or more values, or names with the words of each")
        found = self.choices.values() if isinstance(self.choices, dict) else self.choices
        kind = str if isinstance(self.choices, dict) else (bool, int, float, str)
        if odd := [value for value in found if not isinstance(value, kind)]:
            raise broken(f"{odd[0]!r} is no choice: a number, a text, true or false; of a name its words")
        if len({json.dumps(value) for value in found}) < len(self.choices):
            raise broken("two choices are the same")

    @property
    def named(self) -> bool:
        return isinstance(self.choices, dict)

    def sets(self, name: str) -> set[str]:
        """The keys of a plan that it turns."""
        return {key_of(word) for words in self.choices.values() for word in words.split()} if self.named else {name}

    def words(self, name: str, value: Any) -> list[str]:
        """What a value of it is on the command line. `value`: of named choices the name."""
        if self.named:
            return self.choices[value].split()
        return [f"{name}={_typed(int(value) if TYPES.get(name) is int else value)}"]


class Family(Closed):
    """`words`: where it starts, and what all its plans have in common; `dials`: those that it alone has."""

    words: Text = ""
    dials: dict[Name, Dial] = {}


class Noise(Closed):
    """Standard deviations over seeds, until runs of the search's own tell: of the slice, of ln seconds on a quiet machine, and
    of the gap between the rest of val and the slice. The defaults are those of sotu-dense and tiny-moe-16e in results/."""

    slice_sd: Positive = 0.004
    seconds_sd: Positive = 0.03
    gap_sd: Positive = 0.0013


class Confirm(Closed):
    """How a candidate is confirmed: `pairs` at least, one-sided at `alpha`, under seeds from `fresh_from` on; `entropy`: the
    least of a router's entropy over that of even routing; `words`: of these runs alone, none where the lane ranks them."""

    pairs: Count = 3
    alpha: Share = 0.01
    fresh_from: Count = 1001
    entropy: Share = 0.85
    words: Text = ""


class SpaceFile(Closed):
    """studies/spaces/*.yaml, and `space` of a ledger. `scored`: how much of val trials are scored on, in the track's unit;
    `trials`: of an arm; `reduction`: of so many at a rung one goes on."""

    name: Name = absent()  # that of the file, in a ledger
    title: Filled
    question: Filled
    lane: Name
    common: Text = ""
    scored: Count
    seed: Whole = 1
    rungs: Annotated[list[Share], Field(min_length=2)]
    reduction: Count
    trials: Count
    families: Annotated[dict[Name, Family], Field(min_length=1)]
    dials: Annotated[dict[Name, Dial], Field(min_length=1)]
    confirm: Confirm = Field(default_factory=Confirm)
    noise: Noise = Field(default_factory=Noise)

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        wrong = []
        told = ", ".join(f"{share:g}" for share in self.rungs)
        if not all(a < b for a, b in zip([0, *self.rungs], self.rungs)) or self.rungs[-1] != 1:
            wrong.append(f"rungs {told}, which rise from above 0 to 1")
        if self.reduction < 2:
            wrong.append(f"reduction {self.reduction}, at which all trials go on: choose 2 or more")
        wrong += _wrong_words("common", self.common.split(), self._turned())
        for name, family in self.families.items():
            wrong += _wrong_words(f"family {name}", family.words.split(), map(key_of, self.common.split()))
            wrong += [f"dial {dial} of family {name}, which all families have" for dial in family.dials if dial in self.dials]
            wrong += _wrong_dials(self.dials_of(name), f"family {name}")
        if self.confirm.fresh_from <= self.seed:
            wrong.append(f"confirm.fresh_from {self.confirm.fresh_from}, which seed {self.seed} of the trials is not below")
        if wrong:
            raise broken("; ".join(dict.fromkeys(wrong)))
        return self

    def _turned(self) -> set[str]:
        return {key for family in self.families for name, dial in self.dials_of(family).items() for key in dial.sets(name)}

    @property
    def arms(self) -> list[tuple[str, str]]:
        """(family, sampler), in the order in which they take turns."""
        return [(family, sampler) for family in self.families for sampler in SAMPLERS]

    @property
    def shared(self) -> list[str]:
        """Words of all trials: the slice alone is scored, once, at the end."""
        return ["unranked=true", "validation.steps=[]", f"validation.tokens={self.scored}", *self.common.split()]

    def confirmed(self, words: Sequence[str]) -> list[str]:
        """All words of a run that confirms the plan of these, the seed excepted: the whole lane's, all of val included."""
        return [f"lane={self.lane}", *self.common.split(), *words, *self.confirm.words.split()]

    def dials_of(self, family: str) -> dict[str, Dial]:
        return self.dials | self.families[family].dials

    def words(self, family: str, params: Mapping[str, Any] | None = None) -> list[str]:
        """What a trial's plan has beyond the lane and `shared`, each key once; without `params` where the family starts. Tokens
        of the budget are as drawn, not yet in whole steps."""
        said = [word for name, value in (params or {}).items() for word in self.dials_of(family)[name].words(name, value)]
        return list({key_of(word): word for word in [*self.families[family].words.split(), *said]}.values())

    @property
    def identity(self) -> dict[str, Any]:
        """What two calls of one search must agree on."""
        return {key: value for key, value in self.model_dump(exclude_none=True).items() if key not in BESIDE}

    @property
    def sha256(self) -> str:
        """The hash of its identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Space(SpaceFile):
    name: Name

    def with_trials(self, trials: int | None) -> "Space":
        """The same search with another number of trials an arm."""
        return self if trials is None else Space(**self.content() | {"trials": trials})


def space_names() -> list[str]:
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def read_space(name: str) -> Space:
    """Raises: UserError for an unknown name or a file that is no space."""
    names = space_names()
    if name not in names:
        raise UserError(f"unknown space {name!r}", f"{nearest(name, names)}\n  `python -m harness search` lists them")
    return Space(**read_yaml(SPACES / f"{name}.yaml", SpaceFile, REMEDY).content() | {"name": name})


def _typed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def _wrong_words(where: str, words: Iterable[str], taken: Iterable[str]) -> list[str]:
    """A sentence for each word that sets what a trial has of its own, or what is set elsewhere."""
    words, taken = list(words), set(taken)
    found = [f"{word} in {where}, which is a trial's own" for word in words if key_of(word).split(".")[0] in OWN]
    return found + [f"{word} in {where}, which is set elsewhere" for word in words if key_of(word) in taken]


def _wrong_dials(dials: Mapping[str, Dial], where: str) -> list[str]:
    """A sentence for each dial of a family that no plan has, that the lane fixes, or that two dials turn."""
    wrong, turned = [], {}
    for name, dial in dials.items():
        for key in sorted(dial.sets(name)):
            if key.split(".")[0] in OWN:
                wrong.append(f"dial {name} turns {key}, which is a trial's own")
            elif key in FIXED_IN_OPEN:
                wrong.append(f"dial {name} turns {key}, which an open lane fixes")
            elif key in turned:
                wrong.append(f"dials {turned[key]} and {name} of {where} both turn {key}")
            elif key not in TYPES and not dial.named:
                wrong.append(f"dial {name} is no key of a plan: {nearest(name, TYPES)}")
            turned[key] = name
        if dial.low is not None and TYPES.get(name) not in (int, float, None):
            wrong.append(f"dial {name} has low and high, and is no number: give it choices")
        if dial.low is not None and TYPES.get(name) is int and (dial.low % 1 or dial.high % 1):
            wrong.append(f"dial {name} is a whole number, found {dial.low:g} to {dial.high:g}")
        if dial.step_of and name != BUDGET:
            wrong.append(f"dial {name} has step_of, which is of {BUDGET}")
    return wrong
