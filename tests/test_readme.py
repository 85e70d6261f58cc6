"""README against the repository: what it tells a reader to type exists, what it links to is there, its tables are current."""

import re
import shlex
from pathlib import Path

import pytest

from harness.__main__ import VERBS
from harness.errors import UserError
from harness.plan.study import study_names
from harness.plan.words import known_words
from harness.report.compare.ranking import rank
from harness.report.compare.summary import summary_table
from harness.report.compare.text import rankings_text
from harness.report.groups import find_groups
from harness.verbs.compare import pair

README = Path("README.md").read_text()
TARGETS = set(" ".join(re.findall(r"^([a-z -]+):", Path("Makefile").read_text(), re.MULTILINE)).split())
TRAINING = ("speedrun", "plan", "prove", "gate", "gate-update", "probe")  # what follows them is a plan's


def commands(pattern: str) -> list[str]:
    """Every match in a code span or a block of code, one line each."""
    code = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```\n.*?```", "", README, flags=re.DOTALL))]
    lines = [line.strip() for block in code for line in block.splitlines()]
    return sorted({line for line in spans + lines if re.match(pattern, line)})


MAKE = commands(r"(sudo )?make [a-z]")
PYTHON = commands(r"python -m harness [a-z]")


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def refuse_unknown(overrides: list[str]) -> None:
    plain = [word for word in overrides if "=" in word and not word.startswith(("fork=", "seeds=", "steps=", "rounds="))]
    known_words(plain, sweeps="--multirun" in overrides)


@pytest.mark.parametrize("command", MAKE)
def test_a_make_command_names_a_target_a_lane_a_study_and_keys_that_exist(command):
    words = words_of(command.removeprefix("sudo "))
    target = words[1]
    assert target in TARGETS
    given = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    assert given.get("NAME", study_names()[0]) in [*study_names(), "..."]
    known_words([f"lane={given['LANE']}"] if "LANE" in given else [])
    if target in TRAINING:
        refuse_unknown(given.get("SET", "").split())


@pytest.mark.parametrize("command", PYTHON)
def test_a_python_command_names_a_verb_and_keys_that_exist(command):
    words = words_of(command)
    assert words[3] in VERBS or words[3] == "<verb>"
    if words[3] in TRAINING:
        refuse_unknown(words[4:])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_a_link_leads_somewhere(link):
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    assert link.startswith("https://") or link.removeprefix("#") in headings or Path(link).exists()


def test_the_table_of_results_is_what_show_prints_of_the_committed_records():
    assert summary_table(find_groups([Path("results")]).ranked) in README


COMPARED = re.findall(r"`(make compare [^`]+)`[^`]*:\n\n```\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("command, block", COMPARED, ids=[command for command, _ in COMPARED])
def test_a_comparison_is_what_compare_prints_of_the_committed_records(command, block):
    given = dict(word.split("=", 1) for word in words_of(command)[2:])
    a, b = pair(given["A"], given["B"], given.get("SET", "").removeprefix("--hardware "))
    assert rankings_text(rank(a, b)) in block


def test_two_comparisons_are_shown():
    assert len(COMPARED) == 2


@pytest.mark.parametrize("word, error", [("optim.muon.rate=1", "unknown key"), ("lane=tiny-mo", "tiny-mo")])
def test_these_checks_would_find_a_stale_word(word, error):
    with pytest.raises(UserError, match=error):
        known_words([word])
