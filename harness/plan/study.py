"""A study: one question, asked of a lane by several plans that differ in what is asked about (`studies/*.yaml`)."""

import re
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from harness.errors import UserError, nearest
from harness.plan.lanes import ROOT, read
from harness.plan.schema import walk

STUDIES = ROOT / "studies"
FIGURES = ("load", "sweep", "time", "rules", "cost")  # harness/report/study_figure.py draws them
OF_ANY_MODEL = ("cost",)  # the others look at the load of experts
REQUIRED, OPTIONAL = ("title", "question", "lane", "figure", "cases"), ("common", "axis")
NOT_A_CASES = ("lane", "seed")  # a study's own words
CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")  # it names a folder too
FORK = re.compile(r"fork=([^@\s]+)@(\d+)")  # CASE@STEP


@dataclass(frozen=True)
class Study:
    """`cases`: {name: overrides}, in the order they are drawn; `common`: overrides of all of them; `axis`: the key that a sweep
    is drawn against. Overrides are words, separated by blanks. The first case is what others are compared with.

    `fork=CASE@STEP` among the words of a case: it starts from that checkpoint of an earlier case with the same seed."""

    name: str
    title: str
    question: str
    lane: str
    figure: str
    cases: dict[str, str]
    common: str = ""
    axis: str = ""

    def words(self, case: str) -> list[str]:
        """Overrides of a plan. A fork is no part of them; a case that others start from leaves its checkpoints for them."""
        words = [f"lane={self.lane}", *self.common.split(), *self.cases[case].split()]
        left = sorted({fork[1] for other in self.cases if (fork := self.fork(other)) and fork[0] == case})
        words += [f"run.checkpoint_steps=[{','.join(map(str, left))}]"] if left else []
        return [word for word in words if not word.startswith("fork=")]

    def fork(self, case: str) -> tuple[str, int] | None:
        """The case and step that this one starts from, None where it starts anew."""
        found = next((match for word in self.cases[case].split() if (match := FORK.fullmatch(word))), None)
        return (found[1], int(found[2])) if found else None


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(name: str) -> Study:
    """Errors: UserError for an unknown name or a file that is no study."""
    names = study_names()
    if name not in names:
        raise UserError(f"unknown study {name!r}", f"{nearest(name, names)}\n  `python -m harness study` lists them")
    return study_of(name, OmegaConf.to_container(read(STUDIES / f"{name}.yaml")), f"studies/{name}.yaml")


def study_of(name: str, content: dict[str, Any], where: str) -> Study:
    """Checks what `where` holds. Errors: UserError."""
    wrong = [f"{key} is missing" for key in REQUIRED if not content.get(key)]
    wrong += [f"unknown key {key}" for key in content if key not in (*REQUIRED, *OPTIONAL, "name")]
    texts = ("title", "question", "lane", "figure", "common", "axis")
    wrong += [f"{key} is {content[key]!r}, no text" for key in texts if not isinstance(content.get(key, ""), str)]
    if not wrong and content["figure"] not in FIGURES:
        wrong.append(f"figure is {content['figure']!r}, known are {', '.join(FIGURES)}")
    if not wrong and content["figure"] == "sweep" and not content.get("axis"):
        wrong.append("a sweep needs an axis")
    if not wrong and content.get("axis") and content["axis"] not in dict(walk()):
        wrong.append(f"axis {content['axis']} is no key of a plan")
    if not wrong:
        cases = content["cases"].items() if isinstance(content["cases"], dict) else [(content["cases"], None)]
        wrong += [f"case {case!r} is {said!r}" for case, said in cases if not (_name(case) and isinstance(said, str))]
    if not wrong:
        wrong += _bad_forks(content["cases"])
        words = [*content.get("common", "").split(), *(word for said in content["cases"].values() for word in said.split())]
        wrong += [f"{word} in common or a case" for word in words if word.lstrip("+~").split("=")[0] in NOT_A_CASES]
    if wrong:
        raise UserError(f"{where} is no study: {'; '.join(wrong)}", "see studies/sparsity.yaml")
    return Study(**{**content, "name": name})


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


def _name(case: Any) -> bool:
    return isinstance(case, str) and CASE.fullmatch(case) is not None
