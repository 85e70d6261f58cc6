"""Prints text that a finished run's model writes.

usage: python -m harness sample RUN [--prompt TEXT] [--bytes N] [--temperature X] [--seed N]
       make sample RUN=runs/tiny-moe-16e/1-0123abcd PROMPT="The state of the Union"
"""

from pathlib import Path

from harness.errors import UserError
from harness.verbs.words import Words

SUMMARY = "text from a run's model"


def main(arguments: list[str]) -> int:
    parser = Words("sample")
    parser.add_argument("run")
    parser.add_argument("--prompt", default="Fellow-Citizens of the Senate and House of Representatives:\n")
    parser.add_argument("--bytes", type=int, default=400)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args(arguments)
    if not a.prompt or a.bytes < 1 or a.temperature < 0:
        raise UserError(
            f"prompt {a.prompt!r}, bytes {a.bytes}, temperature {a.temperature}", "a prompt, 1 byte or more, 0 or more"
        )
    from harness.verbs.run_model import load_run_model

    model = load_run_model(Path(a.run))
    text = continue_text(model, a.prompt.encode(), a.bytes, a.temperature, a.seed)
    print(text.decode("utf-8", errors="replace"))
    return 0


def continue_text(model, prompt: bytes, length: int, temperature: float, seed: int) -> bytes:
    """`prompt` and `length` more bytes, each drawn from the model given the last S bytes; temperature 0 takes the likeliest."""
    import torch

    from harness.keyed import generator

    draws = generator(seed, "sample").random(length)
    tokens = list(prompt)
    with torch.no_grad():
        for draw in draws:
            window = torch.tensor([tokens[-model.shape.sequence_length :]])
            logits = model.logits(window)[0, -1].double()
            if temperature == 0:
                tokens.append(int(logits.argmax()))
                continue
            cumulative = torch.softmax(logits / temperature, -1).cumsum(0)
            tokens.append(min(int(torch.searchsorted(cumulative, draw)), len(cumulative) - 1))
    return bytes(tokens)
