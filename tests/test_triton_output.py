"""Answers of Triton's scripts are kept exactly as long as they hold."""

import json

import pytest
import triton_output

SCRIPT = """
import json
from pathlib import Path
import beside
runs = Path(__file__).parent / "runs"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
print("something said")
print(json.dumps({"found": beside.FOUND}))
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository with one kernel and one script, which loads a file beside it."""
    monkeypatch.setattr(triton_output, "ROOT", tmp_path)
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    for name, content in {"kernels/a.py": "", "tests/script.py": SCRIPT, "tests/beside.py": "FOUND = 1\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def ask(tree):
    """(answer, how often the script has run)"""
    triton_output.output.cache_clear()
    found = triton_output.output("script.py")["found"]
    return found, len((tree / "tests" / "runs").read_text())


def entry(tree):
    (path,) = (tree / "cache" / "tests").iterdir()
    return path


def test_an_answer_is_computed_once(tree):
    assert ask(tree) == (1, 1) and ask(tree) == (1, 1)


@pytest.mark.parametrize("name", ["kernels/a.py", "kernels/new.py", "kernels/table.json", "tests/beside.py", "tests/script.py"])
def test_a_file_that_it_rests_on_makes_it_stale(tree, name):
    ask(tree)
    path = tree / name
    path.write_text((path.read_text() if path.exists() else "") + "\n")
    assert ask(tree) == (1, 2)


def test_a_file_that_it_does_not_load_leaves_it(tree):
    ask(tree)
    (tree / "tests" / "other.py").write_text("")
    assert ask(tree) == (1, 1)


def test_another_version_makes_it_stale(tree, monkeypatch):
    ask(tree)
    monkeypatch.setattr(triton_output, "version", lambda name: "0.0")
    assert ask(tree) == (1, 2)


def test_a_file_that_is_gone_makes_it_stale(tree):
    (tree / "kernels" / "b.py").write_text("")
    ask(tree)
    (tree / "kernels" / "b.py").unlink()
    assert ask(tree) == (1, 2)


@pytest.mark.parametrize("damage", ["cut off", "edited", "no JSON", "another shape"])
def test_a_damaged_entry_is_computed_again(tree, damage):
    ask(tree)
    content = entry(tree).read_bytes()
    entry(tree).write_bytes(
        {
            "cut off": content[: len(content) // 2],
            "edited": content.replace(b'\\"found\\": 1', b'\\"found\\": 2'),
            "no JSON": b"\xff",
            "another shape": json.dumps([1]).encode(),
        }[damage]
    )
    assert entry(tree).read_bytes() != content and ask(tree) == (1, 2) == ask(tree)


def test_a_script_that_fails_leaves_nothing(tree):
    (tree / "tests" / "beside.py").write_text("raise ValueError('broken')\n")
    with pytest.raises(AssertionError, match="broken"):
        ask(tree)
    assert not (tree / "cache" / "tests").exists()
