"""A tiny CORE bundle of the published format with all three task types, and a tokenizer of bytes with a few merges."""

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import tiktoken
import yaml

from harness.data.tokenizer import Tokenizer

CHOICE = [
    {"query": f"Q{i}: what is {i}?", "choices": [f"the {i}", f"not the {i} at all", "other"], "gold": i % 3} for i in range(9)
]
SCHEMA = [
    {"context_options": [f"The cat {i}", f"The big dog {i}"], "continuation": f"ran to {i} and back", "gold": i % 2}
    for i in range(7)
]
LANGUAGE = [{"context": f"  say {i} then \n", "continuation": f"{i}{i}"} for i in range(8)]
TASKS = [  # label, file, shots, type, delimiter, baselines in percent (v1, v2)
    ("pick", "a/pick.jsonl", 2, "multiple_choice", "\nAnswer: ", ("40", "25")),
    ("pick_zeroshot", "a/pick.jsonl", 0, "multiple_choice", None, ("25", "25")),
    ("resolve", "a/resolve.jsonl", 1, "schema", None, ("50", "50")),
    ("finish", "b/finish.jsonl", 3, "language_modeling", None, ("0", "0")),
]
ROWS = {"a/pick.jsonl": CHOICE, "a/resolve.jsonl": SCHEMA, "b/finish.jsonl": LANGUAGE}


def files() -> dict[str, bytes]:
    """Every file of the bundle by its name below the root."""
    found = {f"eval_data/{name}": "".join(json.dumps(row) + "\n" for row in rows).encode() for name, rows in ROWS.items()}
    found["MANIFEST.json"] = manifest(found)
    entries = []
    for label, name, shots, kind, delimiter, _ in TASKS:
        entry = {"label": label, "dataset_uri": name, "num_fewshot": [shots], "icl_task_type": kind, "has_categories": True}
        entries.append(entry | ({} if delimiter is None else {"continuation_delimiter": delimiter}))
    found["core.yaml"] = yaml.safe_dump({"icl_tasks": entries}).encode()
    for version, name in enumerate(("eval_meta_data_v1.csv", "eval_meta_data.csv")):
        found[name] = table({task[0]: task[5][version] for task in TASKS})
    return found


def manifest(found: dict[str, bytes]) -> bytes:
    entries = []
    for label, name, *_ in TASKS:
        content = found[f"eval_data/{name}"]
        digest = hashlib.sha256(content).hexdigest()
        entries.append({"label": label, "file": name, "bytes": len(content), "sha256": digest})
    return json.dumps(entries).encode()


def table(percent: dict[str, str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["Eval Task", "Task Category", "Random baseline"])
    rows.writerows([label, "a category, with a comma", value] for label, value in percent.items())
    return text.getvalue().encode()


def archive(mirror: Path, found: dict[str, bytes], root: str = "core") -> str:
    """Writes `core/core.tar.xz` below a mirror; its sha256."""
    path = mirror / "core" / "core.tar.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as tar:
        for name, content in found.items():
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tokenizer() -> Tokenizer:
    """256 bytes, four merges and end-of-text. " t" reaches over the seam of the delimiter " ", and "11" is one token."""
    merges = [b" t", b" th", b"no", b"11"]
    ranks = {bytes([i]): i for i in range(256)} | {merge: 256 + i for i, merge in enumerate(merges)}
    end = len(ranks)
    words = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"
    encoding = tiktoken.Encoding("tiny", pat_str=words, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": end})
    sizes = np.array([len(token) for token in ranks] + [0])
    return Tokenizer(encoding, end, sizes, "tiny")
