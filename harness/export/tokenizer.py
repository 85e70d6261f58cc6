"""The tokenizer of a run of bytes, as files of the tokenizers library: ids are bytes, and no two are ever merged."""

import json
from typing import Any


def byte_signs() -> list[str]:
    """The sign that stands for each byte in such files, by the library's rule: printable ones for themselves, the others in
    turn from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    signs, other = [], 0x100
    for byte in range(256):
        signs.append(chr(byte if byte in printable else other))
        other += byte not in printable
    return signs


def byte_tokenizer(context: int) -> dict[str, str]:
    """{file name: content}. `context`: tokens in the longest sequence of the model."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model: dict[str, Any] = {"type": "BPE", "vocab": {sign: byte for byte, sign in enumerate(byte_signs())}, "merges": []}
    absent = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    whole = {"version": "1.0", "added_tokens": [], **absent, "pre_tokenizer": level, "decoder": level, "model": model}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": json.dumps(whole, indent=1), "tokenizer_config.json": json.dumps(settings, indent=1)}
