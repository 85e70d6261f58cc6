"""A study: one question, asked of a lane by several plans that differ in what is asked about (`studies/*.yaml`)."""

import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from harness.errors import UserError, nearest
from harness.plan.lanes import ROOT
from harness.plan.race import RACE, TO_LINE, no_race
from harness.plan.schema import walk
from harness.plan.series import Series
from harness.reading import read_yaml
from harness.values import Closed, Filled, Name, Text, absent, broken, one_of

STUDIES = ROOT / "studies"
# harness/report/study/folder.py draws them
FIGURES = (
    "load", "sweep", "time", "rules", "cost", "tasks", "routing", "epochs", "doses", "parts", "damage", "occupancy", "formats",
    "signal", RACE,
)  # fmt: skip
# the others look at the load of experts
OF_ANY_MODEL = ("cost", "tasks", "epochs", "doses", "parts", "occupancy", "formats", RACE)
OF_SERIES = "series"  # of a series' points, drawn by harness/report/series
# The verb that looks into every run that has finished: what experts are for which task; what interfering with routers costs.
LOOKS = {"routing": "inspect", "damage": "damage", "occupancy": "damage"}
REMEDY = "see studies/sparsity.yaml"
OF_FAMILIES = ("formats", "signal")  # which set one family against the other
INHERIT = (RACE, *OF_FAMILIES)  # figures of studies in which FAMILY-DIAL has the words of FAMILY, and then its own
NOT_A_CASES = ("lane", "seed")  # a study's own words
FORK = re.compile(r"fork=([^@\s]+)@(\d+)")  # CASE@STEP
DOSE = re.compile(r"(.+)-(\d{1,3}(?:\.\d+)?)")  # KIND-LEVEL, in %


@dataclass(frozen=True)
class Study:
    """`cases`: {name: overrides}, in the order they are drawn; `common`: overrides of all of them; `axis`: the key that a sweep
    is drawn against; `equal`: what all cases are trained for alike, or `line`: each for a budget of its own, and compared by
    its seconds to the line. Overrides are words, separated by blanks. The first case is what others are compared with.

    `families`: two cases, FAMILY and OTHER, whose further cases FAMILY-DIAL and OTHER-DIAL turn the same: the table says what a
    dial does in each, and whether it does more in one of them. A dial KIND-LEVEL is a dose of that kind, in %.

    `parts`: which parts of val its figure shows, all of them where none is named.

    `fork=CASE@STEP` among the words of a case: it starts from that checkpoint of an earlier case with the same seed."""

    name: str
    title: str
    question: str
    lane: str
    figure: str
    cases: dict[str, str]
    common: str = ""
    axis: str = ""
    equal: str = "tokens"
    families: list[str] = field(default_factory=list)
    series: Series | None = None  # whose points the cases are
    parts: list[str] = field(default_factory=list)

    @property
    def look(self) -> str:
        """The verb by which its runs are looked into; empty of a study that does not."""
        return LOOKS.get(self.figure, "")

    @property
    def inspects(self) -> bool:
        """Whether its runs are looked into by `make inspect`."""
        return self.look == "inspect"

    @property
    def dials(self) -> list[str]:
        """What both families turn, in the order of the first one's cases."""
        if not self.families:
            return []
        one, other = map(self.of_family, self.families)
        return [dial for dial in one if dial in other]

    def family_of(self, case: str) -> str:
        """The family that a case is, or turns a dial of; empty where it belongs to none."""
        return next((family for family in self.families if case == family or case.startswith(f"{family}-")), "")

    def of_family(self, family: str) -> dict[str, str]:
        """{dial: case} of all that a family turns, whether the other one does or not."""
        start = f"{family}-"
        return {case.removeprefix(start): case for case in self.cases if case.startswith(start)}

    @property
    def doses(self) -> dict[str, dict[float, str]]:
        """By kind: {level in %: dial}, of the dials that both families turn; kinds in their order, levels from the lowest."""
        found: dict[str, dict[float, str]] = {}
        for dial in self.dials:
            if dose := DOSE.fullmatch(dial):
                found.setdefault(dose[1], {})[float(dose[2])] = dial
        return {kind: dict(sorted(of_kind.items())) for kind, of_kind in found.items()}

    def content(self) -> dict[str, Any]:
        """As study.json has it; families, parts and series of a study that has some."""
        content = {key: value for key, value in asdict(self).items() if value or key not in ("families", "parts", "series")}
        return content | ({"series": self.series.content()} if self.series else {})

    def words(self, case: str) -> list[str]:
        """Overrides of a plan. A fork is no part of them; a case that others start from leaves its checkpoints for them."""
        words = [f"lane={self.lane}", *self.common.split(), *self._of_its_family(case), *self.cases[case].split()]
        left = sorted({fork[1] for other in self.cases if (fork := self.fork(other)) and fork[0] == case})
        words += [f"run.checkpoint_steps=[{','.join(map(str, left))}]"] if left else []
        return [word for word in words if not word.startswith("fork=")]

    def _of_its_family(self, case: str) -> list[str]:
        """What a case turns a dial of, in a study whose cases need not repeat it."""
        of = [family for family in self.families if self.figure in INHERIT and case.startswith(f"{family}-")]
        return [word for family in of for word in self.cases[family].split()]

    def fork(self, case: str) -> tuple[str, int] | None:
        """The case and step that this one starts from, None where it starts anew."""
        found = next((match for word in self.cases[case].split() if (match := FORK.fullmatch(word))), None)
        return (found[1], int(found[2])) if found else None


class StudyFile(Closed):
    """studies/*.yaml, and `study` of a study.json. A case's name names a folder too."""

    name: Name = absent()  # that of the file, in study.json
    title: Filled
    question: Filled
    lane: Name
    figure: one_of(*FIGURES, OF_SERIES)
    cases: Annotated[dict[Name, Text], Field(min_length=1)]
    common: Text = ""
    axis: Text = ""
    equal: one_of("tokens", "seconds", "FLOPs", TO_LINE) = "tokens"
    families: list[Name] = absent()
    series: Series = absent()
    parts: list[Name] = absent()

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if (self.figure == OF_SERIES) != bool(self.series):
            raise broken("figure series is of the points of a series: studies/series has those, make series NAME=... runs them")
        if self.figure == "sweep" and not self.axis:
            raise broken("a sweep needs an axis")
        if self.axis and self.axis not in dict(walk()):
            raise broken(f"axis {self.axis} is no key of a plan")
        words = [*self.common.split(), *(word for said in self.cases.values() for word in said.split())]
        wrong = _bad_forks(self.cases) + (self.series.not_of(self.lane, self.common, self.cases) if self.series else [])
        if self.families and (len(self.families) != 2 or not set(self.families) <= self.cases.keys()):
            wrong.append(f"families {self.families}, which are two cases")
        elif self.figure == "doses" and not study_of("", self).doses:
            wrong.append("doses of no families and their cases FAMILY-KIND-LEVEL, such as dense-random-bytes-50")
        elif not self.families and self.figure in OF_FAMILIES:
            wrong.append(f"figure {self.figure} of no families, which are two cases")
        wrong += no_race(self.figure, self.equal, self.families or [], self.cases)
        if self.parts and self.figure != "parts":
            wrong.append(f"parts {self.parts} of figure {self.figure}, which shows none")
        wrong += [f"{word} in common or a case" for word in words if word.lstrip("+~").split("=")[0] in NOT_A_CASES]
        if wrong:
            raise broken("; ".join(wrong))
        return self


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(name: str) -> Study:
    """Raises: UserError for an unknown name or a file that is no study."""
    names = study_names()
    if name not in names:
        raise UserError(f"unknown study {name!r}", f"{nearest(name, names)}\n  `python -m harness study` lists them")
    return study_of(name, read_yaml(STUDIES / f"{name}.yaml", StudyFile, REMEDY))


def study_of(name: str, file: StudyFile) -> Study:
    return Study(**file.content() | {"name": name, "series": file.series})


def _bad_forks(cases: dict[str, str]) -> list[str]:
    """A source is an earlier case that starts anew: then the order of the cases is one to run them in."""
    wrong, anew = [], set()
    for case, said in cases.items():
        forks = [word for word in said.split() if word.startswith("fork=")]
        found = FORK.fullmatch(forks[0]) if len(forks) == 1 else None
        if not forks:
            anew.add(case)
        elif found is None or found[1] not in anew or int(found[2]) < 1:
            wrong.append(f"case {case!r} has {' '.join(forks)}, not one fork=CASE@STEP of an earlier case that starts anew")
    return wrong
