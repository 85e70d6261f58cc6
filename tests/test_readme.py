"""Every README against the repository: what it tells a reader to type exists, what it links to is there, and what somebody who
comes for the first time looks for is two clicks away."""

import re
import shlex

import micro
import pytest
from pages import PAGES, anchors, commands, links, name, target, text

from harness.__main__ import VERBS
from harness.errors import UserError
from harness.plan.series import series_names
from harness.plan.space import space_names
from harness.plan.study import study_names
from harness.plan.words import known_words

README, RESULTS = micro.ROOT / "README.md", micro.ROOT / "results" / "README.md"
MAKEFILE = (micro.ROOT / "Makefile").read_text().replace("\\\n", " ")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
TARGETS |= {name for names in re.findall(r"^VERBS := (.*)$", MAKEFILE, re.MULTILINE) for name in names.split()}
TRAINING = ("speedrun", "plan", "prove", "gate", "gate-update", "probe")  # what follows them is a plan's
LOOKED_FOR = {
    "a lane": "lanes/README.md#lanes-that-a-cpu-trains",
    "a result": "results/README.md#the-records-so-far",
    "a reproduction": "results/README.md#reproduce-a-result",
    "how to add something": "harness/README.md#how-to-add-a-part",
}
MAKE = [(page, command) for page in PAGES for command in commands(page, r"(sudo )?make [a-z]")]
PYTHON = [(page, command) for page in PAGES for command in commands(page, r"python -m harness [a-z<]")]
LINKS = [(page, link) for page in PAGES for link in links(page) if not link.startswith("https://")]


def told(pairs):
    return [f"{name(page)}: {said}" for page, said in pairs]


def words_of(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def refuse_unknown(overrides: list[str]) -> None:
    plain = [word for word in overrides if "=" in word and not word.startswith(("fork=", "seeds=", "steps=", "rounds="))]
    known_words(plain, sweeps="--multirun" in overrides)


@pytest.mark.parametrize("page, command", MAKE, ids=told(MAKE))
def test_a_make_command_names_a_target_a_lane_a_study_and_keys_that_exist(page, command):
    words = words_of(command.removeprefix("sudo "))
    assert words[1] in TARGETS
    given = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    known = {"series": series_names(), "search": space_names(), "confirm": space_names()}.get(words[1], study_names())
    assert given.get("NAME", known[0]) in [*known, "..."]
    known_words([f"lane={given['LANE']}"] if given.get("LANE", "NAME") != "NAME" else [])
    if words[1] in TRAINING and given.get("SET") != "GROUP=NAME":
        refuse_unknown(given.get("SET", "").split())


@pytest.mark.parametrize("page, command", PYTHON, ids=told(PYTHON))
def test_a_python_command_names_a_verb_and_keys_that_exist(page, command):
    words = words_of(command)
    assert words[3] in VERBS or words[3] == "<verb>"
    if words[3] in TRAINING:
        refuse_unknown(words[4:])


@pytest.mark.parametrize("page, link", LINKS, ids=told(LINKS))
def test_a_link_leads_somewhere(page, link):
    there, anchor = target(page, link)
    assert there.exists()
    assert not anchor or anchor in anchors(there)


@pytest.mark.parametrize("wanted", LOOKED_FOR)
def test_what_a_newcomer_looks_for_is_two_clicks_away(wanted):
    place, anchor = LOOKED_FOR[wanted].split("#")
    reached, front = set(), {README}
    for _ in range(2):
        clicked = {target(page, link) for page, link in LINKS if page in front}
        reached |= clicked
        front = {there for there, _ in clicked}
    assert (micro.ROOT / place, anchor) in reached and anchor in anchors(micro.ROOT / place)


@pytest.mark.parametrize("called", sorted(TARGETS))
def test_every_make_target_is_explained_on_some_page(called):
    assert any(words_of(command.removeprefix("sudo "))[1] == called for _, command in MAKE)


def test_readme_fits_on_three_screens_and_names_every_room():
    assert len(text(README).splitlines()) <= 150
    kept_out = {line.rstrip("/") for line in (micro.ROOT / ".gitignore").read_text().splitlines()}
    rooms = {path.name for path in micro.ROOT.iterdir() if path.is_dir()} - kept_out
    named = set(re.findall(r"^\| \[`([^`/]+)/`\]", text(README), re.MULTILINE))
    assert {room for room in rooms if not room.startswith(".") and not room.endswith(".egg-info")} == named


def test_the_figures_of_the_answer_are_those_of_the_tables_of_results():
    answer = text(README).split("\n\n")[1]
    figures = re.findall(r"\d+\.\d+", answer)
    assert len(figures) >= 4 and all(re.search(rf"\b{re.escape(figure)}\b|{figure}x", text(RESULTS)) for figure in figures)


def test_the_tables_of_results_are_printed_by_commands_and_none_is_pasted():
    printed = re.findall(r"<!-- printed by `make (\w+) ([^`]*)` -->\n.+?\n<!-- end -->", text(RESULTS), re.DOTALL)
    assert ("show", "RUN=results") in printed and sum(verb == "compare" for verb, _ in printed) >= 2
    by_hand = re.sub(r"<!-- printed by `.*?<!-- end -->", "", text(RESULTS), flags=re.DOTALL)
    assert "Slice bpb under each" not in by_hand and "Hardware class:" not in by_hand and "ms/step" not in by_hand


@pytest.mark.parametrize("word, error", [("optim.muon.rate=1", "unknown key"), ("lane=tiny-mo", "tiny-mo")])
def test_these_checks_would_find_a_stale_word(word, error):
    with pytest.raises(UserError, match=error):
        known_words([word])


def test_these_checks_would_find_a_stale_link():
    assert "no-such-place" not in anchors(README) and "where-to-go" in anchors(README)
    assert not target(README, "harness/no-such-file.py")[0].exists()
    assert target(RESULTS, "../lanes")[0] == micro.ROOT / "lanes" / "README.md"
