"""From words on the command line to a plan: recipe < lane < command line, composed by Hydra, typed, checked.

The order matters and is enforced: a recipe that sets a frozen key is an error wherever it stands, and the command line may
set one only together with `unranked=true`.
"""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from harness.errors import UserError
from harness.plan import lanes
from harness.plan.bounds import refuse_looser
from harness.plan.check import check
from harness.plan.schema import FIXED_IN_OPEN, FROZEN, Plan
from harness.plan.tasks import val_length
from harness.plan.track import TASKS
from harness.plan.words import GROUPS, known_words, names_a_file, parsed


@dataclass(frozen=True)
class Composed:
    """A plan with where it came from. `overrides`: the command line; `choices`: which file of each recipe group;
    `broken`: frozen keys that the command line changed, with the lane's value and the new one; `lane_tokens`: the budget that
    the lane's file states."""

    plan: Plan
    overrides: tuple[str, ...]
    choices: dict[str, str]
    broken: dict[str, tuple[Any, Any]]
    lane_tokens: int

    @property
    def cut(self) -> bool:
        """Whether an unranked budget is smaller than the lane's: then no more of val is scored than was trained on."""
        return self.plan.unranked and self.plan.budget.tokens < self.lane_tokens

    @property
    def scoring_cap(self) -> int | None:
        """How many tokens of val are scored at most; None for all of val, and so where val does not exceed what a plan asks for
        (`validation.tokens`), or a cut budget."""
        most = self.plan.validation.tokens or (self.plan.budget.tokens if self.cut else 0)
        if not most:
            return None
        cap, known = max(most, self.plan.model.sequence_length + 1), val_length(self.plan)
        return cap if known is None or cap < known else None

    @property
    def partial(self) -> bool:
        """Whether a part of val alone is scored, so that no figure of the track stands beside the run's. Where only files say
        how much val holds it may turn out to be whole: a record says what was."""
        return self.scoring_cap is not None

    @property
    def final(self) -> list[str]:
        """What of `track.tokens.final` is scored at the end. Its public test sets, CORE and WikiText, may take longer than a
        cut budget's training, so they are scored at the lane's budget alone; `evaluate` scores any run on them. A track's own
        tasks are scored wherever all of val is. What the command line itself asks for by that key is scored anyway."""
        final = self.plan.track.tokens.final
        if any(word.lstrip("+").startswith("track.tokens.final=") for word in self.overrides):
            return list(final)
        return [] if self.partial else [name for name in final if name == TASKS or not self.cut]


def compose(overrides: list[str] | tuple[str, ...]) -> Composed:
    """Composes and checks a plan. Raises: UserError for unknown names and keys, wrong types, frozen keys, impossible shapes."""
    words = known_words(overrides)
    lane = tuple(word for word in words if word.startswith("lane="))
    lanes.register(tuple(str(parsed(word).value()) for word in lane))
    frozen, lane_tokens = _stated_by(lane, lanes.RECIPES)
    node, choices = _of_words(tuple(words), lanes.RECIPES)
    for group, choice in choices.items():
        _refuse_frozen_recipe(lanes.RECIPES, group, choice)
    plan = _typed(node)
    broken = {key: (was, now) for key, was in frozen.items() if was != (now := OmegaConf.select(node, key))}
    if "lane.name" in broken:
        raise UserError(f"lane.name={plan.lane.name}: a lane has the name of its file", "choose a lane with lane=NAME")
    if broken and not plan.unranked:
        key, (was, now) = next(iter(broken.items()))
        raise UserError(
            f"lane {plan.lane.name} freezes {key}={was}, found {key}={now}",
            "add unranked=true to change what a lane fixes, or drop the override",
        )
    check(plan)
    refuse_looser(plan)
    if plan.unranked:
        _shorten(plan)
    return Composed(plan, tuple(overrides), dict(choices), broken, lane_tokens)


@lru_cache(maxsize=64)
def _of_words(words: tuple[str, ...], recipes: Path) -> tuple[DictConfig, dict[str, str]]:
    """What the command line makes of every key, and which files it chose: read, never changed.

    As Hydra has it, files come first wherever their words stand, and values follow in their order. Hydra reads and merges the
    files again for every plan, which takes most of its time: here once for those that are chosen together."""
    said = {word: parsed(word) for word in words}
    files = tuple(word for word in words if names_a_file(said[word]))
    node, choices = _of_files(files, recipes)
    if values := [said[word] for word in words if not names_a_file(said[word])]:
        node = pickle.loads(_packed(files, recipes))
        with _explained():
            ConfigLoaderImpl._apply_overrides_to_config(values, node)
    return node, choices


@cache
def _of_files(words: tuple[str, ...], recipes: Path) -> tuple[DictConfig, dict[str, str]]:
    """What the files that these words choose make of every key, with the recipes that lie there: read, never changed."""
    with _explained(), initialize_config_dir(str(recipes), version_base="1.3"):
        node = hydra_compose("plan", overrides=list(words), return_hydra_config=True)
    choices = {g: c for g, c in node.hydra.runtime.choices.items() if g in GROUPS}
    with open_dict(node):
        del node["hydra"]
    return node, choices


@cache
def _packed(words: tuple[str, ...], recipes: Path) -> bytes:
    """A node to be changed: unpacking one takes a fifth of copying it, which takes longest of all that a plan takes."""
    return pickle.dumps(_of_files(words, recipes)[0])


@cache
def _stated_by(lane: tuple[str, ...], recipes: Path) -> tuple[dict[str, Any], int]:
    """What a lane has for every key that it freezes, sorted by key, and its budget in tokens: read, never changed."""
    node, _ = _of_files(lane, recipes)
    frozen = FIXED_IN_OPEN if node.lane.open else FROZEN
    return {key: OmegaConf.select(node, key) for key in sorted(frozen)}, OmegaConf.select(node, "budget.tokens")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = error.__cause__ or error
        raise UserError(
            f"the plan does not compose: {str(cause).strip()}", "`python -m harness plan --help` shows the grammar"
        ) from error


def _typed(node: DictConfig) -> Plan:
    try:
        try:
            plan = OmegaConf.to_object(node)
        except MissingMandatoryValue as error:  # of one key: looking for all takes longer than all else here
            problem = f"the plan has no value for {', '.join(sorted(OmegaConf.missing_keys(node)))}"
            raise UserError(problem, "the lane file must set every frozen key") from error
    except OmegaConfBaseException as error:
        raise UserError(f"the plan does not resolve: {error}", "${key} refers to another key of the plan") from error
    assert isinstance(plan, Plan)
    return plan


def _shorten(plan: Plan) -> None:
    """A budget under one step shrinks the step, and micro-batches with it; validations past the end fall away. Stages share
    the budget that there is, and stay as large as they are."""
    if not plan.batch.stages:
        whole = plan.budget.tokens // plan.model.sequence_length * plan.model.sequence_length
        plan.batch.tokens_per_step = min(plan.batch.tokens_per_step, whole)
        plan.parallel.micro_batch_tokens = min(plan.parallel.micro_batch_tokens, plan.batch.tokens_per_step)
    last = plan.steps
    plan.validation.steps = [step for step in plan.validation.steps if step < last]


@cache
def _refuse_frozen_recipe(recipes: Path, group: str, choice: str) -> None:
    """A recipe may name its package (`# @package _global_`) and build on others of its group."""
    path = recipes / group / f"{choice}.yaml"
    if group == "track" or not path.exists():
        return
    content = lanes.read(path)
    for base in content.get("defaults", []):
        if isinstance(base, str):
            _refuse_frozen_recipe(recipes, group, base)
    header = re.match(r"\s*#\s*@package\s+(\S+)", path.read_text())
    package = header.group(1) if header else group
    prefix = "" if package == "_global_" else f"{group if package == '_group_' else package}."
    for key in _leaves(content, prefix):
        if any(key == frozen or key.startswith(f"{frozen}.") for frozen in FROZEN):
            raise UserError(f"recipe {group}/{choice}.yaml sets {key}, which the lane freezes", f"remove {key} from the recipe")


def _leaves(node: DictConfig, prefix: str) -> list[str]:
    keys = []
    for name in node:
        if name == "defaults":
            continue
        child = node._get_node(name)
        keys += _leaves(child, f"{prefix}{name}.") if isinstance(child, DictConfig) else [f"{prefix}{name}"]
    return keys
