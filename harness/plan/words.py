"""Words of the command line: `key=value` in Hydra's grammar, read before Hydra sees them, and made from a plan.

What a word may do is a closed list. It chooses a lane, track or recipe of this repository, or it sets a key of the schema; a
sweep may also choose a launcher and a sweeper. Nothing else of Hydra's (search paths, callbacks, `_target_`, resolvers such as
`${oc.env:HOME}`) gets through, so that the words of a plan mean the same wherever and whenever they are typed.
"""

from functools import cache, lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from harness.errors import UserError, nearest
from harness.plan import lanes
from harness.plan.schema import RENAMED, walk

GROUPS = ("track", "optim", "schedule", "balance")  # whose files a word chooses, beside the lane
OPEN_KEYS = ("track.lines.", "track.milestones.")  # whose names the schema does not know
SWEEP_GROUPS = ("hydra/launcher", "hydra/sweeper")
SWEEP_KEYS = ("hydra.launcher.", "hydra.sweeper.", "hydra.sweep.dir")
TEXT = {key for key, f in walk() if f.type in (str, str | None)}
ONE_TEXT = (
    """quotes inside quotes make one text of a value: '{key}="a, b (c)"', in make SET="'{key}=\\"a, b (c)\\"'" """.rstrip()
)

ABSENT = {"parallel.tp": "tensor", "parallel.pp": "pipeline", "parallel.cp": "context"}


def known_words(overrides: list[str] | tuple[str, ...], sweeps: bool = False) -> list[str]:
    """The words as Hydra is given them: as they were typed, but for a text that its grammar does not take, a path with an
    umlaut say, which is quoted.

    Raises:
        UserError: an unknown lane, recipe or key, with the nearest name; several values or a plugin's words unless `sweeps`;
            a value that is not the same at every call.
    """
    return [_known(word, sweeps) for word in overrides]


@lru_cache(maxsize=1024)
def parsed(word: str) -> Override:
    """Raises: HydraException for a word that is none of Hydra's grammar."""
    return _parser().parse_override(word)


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()  # which lists the functions of the grammar: as long as reading a word takes


def names_a_file(override: Override) -> bool:
    """Whether a word chooses a lane, track or recipe; optim={clip_norm: 1.0} sets keys."""
    return override.key_or_group in ("lane", *GROUPS) and not isinstance(override.value(), dict)


def _known(word: str, sweeps: bool) -> str:
    lanes.refuse_computed(word, repr(word))
    word, override = _parsed(word)
    key = override.key_or_group
    if override.is_sweep_override() and not sweeps:
        raise UserError(f"{word!r} names several values", f"add --multirun to run them all; {ONE_TEXT.format(key=key)}")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        _known_plugin(word, key, sweeps)
    elif key in ("lane", *GROUPS) and override.is_sweep_override():
        pass  # every job looks at its own
    elif key == "lane":
        lanes.lane_file(str(override.value()))
    elif key in GROUPS and not override.is_delete():
        _known_choice(key, override.value())
    elif key in RENAMED:
        raise UserError(f"{key} is called {RENAMED[key]} now", f"write {word.replace(key, RENAMED[key])}")
    elif key in ABSENT:
        raise UserError(
            f"{key}: there is no {ABSENT[key]} parallelism here",
            "ranks share the batch as they are started; experts are spread over them by parallel.ep with parallel.sums=units",
        )
    elif key not in KEYS and key not in GROUPS and key not in SECTIONS and not key.startswith(OPEN_KEYS):
        raise UserError(f"unknown key {key!r}", nearest(key, KEYS | {"lane"}))
    return word


def _parsed(word: str) -> tuple[str, Override]:
    key, equals, value = word.partition("=")
    try:
        return word, parsed(word)
    except HydraException as error:
        if equals and key.lstrip("+") in TEXT and not value.startswith(("'", '"')):
            return _parsed(f"{key}={quoted(value)}")
        raise UserError(
            f"cannot read {word!r}: {str(error).splitlines()[0]}",
            f"write key=value, e.g. optim.muon.lr=0.01; {ONE_TEXT.format(key=key if equals else 'run.folder')}",
        ) from error


def _known_plugin(word: str, key: str, sweeps: bool) -> None:
    """A sweep's launcher and sweeper are the caller's affair: they start jobs, and every job composes its own plan."""
    group = any(key == name or key.startswith(f"{name}/") for name in SWEEP_GROUPS)
    if not group and not key.startswith(SWEEP_KEYS):
        raise UserError(
            f"unknown key {key!r}: a plan is made of the lanes, recipes and tracks of this repository alone",
            f"of Hydra's own keys --multirun takes {', '.join((*SWEEP_GROUPS, *SWEEP_KEYS))}",
        )
    if not sweeps:
        raise UserError(f"{word!r} is about sweeps", "add --multirun")


def _known_choice(group: str, choice: Any) -> None:
    folder = lanes.TRACKS if group == "track" else lanes.RECIPES / group
    known = [path.stem for path in folder.glob("*.yaml")]
    if choice not in known and not isinstance(choice, dict):  # optim={clip_norm: 1.0} sets keys, not a file
        raise UserError(f"unknown {group} {choice!r}", nearest(str(choice), known))


def _prefixes(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


KEYS = {key for key, _ in walk()}
SECTIONS = {part for key in KEYS for part in _prefixes(key)}


def quoted(text: str) -> str:
    """A text as Hydra's grammar takes it, whatever signs it has."""
    return QuotedString(text, Quote.double).with_quotes()


def word(key: str, value: Any) -> str:
    """The word that gives `key` this value: a text, number, truth value, None, or a list of them."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    assert value is None or isinstance(value, (bool, int, float)), value
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
