"""Which file knows which: arrows between rooms point one way, and files stand in no circle.

Read off the syntax: an import within a function is an arrow too; one under TYPE_CHECKING is none.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import micro
import pytest

# A room and those that it may know, besides itself. `ground`: the files beside the rooms of harness/.
ROOMS = {
    "kernels": "",
    "ground": "",
    "plan": "ground",
    "data": "ground plan",
    "model": "ground plan kernels",
    "optim": "ground plan model kernels",
    "record": "ground plan",
    "evaluate": "ground plan data model kernels",
    "train": "ground plan data model optim record evaluate kernels",
    "bench": "ground plan data model record train kernels",
    "report": "ground plan record",
    "doctor": "ground plan record",
    "container": "ground plan data record",
    "export": "ground plan record",
    "launch": "ground plan data model record evaluate train report kernels",
    "verbs": "ground plan data model record evaluate train bench report doctor export launch kernels",
    "__main__": "ground train",  # verbs it imports by name
}
# The same for the wings of report/; `root`: the files beside them.
WINGS = {
    "root": "", "run": "root", "board": "root", "verify": "root", "study": "root", "compare": "root board",
    "gate": "root verify", "inspect": "root", "atlas": "root", "damage": "root atlas", "series": "root study", "search": "root",
}  # fmt: skip
DOCTORS_WORDS = "harness.doctor.commands"  # composes what it tells one to type
EXPORTED = "_moe_speedrun"  # ends the names of files that are copied to another folder, where they import each other
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
UNLIKE = re.compile(r"^Of |Errors:|Raises [A-Z]")


@cache
def files() -> dict[str, Path]:
    """{module: its file} of harness/ and kernels/."""
    found = {}
    for top in ("harness", "kernels"):
        for path in sorted((micro.ROOT / top).rglob("*.py")):
            found[".".join(path.relative_to(micro.ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def statements(node: ast.AST, inside: bool) -> Iterator[ast.AST]:
    """Everything below that is not under TYPE_CHECKING; with `inside`, of functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.Lambda) and not inside:
            continue
        yield child
        yield from statements(child, inside)


@cache
def imported(module: str, inside: bool = True) -> frozenset[str]:
    """What a module imports: ours by their name, others by their package. `inside`: also when a function is called."""
    found = set()
    for node in statements(ast.parse(files()[module].read_text()), inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level or module.endswith(EXPORTED), f"{module} has a relative import"
            source = f"{module.rpartition('.')[0]}.{node.module}" if node.level else node.module
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in files() else source for name in names}
    return frozenset(name if name in files() else name.partition(".")[0] for name in found) - {module}


def circles(arrows: Mapping[str, frozenset[str]]) -> list[set[str]]:
    """Sets of names that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            new = arrows.get(left.pop(), frozenset()) - seen
            seen |= new
            left += new
        return seen

    reach = {name: reached(name) for name in arrows}
    found = {
        frozenset(other for other in reach[name] if name in reach.get(other, ())) for name in arrows if name in reach[name]
    }
    return [set(circle) for circle in found]


def room_of(module: str) -> str:
    top, _, rest = module.partition(".")
    if top == "kernels":
        return top
    name = rest.partition(".")[0]
    return name if name in ROOMS else "ground"


def wing_of(module: str) -> str:
    name, dot, _ = module.removeprefix("harness.report").removeprefix(".").partition(".")
    return name if dot or name in WINGS else "root"


def test_files_stand_in_no_circle():
    found = circles({module: imported(module) for module in files()})
    assert found == []


@pytest.mark.parametrize("table", [ROOMS, WINGS], ids=["rooms", "wings"])
def test_the_tables_have_no_circle(table):
    found = circles({name: frozenset(known.split()) for name, known in table.items()})
    assert found == []


def test_every_room_knows_only_those_that_it_may():
    found = [
        f"{module} imports {other}"
        for module in files()
        for other in imported(module)
        if other in files() and room_of(other) not in (room_of(module), *ROOMS[room_of(module)].split())
    ]
    assert found == []


def test_every_wing_of_report_knows_only_those_that_it_may():
    ours = [module for module in files() if module.startswith("harness.report.")]
    found = [
        f"{module} imports {other}"
        for module in ours
        for other in imported(module)
        if other in ours and wing_of(other) not in (wing_of(module), *WINGS[wing_of(module)].split())
    ]
    assert found == []


@pytest.mark.parametrize("room", ["report", "doctor", "record"])
def test_a_room_of_records_never_reaches_torch_nor_what_composes_plans(room):
    """At import; report not even when it is used."""
    seen = {DOCTORS_WORDS}
    left = [module for module in files() if module not in seen and room_of(module) == room and "mlflow" not in module]
    while left:
        new = imported(left.pop(), inside=room == "report") - seen
        seen |= new
        left += [module for module in new if module in files()]
    assert "numpy" in seen and not seen & {"torch", "triton", "kernels", "safetensors.torch", "harness.plan.compose"}


def test_docstrings_say_what_is_raised_in_one_way_and_have_a_subject():
    found = []
    for module, path in files().items():
        nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, DOCUMENTED)]
        said = [ast.get_docstring(node) or "" for node in nodes]
        found += [f"{module}: {text}" for text in said if UNLIKE.search(text)]
    assert found == []


def test_an_arrow_is_seen_wherever_it_stands(tmp_path, monkeypatch):
    text = "import a.b\nif TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
    (tmp_path / "x.py").write_text(text)
    monkeypatch.setitem(files(), "x", tmp_path / "x.py")
    assert imported("x") == {"a", "d"} and imported("x", inside=False) == {"a"}
    assert circles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")}) == [{"b", "c"}]
