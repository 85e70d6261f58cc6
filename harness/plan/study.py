"""A study: one question, asked of a lane by several plans that differ in what is asked about (`studies/*.yaml`)."""

import re
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from harness.errors import UserError, nearest
from harness.plan.lanes import ROOT, read

STUDIES = ROOT / "studies"
FIGURES = ("load", "sweep", "time", "rules")  # harness/report/study_figure.py draws them
REQUIRED, OPTIONAL = ("title", "question", "lane", "figure", "cases"), ("common", "axis")
CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")  # it names a folder too


@dataclass(frozen=True)
class Study:
    """`cases`: {name: overrides}, in the order they are drawn; `common`: overrides of all of them; `axis`: the key that a sweep
    is drawn against. Overrides are words, separated by blanks. The first case is what others are compared with."""

    name: str
    title: str
    question: str
    lane: str
    figure: str
    cases: dict[str, str]
    common: str = ""
    axis: str = ""

    def words(self, case: str) -> list[str]:
        return [f"lane={self.lane}", *self.common.split(), *self.cases[case].split()]


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
    if not wrong and content["figure"] not in FIGURES:
        wrong.append(f"figure is {content['figure']!r}, known are {', '.join(FIGURES)}")
    if not wrong and content["figure"] == "sweep" and not content.get("axis"):
        wrong.append("a sweep needs an axis")
    if not wrong:
        cases = content["cases"].items() if isinstance(content["cases"], dict) else [(content["cases"], None)]
        wrong += [f"case {case!r} is {said!r}" for case, said in cases if not (_name(case) and isinstance(said, str))]
    if wrong:
        raise UserError(f"{where} is no study: {'; '.join(wrong)}", "see studies/sparsity.yaml")
    return Study(**{**content, "name": name})


def _name(case: Any) -> bool:
    return isinstance(case, str) and CASE.fullmatch(case) is not None
