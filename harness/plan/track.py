"""The part of the schema that a track file fills: data, split, scoring, target."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from harness.plan.marks import frozen

TASKS = "tasks"  # the format and the tokenizer of tracks whose data are generated


def corpora(folder: Path = Path(__file__).parents[1] / "data" / "corpora") -> list[str]:
    """The kinds of corpora that no published format chooses."""
    return sorted({path.stem for path in folder.glob("[a-z]*.py")} - {"bytes", "documents", "stream"})


def scored(format: str) -> str:
    """What bits of val of a track with `tokens.format` are divided by: an answer of a task counts as one byte."""
    return "answer" if format == TASKS else "byte"


def measure(format: str) -> str:
    """What val of such a track is scored in, whatever `val_bpb` is called."""
    return f"bits per {scored(format)}"


def shortly(format: str) -> str:
    """`measure` where there is little room."""
    return "bits/answer" if format == TASKS else "bpb"


def nats(format: str) -> str:
    """What `slice_loss` and `val_loss` of such a track are in."""
    return "nats per answer" if format == TASKS else "nats per token"


def of_uniform(tokenizer: str) -> str:
    """What a model that knows nothing is scored in (harness/evaluate/uniform.py), where every token with bytes counts as one.
    `tokenizer`: the track's."""
    return measure(tokenizer) if tokenizer in ("", TASKS) else "bits per token"


@dataclass
class Line:
    """A classical compressor's bits per byte: on the first `slice_bytes` of val, and on all of val."""

    label: str = MISSING
    slice: float = MISSING
    val: float = MISSING


@dataclass
class Milestone:
    """A published figure that is no line on val's bits per byte."""

    label: str = MISSING
    metric: str = MISSING  # slice_loss (nats per token of the curve's slice) | wikitext_bpb
    value: float = MISSING
    source: str = MISSING


@dataclass
class File:
    """A file of a corpus. A name with {000002..000103} in it stands for as many files."""

    split: str = MISSING  # train | val
    name: str = MISSING  # below the mirror, and in the hub's repository
    sha256: str = ""  # of its bytes; "" where only the hub states it
    text_sha256: str = ""  # of what it decompresses to


@dataclass
class Source:
    """One of several texts that a track of bytes is made of."""

    corpus: str = MISSING  # a reader in harness/data/texts
    release: str = MISSING
    sha256: str = ""  # of the file it is read from; "" where an installed package holds it
    train_bytes: int = MISSING
    train_sha256: str = MISSING
    val_bytes: int = MISSING
    val_sha256: str = MISSING
    weight: float = 0.0  # of the sequences, unless data.weights says otherwise; none has one: each by its size


@dataclass
class Tokens:
    """What a track of tokens has and a track of bytes has not."""

    tokenizer: str = frozen("", later=True)  # gpt2 | tasks; "" is a track of bytes
    format: str = frozen("", among=("", "jsonl", "parquet", "bin", *corpora()), later=True)
    hub: str = frozen("", later=True)  # REPOSITORY@REVISION of the hub's data sets, where the files are fetched from
    files: list[File] = frozen([], later=True)
    train_tokens: int = frozen(0, later=True)  # of the stream, end-of-text included; 0: as many files as the budget reads
    val_tokens: int = frozen(0, later=True)  # the same; of a longer file, its first
    slice_tokens: int = frozen(0, later=True)  # the curve is scored on this much of val
    final: list[str] = frozen([], later=True)  # what is scored once, at the end: wikitext | core | tasks
    made_of: str = frozen("", later=True)  # of a track of tasks: what the val is made of whose hash it states (plan/tasks.py)


@dataclass
class Track:
    """Data, split, scoring and target. Never changes: a change is a new track."""

    name: str = frozen()
    corpus: str = frozen()  # for a track of bytes a reader in harness/data/texts
    release: str = frozen()  # which published release of the corpus
    train_bytes: int = frozen()  # of text; 0 where the files state none
    train_sha256: str = frozen()
    val_bytes: int = frozen()
    val_sha256: str = frozen()
    slice_bytes: int = frozen()  # of a track of bytes: the curve is scored on this much of val
    lines: dict[str, Line] = frozen({})
    target: str = frozen()  # the line or milestone to pass; "" is a fixed budget
    tokens: Tokens = field(default_factory=Tokens)
    milestones: dict[str, Milestone] = frozen({}, later=True)
    sources: dict[str, Source] = frozen(
        {}, later=True
    )  # of a track of bytes of several texts: train and val are theirs, joined

    @property
    def texts(self) -> dict[str, Source]:
        """What a track of bytes is made of, by name: its sources, or the one that it is itself."""
        alone = Source(self.corpus, self.release, "", self.train_bytes, self.train_sha256, self.val_bytes, self.val_sha256)
        return self.sources or {self.corpus: alone}

    @property
    def of_tasks(self) -> bool:
        """Whether its data are generated, and answers alone are scored."""
        return self.tokens.format == TASKS

    @property
    def unit(self) -> str:
        """What budgets and lengths of this track count."""
        return "tokens" if self.tokens.tokenizer else "bytes"

    @property
    def scored(self) -> str:
        return scored(self.tokens.format)

    @property
    def measure(self) -> str:
        """What val is scored in."""
        return measure(self.tokens.format)

    @property
    def shortly(self) -> str:
        return shortly(self.tokens.format)
