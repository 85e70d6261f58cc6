"""GPT-2's byte-pair encoding, from its two published files, checked by hash before tiktoken sees them."""

import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from harness.data.artifact import fetch

_PUBLIC = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
# name below the mirror (as tiktoken caches it), public name, sha256
_VOCAB = (
    "tiktoken_cache/6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
    "vocab.bpe",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
_ENCODER = (
    "tiktoken_cache/6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
    "encoder.json",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

GPT2_VOCAB_SIZE = 50_257  # known without the files, so that a model of bytes is refused before they are fetched


@dataclass(frozen=True)
class Tokenizer:
    """`encode` never reads special tokens out of text; `token_bytes` int64 (vocab_size,): bytes of each token, 0 for specials;
    `hash` names the files it was made of."""

    encoding: tiktoken.Encoding
    end_of_text: int
    token_bytes: np.ndarray
    hash: str

    @property
    def vocab_size(self) -> int:
        return self.encoding.n_vocab

    def encode(self, text: str) -> list[int]:
        return self.encoding.encode_ordinary(text)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """As `encode`, on as many threads as there are cores."""
        return self.encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)

    def decode(self, tokens: list[int]) -> str:
        return self.encoding.decode(tokens, errors="replace")


@cache
def gpt2() -> Tokenizer:
    """50,257 tokens, end-of-text 50,256. Raises: UserError as `artifact.fetch`, when a file is missing or has another hash."""
    vocab, encoder = (fetch(name, sha, [_PUBLIC + public]) for name, public, sha in (_VOCAB, _ENCODER))
    ranks = data_gym_to_mergeable_bpe_ranks(str(vocab), str(encoder), _VOCAB[2], _ENCODER[2])
    end = len(ranks)
    assert end + 1 == GPT2_VOCAB_SIZE
    encoding = tiktoken.Encoding("gpt2", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": end})
    token_bytes = np.zeros(end + 1, np.int64)
    for token, rank in ranks.items():
        token_bytes[rank] = len(token)
    token_bytes.flags.writeable = False
    return Tokenizer(encoding, end, token_bytes, _VOCAB[2][:16] + _ENCODER[2][:16])


TOKENIZERS = {"gpt2": gpt2}
