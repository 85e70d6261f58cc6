"""Token files of random tokens, in the published format: a step takes as long on them as on text, and nothing is fetched.

usage: python -m harness.bench.random_tokens FOLDER [TRAIN_TOKENS]
"""

import sys
from pathlib import Path

from harness.data.shards import write_shards
from harness.keyed import generator

VOCABULARY = 50_257  # GPT-2's
TRAIN_TOKENS, VAL_TOKENS = 1 << 24, 1 << 14


def write(folder: Path, train_tokens: int = TRAIN_TOKENS) -> Path:
    """train and val; returns the folder, for `data.shards`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train_tokens), ("val", VAL_TOKENS)):
        tokens = generator(1, "random tokens", split).integers(0, VOCABULARY - 1, count).astype("uint16")
        write_shards(folder, f"random_{split}", [tokens])
    return folder


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
