"""A series: families of plans grown by one size dial, each trained for several budgets of FLOPs (`studies/series/*.yaml`).

A point of it is a family, a size and a budget: one plan with a complete schedule of its own, for as many whole steps as the
budget pays. Families have everything in common but what FFN a token passes (`VARIES`), at one active width.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.errors import UserError, nearest
from harness.plan.lanes import ROOT
from harness.plan.schema import walk
from harness.reading import read_yaml
from harness.values import Closed, Count, Filled, Name, Positive, Text, Whole, absent, broken

SERIES = ROOT / "studies" / "series"
REMEDY = "see studies/series/sotu.yaml"
LEAST_SIZES = 4  # of a parabola with a point to spare; the least that a series is run at
OWN = ("lane", "seed", "fork", "unranked", "budget", "validation")  # of words: a point's own, or the series'
# Of a family's words: how a layer's FFN is cut into experts, how a token chooses among them, and what keeps them even.
VARIES = (
    "model.ffn_width", "model.num_experts", "model.expert_width", "model.top_k", "model.shared_experts",
    "model.leading_dense_layers", "model.moe_every", "model.router", "model.router_renormalize", "router.", "balance",
)  # fmt: skip
MORE = (
    "families differ in the FFN of a layer alone: "
    "its width, experts, router and balance (balance=..., model.num_experts=...); what all share is in common"
)


class Family(Closed):
    """`words`: overrides of its points; `scaled`: keys of the plan that are a multiple of the size."""

    words: Text = ""
    scaled: dict[Name, Count] = {}


class SeriesFile(Closed):
    """studies/series/*.yaml, and `series` of a study.json. Budgets are training FLOPs; `scored`: how much of val all points are
    scored on, in the track's unit; `ahead`: the largest budget, that of the points that are predicted before they are run."""

    name: Name = absent()  # that of the file, in study.json
    title: Filled
    question: Filled
    lane: Name
    sizes: Annotated[list[Count], Field(min_length=1)]
    scaled: Annotated[dict[Name, Count], Field(min_length=1)]
    budgets: Annotated[list[Positive], Field(min_length=1)]
    ahead: Positive
    seeds: Annotated[list[Whole], Field(min_length=1)]
    scored: Count
    common: Text = ""
    families: Annotated[dict[Name, Family], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        wrong = [*_unordered("sizes", self.sizes), *_unordered("budgets", [*self.budgets, self.ahead])]
        if len(self.sizes) < LEAST_SIZES:
            wrong.append(f"{len(self.sizes)} sizes, of which a parabola over them needs {LEAST_SIZES}")
        if len(set(self.seeds)) < len(self.seeds):
            wrong.append(f"seeds {self.seeds}, of which each is one")
        wrong += _wrong_words("common", self.common.split(), self.scaled)
        for name, family in self.families.items():
            words, taken = family.words.split(), {*self.scaled, *map(key_of, self.common.split())}
            wrong += _wrong_words(f"family {name}", words, {*taken, *family.scaled})
            wrong += [
                f"family {name} sets {key}: {MORE}"
                for key in (*map(key_of, words), *family.scaled)
                if not key.startswith(VARIES)
            ]
            wrong += [f"family {name} scales {key}, which common or the size sets" for key in family.scaled if key in taken]
        known = dict(walk())
        for key in {*self.scaled, *(key for family in self.families.values() for key in family.scaled)}:
            if key not in known or known[key].type is not int:
                wrong.append(f"scaled {key}, which is no whole number of a plan")
        if wrong:
            raise broken("; ".join(wrong))
        return self

    @property
    def all_budgets(self) -> list[float]:
        """Those of the grid, and the one ahead of it."""
        return [*self.budgets, self.ahead]

    @property
    def shared(self) -> list[str]:
        """Words of all points. The curve has one point, the last: a validation on the way would change no bit and cost time."""
        return ["unranked=true", "validation.steps=[]", f"validation.tokens={self.scored}", *self.common.split()]

    def words(self, family: str, size: int) -> list[str]:
        """What tells points of this family and size from others, but for their budget of tokens."""
        own = self.families[family]
        return [*own.words.split(), *(f"{key}={size * step}" for key, step in (self.scaled | own.scaled).items())]

    def point_name(self, family: str, size: int, budget: float) -> str:
        """It names a folder too: dense-s4-c2 is of the second budget."""
        return f"{family}-s{size}-c{self.all_budgets.index(budget) + 1}"

    @property
    def places(self) -> dict[str, tuple[str, int, float]]:
        """By name of a point its family, size and budget."""
        return {
            self.point_name(family, size, budget): (family, size, budget)
            for family in self.families
            for size in self.sizes
            for budget in self.all_budgets
        }

    def not_of(self, lane: str, common: str, cases: Mapping[str, str]) -> list[str]:
        """A sentence for whatever a study of its points says otherwise than the series does. `cases`: by point the words of its
        family and size, then the tokens of its budget."""
        wrong, places = [], self.places
        if (lane, common.split()) != (self.lane, self.shared):
            wrong.append(f"lane {lane} and common {common!r}, of a series of {self.lane} and {' '.join(self.shared)!r}")
        for name, said in cases.items():
            if name not in places:
                wrong.append(f"case {name}, which is no point of the series")
                continue
            *words, last = said.split() or [""]
            if words != self.words(*places[name][:2]) or key_of(last) != "budget.tokens":
                wrong.append(
                    f"case {name} is {said!r}, the series has {' '.join(self.words(*places[name][:2]))} budget.tokens=..."
                )
        return wrong


class Series(SeriesFile):
    name: Name

    def with_words(self, words: Sequence[str]) -> "Series":
        """The series with more words in common.

        Raises:
            UserError: one of them is not common to all points, or sets what a point has of its own.
        """
        taken = {*self.scaled, *(key for family in self.families.values() for key in family.scaled)}
        taken |= {key_of(word) for family in self.families.values() for word in family.words.split()}
        if wrong := _wrong_words("this call", words, taken):
            raise UserError("; ".join(wrong), f"leave these words out: studies/series/{self.name}.yaml sets what they set")
        return self.model_copy(update={"common": " ".join([*self.common.split(), *words])})


def series_names() -> list[str]:
    return sorted(path.stem for path in SERIES.glob("*.yaml"))


def read_series(name: str) -> Series:
    """Raises: UserError for an unknown name or a file that is no series."""
    names = series_names()
    if name not in names:
        raise UserError(f"unknown series {name!r}", f"{nearest(name, names)}\n  `python -m harness series` lists them")
    return Series(**read_yaml(SERIES / f"{name}.yaml", SeriesFile, REMEDY).content() | {"name": name})


def key_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _unordered(what: str, values: Sequence[float]) -> list[str]:
    if all(a < b for a, b in zip(values, values[1:])):
        return []
    told = ", ".join(f"{value:g}" for value in values)
    return [f"{what} {told} do not rise" + (", the one ahead last" if what == "budgets" else "")]


def _wrong_words(where: str, words: Sequence[str], taken: Iterable[str]) -> list[str]:
    """A sentence for each word that sets what a point has of its own, or what is set elsewhere."""
    found = [f"{word} in {where}, which is a point's own" for word in words if key_of(word).split(".")[0] in OWN]
    return found + [f"{word} in {where}, which is set elsewhere" for word in words if key_of(word) in set(taken)]
