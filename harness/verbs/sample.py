"""Prints text that a finished run's model writes. A model of generated tasks knows none, and is refused.

usage: python -m harness sample RUN [--prompt TEXT] [--bytes N] [--temperature X] [--seed N]
       make sample RUN=runs/tiny-moe-16e/1-0123abcd PROMPT="The state of the Union"
"""

from types import SimpleNamespace

from harness.errors import UserError
from harness.launch.options import TEXT, Names, Word, Words, number, whole

WORDS = Words(
    "sample", Word("prompt", TEXT, "Fellow-Citizens of the Senate and House of Representatives:\n"),
    Word("bytes", whole(1), 400), Word("temperature", number(0), 0.7), Word("seed", whole(), 1),
    names=Names("run", least=1, most=1),
)  # fmt: skip
SUMMARY = "text from a run's model"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    if not own.prompt:
        raise UserError("--prompt has no value", "the model goes on from a text: name one, or leave --prompt out")
    from harness.launch.run_model import load_run_model, refuse_without_text
    from harness.plan.stored import read_plan

    (run,) = own.names
    model, plan = load_run_model(run), read_plan(run / "plan.yaml")
    refuse_without_text(str(run), plan)
    print(_written(plan.track.tokens.tokenizer, model, own))
    return 0


def _written(name: str, model, a: SimpleNamespace) -> str:
    """The prompt and what the model writes after it: `--bytes` bytes, or at least as many as tokens. `name`: of the tokenizer,
    "" of bytes."""
    if not name:
        return continue_text(model, a.prompt.encode(), a.bytes, a.temperature, a.seed).decode("utf-8", errors="replace")
    from harness.data.tokenizer import TOKENIZERS

    tokenizer = TOKENIZERS[name]()
    start = [tokenizer.end_of_text, *tokenizer.encode(a.prompt)]
    found = continue_tokens(model, start, a.bytes, a.temperature, a.seed, tokenizer.vocab_size)
    text, rest = tokenizer.decode(found[1 : len(start)]), tokenizer.decode(found[len(start) :]).encode()
    return text + rest[: a.bytes].decode("utf-8", errors="replace")


def continue_text(model, prompt: bytes, length: int, temperature: float, seed: int) -> bytes:
    """`continue_tokens` of a model of bytes."""
    return bytes(continue_tokens(model, list(prompt), length, temperature, seed, 256))


def continue_tokens(model, prompt: list[int], length: int, temperature: float, seed: int, vocab_size: int) -> list[int]:
    """`prompt` and `length` more tokens below `vocab_size`, each drawn from the model given the last S tokens; temperature 0
    takes the likeliest."""
    from harness.evaluate.writing import written
    from harness.keyed import generator

    draws = generator(seed, "sample").random(length)
    return [*prompt, *written(model, prompt, draws, temperature, vocab_size)]
