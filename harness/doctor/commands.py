"""From something to try to the line to type: the run's own words, a checkpoint before the trouble, and the change.

The words are what its plan has that its lane has not. Every line is composed and checked before it is shown, so what this
checkout would refuse (a balancing rule that does not go with the router, say) is left out.
"""

import shlex
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from harness.doctor.finding import Finding, Try
from harness.doctor.patient import Patient
from harness.errors import UserError
from harness.plan.compose import compose
from harness.plan.fingerprint import flat
from harness.plan.lanes import RECIPES, lane_names
from harness.plan.words import word

OF_THE_LANE = ("track.", "lane.")  # chosen with lane=
NOT_AGAIN = ("fork", "seed", "run.stop_after_step")
CARRIED = ("dominant_expert", "dead_experts", "collapse", "balancing_fights")  # by a checkpoint from after they began


@dataclass(frozen=True)
class Command:
    """`step` of the checkpoint that it starts from, None where it starts anew."""

    why: str
    change: tuple[str, ...]
    line: str
    step: int | None


@dataclass(frozen=True)
class Commands:
    """What all findings of a run lead to: what has gone on in a layer is in its checkpoints since the first of its troubles."""

    run: Patient
    findings: list[Finding]

    @property
    def lane_is_here(self) -> bool:
        return self.run.settings["lane.name"] in lane_names()

    def of(self, finding: Finding) -> list[Command]:
        """In order; of several ways to do one thing the first two. A trouble without a beginning is in every checkpoint."""
        before = self._before(finding)
        made: list[Command] = []
        for attempt in finding.tries:
            command = self._command(attempt, before[-1] if before and attempt.from_checkpoint else None)
            if command is not None and sum(other.why == command.why for other in made) < 2:
                made.append(command)
        return made

    def no_fork(self, finding: Finding) -> str | None:
        """Why no command starts from a checkpoint, where the trouble began late enough for one."""
        began = self._began(finding)
        if began is None or began == 1 or self._before(finding):
            return None
        kept = ", ".join(map(str, self.run.checkpoints)) or "none"
        return (
            f"no checkpoint before step {began:,} is left (kept: {kept}); run.checkpoint_every_s and "
            "run.keep_checkpoints say how many there are"
        )

    def _before(self, finding: Finding) -> list[int]:
        began = self._began(finding)
        return [step for step in self.run.checkpoints if began is not None and step < began]

    def _began(self, finding: Finding) -> int | None:
        """The first step of any trouble in the layers of this one. An uneven start is none: a hot expert counts by itself."""
        shared = [f for f in self.findings if f.name in CARRIED and set(f.layers) & set(finding.layers)] or [finding]
        return min((f.since for f in shared if f.since is not None), default=None)

    def _command(self, attempt: Try, step: int | None) -> Command | None:
        words = _changed(self._words, attempt.words)
        seed = self.run.settings["seed"]
        if step is not None:
            words += [_word("fork", f"{self.run.folder}@{step}"), f"seed={seed + 1}"]
        elif seed != 1:
            words.append(f"seed={seed}")
        if not _composes(tuple(words)):
            return None
        return Command(attempt.why, attempt.words, shlex.join(["python", "-m", "harness", "speedrun", *words]), step)

    @cached_property
    def _words(self) -> list[str]:
        """lane=NAME, a balancing recipe where that says it shorter, and an override for every key in which the run's plan still
        differs from what these compose to."""
        lane = self.run.settings["lane.name"]
        if not self.lane_is_here:
            return [f"lane={lane}"]
        recipes = [(f"balance={path.stem}",) for path in sorted((RECIPES / "balance").glob("*.yaml"))]
        return min((self._told(lane, recipe) for recipe in [(), *recipes]), key=len)

    def _told(self, lane: str, recipe: tuple[str, ...]) -> list[str]:
        usual = _usual(lane, *recipe)
        differs = {key: value for key, value in self.run.settings.items() if key in usual and value != usual[key]}
        skipped = (*OF_THE_LANE, *NOT_AGAIN)
        words = [_word(key, value) for key, value in differs.items() if not key.startswith(skipped)]
        return [f"lane={lane}", *recipe, *words]


@cache
def _usual(lane: str, *recipe: str) -> dict[str, Any]:
    """{dotted key: value} of the lane with nothing changed but a recipe, which is left out where the two do not go together."""
    try:
        return flat(compose([f"lane={lane}", *recipe]).plan)
    except UserError:
        return flat(compose([f"lane={lane}"]).plan)


@cache
def _composes(words: tuple[str, ...]) -> bool:
    try:
        compose(words)
    except UserError:
        return False
    return True


def _changed(words: list[str], change: tuple[str, ...]) -> list[str]:
    """`words` with `change`, which replaces the keys it names; `balance=bias` replaces every balance.* word."""
    new = [word.partition("=")[0] for word in change]

    def stays(word: str) -> bool:
        key = word.partition("=")[0]
        return not any(key == name or key.startswith(f"{name}.") for name in new)

    return [word for word in words if stays(word)] + list(change)


def _word(key: str, value: Any) -> str:
    """As short as Hydra's grammar allows: most texts need no quotes."""
    plain = isinstance(value, str) and value.replace("/", "").replace("_", "").replace("-", "").replace("@", "").isalnum()
    return f"{key}={value}" if plain and value.isascii() else word(key, value)
