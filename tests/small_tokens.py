"""Token tracks small enough for tests: a tokenizer of single bytes and a few pairs under GPT-2's name, and tiny corpora."""

import hashlib
import json
import lzma
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiktoken

from harness.data import tokenizer
from harness.data.corpora.documents import Corpus
from harness.plan.lanes import read_track
from harness.plan.schema import File, Track

END = 50256


@cache
def small_tokenizer() -> tokenizer.Tokenizer:
    pairs = (b"th", b"he", b"in", b" t")
    ranks = {bytes([i]): i for i in range(256)} | {pair: 256 + i for i, pair in enumerate(pairs)}
    ranks |= {b"\xff\xff" + i.to_bytes(2, "big"): i for i in range(len(ranks), END)}  # never made of text
    encoding = tiktoken.Encoding("small", pat_str=r" ?\S+|\s", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": END})
    token_bytes = np.zeros(END + 1, np.int64)
    for token, rank in ranks.items():
        token_bytes[rank] = len(token)
    return tokenizer.Tokenizer(encoding, END, token_bytes, "small")


@pytest.fixture(name="own_cache")
def own_cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a mirror of this test's own, and the small tokenizer."""
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPEEDRUN_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setitem(tokenizer.TOKENIZERS, "gpt2", small_tokenizer)
    monkeypatch.setattr("harness.data.corpora.documents.REBUILDERS", {})
    return tmp_path


def everywhere(monkeypatch: pytest.MonkeyPatch, track: Track) -> None:
    """Whoever asks for a track of documents gets the data of this one."""
    for name in ("load", "load_val"):
        real = getattr(Corpus, name)
        monkeypatch.setattr(Corpus, name, lambda wanted, *rest, real=real: real(replace(wanted, track=track), *rest))


def documents(seed: int, count: int, words: int = 60) -> list[str]:
    draws = np.random.default_rng(seed)
    known = ["the", "in", "then", "thin", "hé", "within", "others", "a", "tooth", "ink"]
    return [" ".join(draws.choice(known, int(draws.integers(1, words)))) + "\n" for _ in range(count)]


def write_jsonl(path: Path, texts: list[str]) -> tuple[str, str]:
    """(sha256 of the .xz file, sha256 of its text)."""
    lines = b"".join(json.dumps({"id": i, "text": text}, ensure_ascii=False).encode() + b"\n" for i, text in enumerate(texts))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(lines))
    return hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(lines).hexdigest()


def small_track(mirror: Path, train: list[list[str]], val: list[str]) -> Track:
    """Track `wiki` over these documents, one file of train for each list; the files lie in the mirror."""
    files, hashes = [], hashlib.sha256()
    for split, name, texts in (
        *(("train", f"text/train-{i}.jsonl.xz", t) for i, t in enumerate(train)),
        ("val", "text/val.jsonl.xz", val),
    ):
        files.append(File(split, name, *write_jsonl(mirror / name, texts)))
        hashes.update(files[-1].text_sha256.encode())
    whole = read_track("wiki")
    tokens = replace(whole.tokens, files=files, train_tokens=0, val_tokens=0, slice_tokens=150)
    sizes = {"train": sum(len(text.encode()) for texts in train for text in texts), "val": sum(len(t.encode()) for t in val)}
    return replace(
        whole, train_bytes=sizes["train"], val_bytes=sizes["val"], tokens=tokens,
        train_sha256=hashes.hexdigest(), val_sha256=files[-1].text_sha256,
    )  # fmt: skip
