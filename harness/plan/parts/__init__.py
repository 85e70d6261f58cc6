"""Parts: what a lane or recipe chooses by name. A part is a file in the folder of its kind, and the file's name is its name.

The file of mathematics (`KINDS` has the folders) imports torch and ends with `PART`, the class; what the class declares of
itself is in `harness/model/part.py` and `harness/optim/optimizers/__init__.py`. What must be known without torch stands in a
second file, `harness/plan/parts/KIND/NAME.py`, if there is any of it:

    Keys         a dataclass of the part's own keys, each with its range and `later=True`: KIND.NAME.KEY of a plan
    check(plan)  raises UserError where the plan and the part do not go together
    GIVES_HEADS  of an attention: it calls `in_heads`, where memories may act on queries, keys and values
    QK_CLIP      of an attention: it has `peaks` and `shrink`

SPEEDRUN_PARTS names a folder of parts outside of this repository, with a folder a kind: one file each, which has all of it.
Runs with a part of it are unranked.
"""

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.plan.schema import Parallel, Plan

ROOT = Path(__file__).resolve().parents[3]
MATRICES = ("dense", "expert")  # the parameter groups that `optim.matrices` updates
FIRST = ("muon", "adamw")  # whose keys every plan has had


@dataclass(frozen=True)
class Kind:
    """`folder`: the package of the mathematics; `chosen_by`: keys of a plan; `component`: what the swap contract calls it,
    "protocol" of what must not be swapped."""

    folder: str
    chosen_by: tuple[str, ...]
    component: str


KINDS = {
    "attention": Kind("harness.model.attention", ("model.attention", "model.attention_pattern"), "attention"),
    "residual": Kind("harness.model.residual", ("model.residual",), "residual"),
    "memory": Kind("harness.model.memory", ("model.memories",), "memory"),
    "router": Kind("harness.model.router", ("model.router",), "FFN"),
    "transport": Kind("harness.model.transport", ("parallel.transport",), "kernels"),
    "optim": Kind("harness.optim.optimizers", ("optim.matrices", "optim.others"), "optimizer"),
    "task": Kind("harness.data.task", ("data.tasks",), "protocol"),
    "noise": Kind("harness.data.noise", ("data.noise",), "protocol"),
    "grader": Kind("harness.data.grader", (), "protocol"),  # no plan names one: a plan has the file that it wrote
}


def outside() -> Path | None:
    """The folder of parts that are not this repository's."""
    named = os.environ.get("SPEEDRUN_PARTS")
    return Path(named) if named else None


@cache
def names(kind: str) -> tuple[str, ...]:
    """Every part of a kind.

    Raises:
        UserError: SPEEDRUN_PARTS is no folder, or has a part that this repository has too.
    """
    here = _stems(ROOT / KINDS[kind].folder.replace(".", "/"))
    if (folder := outside()) is None:
        return tuple(here)
    if not folder.is_dir():
        raise UserError(f"SPEEDRUN_PARTS={folder} is no folder", f"it holds one folder a kind: {', '.join(KINDS)}")
    there = _stems(folder / kind)
    if both := set(here) & set(there):
        name = min(both)
        raise UserError(f"{folder / kind / name}.py has the name of a part of this repository", "call it something else")
    return tuple(sorted([*here, *there]))


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


@cache
def without_torch(kind: str, name: str) -> ModuleType | None:
    """What is known of a part before anything is built."""
    if is_outside(kind, name):
        return mathematics(kind, name)
    stated = f"harness.plan.parts.{kind}.{name}"
    return importlib.import_module(stated) if (ROOT / (stated.replace(".", "/") + ".py")).exists() else None


@cache
def mathematics(kind: str, name: str) -> ModuleType:
    if not is_outside(kind, name):
        return importlib.import_module(f"{KINDS[kind].folder}.{name}")
    path, module = outside() / kind / f"{name}.py", f"speedrun_parts_{kind}_{name}"
    spec = importlib.util.spec_from_file_location(module, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    spec.loader.exec_module(made)
    if not hasattr(made, "PART"):
        raise UserError(f"{path} has no PART", "end the file with PART = the class that is the part")
    return made


def part(kind: str, name: str) -> Any:
    """The class of a part."""
    return mathematics(kind, name).PART


def is_outside(kind: str, name: str) -> bool:
    """Whether a part is not of this repository."""
    return outside() is not None and (outside() / kind / f"{name}.py").exists()


@cache
def keys(kind: str, name: str) -> type | None:
    """The dataclass of a part's own keys.

    Raises:
        UserError: a key would change the hash of plans that do not use the part.
    """
    found = getattr(without_torch(kind, name), "Keys", None)
    for key in fields(found) if found and name not in FIRST else ():
        if not key.metadata.get("later"):
            raise UserError(f"{kind}.{name}.{key.name} has no mark", "write free(DEFAULT, later=True) of harness/plan/marks.py")
    return found


def sections(kind: str) -> list[tuple[str, type, Any]]:
    """The fields of a plan's section: one for each part of the kind that has keys."""
    having = [(name, made) for name in names(kind) if (made := keys(kind, name))]
    first = sorted(having, key=lambda pair: (pair[0] not in FIRST, FIRST.index(pair[0]) if pair[0] in FIRST else 0, pair[0]))
    return [(name, made, field(default_factory=made)) for name, made in first]


def section(kind: str, base: type = object) -> type:
    """A plan's section KIND: the fields of `base`, and one for each part of the kind that has keys."""
    made = make_dataclass(kind.capitalize(), sections(kind), bases=(base,))
    made.__module__ = "harness.plan.schema"
    return made


def chosen(plan: "Plan") -> list[tuple[str, str]]:
    """(kind, name) of the parts that a plan is made of."""
    having = {kind: kind != "router" or plan.model.num_experts > 0 for kind in KINDS}
    having["attention"] = having["memory"] = having["task"] = having["noise"] = False  # of which a plan names any number
    found = [("attention", name) for name in plan.model.attentions] + [("memory", name) for name in plan.model.memories]
    found += [("task", name) for name in plan.data.tasks] + [("noise", name) for name in plan.data.noise]
    having["transport"] = False  # whose `auto` is no part
    found += [(kind, attrgetter(key)(plan)) for kind, it in KINDS.items() if having[kind] for key in it.chosen_by]
    return list(dict.fromkeys([*found, ("transport", transport(plan.parallel))]))


def transport(parallel: "Parallel") -> str:
    """The part that carries rows to their experts."""
    return parallel.transport if parallel.transport != "auto" else "local" if parallel.ep == 1 else "all_to_all"


def in_one_process(parallel: "Parallel") -> bool:
    """Whether one process plays all ranks that the experts are spread over."""
    return transport(parallel) == "loopback"


def holders(parallel: "Parallel") -> int:
    """Over how many processes the experts are spread."""
    return 1 if in_one_process(parallel) else parallel.ep


def gives_heads(attention: str) -> bool:
    """Whether memories may act on the queries, keys and values of an attention's heads."""
    return getattr(without_torch("attention", attention), "GIVES_HEADS", False)


def clips(attention: str) -> bool:
    """Whether an attention's scores can be clipped by its weights (`optim.qk_clip`)."""
    return getattr(without_torch("attention", attention), "QK_CLIP", False)


def need_heads(plan: "Plan", what: str, remedy: str) -> None:
    """Raises: UserError where a layer's attention has no heads that `what` could act on."""
    for name in plan.model.attentions:
        if not gives_heads(name):
            giving = ", ".join(filter(gives_heads, names("attention")))
            raise UserError(
                f"{what} with the attention {name}, whose heads a memory does not reach (it reaches {giving})", remedy
            )


def keys_of(plan: "Plan", kind: str, name: str) -> Any:
    """A part's own keys as the plan has them; None of a part without."""
    return getattr(getattr(plan, kind), name, None)


def learning_rate(settings: dict[str, Any], group: str) -> tuple[str, float] | None:
    """(key, its default) of the rate of whatever updates a parameter group, in a plan by dotted keys; None where the optimizer
    has no `lr`, or is not known here."""
    name = settings["optim.matrices" if group in MATRICES else "optim.others"]
    usual = getattr(keys("optim", name), "lr", None)
    return None if usual is None else (f"optim.{name}.lr", usual)


def check(plan: "Plan") -> None:
    """Asks every part that the plan has chosen. Raises: UserError where one does not go with the rest of the plan."""
    for kind, name in chosen(plan):
        if rule := getattr(without_torch(kind, name), "check", None):
            rule(plan)
