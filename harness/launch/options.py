"""One grammar for the words of every verb, and one voice for mistakes in them.

A verb declares its own words. Each may be written `name=value`, `--name value` or `--name=value`, a switch `--name`; what has
neither equals sign nor dashes is a name: a run, a lane, a folder. A verb that composes a plan leaves every other `key=value` to
Hydra's grammar (`harness/plan/words.py`). Of a word that is there twice the last one counts, as in a plan; a list stands once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.errors import UserError, nearest


@dataclass(frozen=True)
class Kind:
    """`read` makes the value of a text, or raises ValueError; `says` ends the sentence "NAME must be ..."; `known`: what may
    be chosen; `once`: it may not be there twice."""

    read: Callable[[str], Any]
    says: str
    known: tuple[str, ...] = ()
    once: bool = False


def _kept(read: Callable[[str], Any], holds: Callable[[Any], bool]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        value = read(text)
        if not holds(value):
            raise ValueError(text)
        return value

    return checked


def whole(least: int = 0) -> Kind:
    return Kind(_kept(int, lambda value: value >= least), f"a whole number of at least {least}")


def number(least: float) -> Kind:
    return Kind(_kept(float, lambda value: least <= value < float("inf")), f"a number of at least {least:g}")


def choice(*known: str) -> Kind:
    return Kind(_kept(str, known.__contains__), f"one of {', '.join(known)}", known)


def several(one: Kind, says: str) -> Kind:
    """Values of a kind, each once, with commas between them."""

    def read(text: str) -> list[Any]:
        values = [one.read(part) for part in text.split(",")]
        if len(set(values)) < len(values):
            raise ValueError(text)
        return values

    return Kind(read, says, one.known, once=True)


TEXT, PATH = Kind(str, "a text"), Kind(Path, "a path")
FOLDER = Kind(_kept(Path, Path.is_dir), "a folder")
SEEDS = several(whole(), "whole numbers, each once, in one list: seeds=1,2,3")
SWITCH = Kind(str, "nothing")


@dataclass(frozen=True)
class Word:
    """A word of a verb's own. `says`: what is allowed, where its kind does not say it well; `alone`: its value where none
    follows, if it may stand without one; `other`: another way to write a switch; `every`: a list of all that are there."""

    name: str
    kind: Kind
    default: Any = None
    says: str = ""
    alone: str | None = None
    other: str = ""
    every: bool = False

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Names:
    """Words without a name: what one of them is ("run folder"), how many, and in `remedy` what to type where one is wrong."""

    what: str
    kind: Kind = PATH
    least: int = 0
    most: int | None = None
    remedy: str = ""


class Words:
    """`Words("gate", Word("out", PATH), names=Names("run folder"), plan=True).read(arguments)`."""

    def __init__(self, verb: str, *words: Word, names: Names | None = None, plan: bool = False):
        self.verb, self.names, self.plan = verb, names, plan
        self.words = {word.name: word for word in words}
        self.spelled = {f"--{word.name}": word for word in words} | {word.other: word for word in words if word.other}
        self.help = f"python -m harness {verb} --help shows the words"

    def read(self, arguments: Sequence[str]) -> SimpleNamespace:
        """An attribute for each word of the verb (dashes as underscores), `names`, and `plan`: the words of the plan.

        Raises:
            UserError: a word that the verb does not know, a value of another kind, too few names or too many.
        """
        found = SimpleNamespace(**{word.key: [] if word.every else word.default for word in self.words.values()})
        found.names, found.plan, seen = [], [], set()
        left = list(arguments)
        while left:
            text = left.pop(0)
            name, equals, value = text.partition("=")
            word = self.spelled.get(name) or (self.words.get(name) if equals else None)
            if text == "--":
                found.names += [self._name(each) for each in left]
                left = []
            elif word is None:
                self._other(text, found)
            elif word.kind is SWITCH:
                if equals:
                    raise _wrong(text, f"--{word.name} takes no value")
                setattr(found, word.key, True)
            else:
                if word.kind.once and word.name in seen:
                    raise _wrong(f"{word.name} is there twice", word.kind.says)
                seen.add(word.name)
                taken = self._taken(word, name, value if equals else None, left)
                setattr(found, word.key, [*getattr(found, word.key), taken] if word.every else taken)
        self._count(found.names)
        return found

    def _taken(self, word: Word, name: str, value: str | None, left: list[str]) -> Any:
        """The value that was written with an equals sign, or that follows."""
        allowed, spelled = word.says or f"{word.name} must be {word.kind.says}", f"{name}={value}"
        if value is None:
            follows = bool(left) and left[0].partition("=")[0] not in self.spelled
            if word.alone is not None and not (follows and not left[0].startswith("-") and not self._own(left[0])):
                return word.alone
            value = left.pop(0) if follows else None
            spelled = name if value is None else f"{name} {value}"
        if value is None or not (value.strip() or word.kind is TEXT):
            raise _wrong(f"{spelled.strip()} has no value", f"{allowed}, or leave {name} out")
        try:
            return word.kind.read(value)
        except ValueError as error:
            close = get_close_matches(value, word.kind.known, n=1)
            raise _wrong(spelled, f"did you mean {close[0]}?" if close else "", allowed) from error

    def _own(self, text: str) -> bool:
        """Whether this is name=value of the verb's own."""
        name, equals, _ = text.partition("=")
        return bool(equals) and name in self.words

    def _other(self, text: str, found: SimpleNamespace) -> None:
        """A name, or a word of the plan."""
        key, equals, _ = text.partition("=")
        close = get_close_matches(key, self.words, n=1)
        meant = f"did you mean {close[0]}?" if close else ""
        if text.startswith("-") and text != "-":
            known = nearest(key, self.spelled) if self.spelled else ""
            raise _wrong(f"unknown word {text!r}", known, "write key=value" if self.plan else "", self.help)
        if equals and self.plan:
            if close and "." not in key and not _of_plan(key):
                raise _wrong(f"unknown key {key!r}", meant, self.help)
            found.plan.append(text)
        elif self.names is None and self.plan:
            found.plan.append(text)  # said to be no key=value where the plan is composed
        elif self.names is None or (equals and close and not Path(text).exists()):
            raise _wrong(f"unknown word {text!r}", meant, self.help)
        else:
            found.names.append(self._name(text))

    def _name(self, text: str) -> Any:
        if self.names is None:
            raise _wrong(f"unknown word {text!r}", self.help)
        try:
            return self.names.kind.read(text)
        except ValueError as error:
            is_no = "is neither key=value nor a" if self.plan else "is no"
            meant = nearest(text, self.names.kind.known) if self.names.kind.known else ""
            raise _wrong(f"{text} {is_no} {self.names.what}", meant, self.names.remedy or self.help) from error

    def _count(self, names: list[Any]) -> None:
        least, most = (self.names.least, self.names.most) if self.names else (0, None)
        if len(names) < least:
            raise _wrong(f"no {self.names.what} is named", self.names.remedy, self.help)
        if most is not None and len(names) > most:
            raise _wrong(f"unknown word {str(names[most])!r}", f"{most} {self.names.what} is enough; {self.help}")


def _wrong(problem: str, *remedy: str) -> UserError:
    return UserError(problem, "\n  ".join(filter(None, remedy)))


def _of_plan(key: str) -> bool:
    from harness.plan.words import GROUPS, KEYS, SECTIONS  # Hydra's grammar takes a moment to import

    return key.lstrip("+~") in {*KEYS, *SECTIONS, *GROUPS, "lane"}
