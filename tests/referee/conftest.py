"""A small random GPT-2 in a folder of the hub's layout, and WikiText's test split.

`make referee` needs SPEEDRUN_MIRROR for the test split. Nearly all of its time is the comparison with lm_eval, which scores
272,031 tokens twice over a vocabulary of 50,257: 14 minutes on two cores that others were using too.
"""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from harness.data.artifact import fetch
from harness.data.tokenizer import _ENCODER, _PUBLIC, _VOCAB
from harness.evaluate.wikitext import raw_text

CONTEXT = 128


def save_tokenizer(folder: Path) -> None:
    """GPT-2's two published files under the names that the hub gives them."""
    for (name, public, sha256), theirs in ((_ENCODER, "vocab.json"), (_VOCAB, "merges.txt")):
        shutil.copy(fetch(name, sha256, [_PUBLIC + public]), folder / theirs)


def save_gpt2(folder: Path, **changes) -> Path:
    """Weights ten times as large as GPT-2's: after the usual ones every token is about as likely as any other."""
    torch.manual_seed(0)
    shape = {"n_positions": CONTEXT, "n_embd": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.2} | changes
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Read only."""
    made = save_gpt2(tmp_path_factory.mktemp("gpt2"))
    save_tokenizer(made)
    return made


@pytest.fixture(scope="session")
def text() -> str:
    return raw_text()
