"""Times a lane's training step against a fixed workload, and checks the scorer with a uniform model. Trains nothing.

usage: python -m harness probe [key=value ...] [out=FILE.json]
       make probe LANE=tiny-moe-16e

The ratio of the two times is what `gate` compares: both are taken in turns in one process, so that a machine that is busy or
throttled is so for both. The scorer must give a model that knows nothing exactly log2(vocabulary) bits per byte,
token or answer.
"""

import json

from harness.launch.options import PATH, Word, Words
from harness.record.documents import Probe, Timing, UniformScores

WORDS = Words("probe", Word("out", PATH), plan=True)
SUMMARY = "a lane's step against a fixed workload, and the scorer's own check"


def main(arguments: list[str]) -> int:
    from harness.plan.compose import compose
    from harness.plan.track import of_uniform

    own = WORDS.read(arguments)
    plan, out = compose(own.plan).plan, own.out
    found = probe(plan)
    timing, scores = found.timing, found.uniform
    low, high = timing.quartiles
    print(f"step      {1e3 * timing.step_s:,.1f} ms, the workload {1e3 * timing.reference_s:,.3f} ms")
    print(f"ratio     {timing.ratio:.2f} (median of {timing.rounds} rounds, quartiles {low:.2f} to {high:.2f})")
    if timing.taken:
        print(f"busy      others took {timing.taken:.0%} of the processor time: no verdict on speed rests on this")
    print(f"uniform   {scores.all:.7f} {of_uniform(plan.track.tokens.tokenizer)}, {scores.expected:g} expected")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found.content(), indent=1))
    return 0


def probe(plan) -> Probe:
    from harness.data.corpora import load_for
    from harness.evaluate.uniform import uniform_scores
    from harness.plan.fingerprint import plan_hash
    from harness.plan.steps import of_first_stage
    from harness.ranks import Ranks
    from harness.train import machine
    from harness.train.determinism import set_torch
    from harness.train.occupancy import look_alone
    from harness.train.reference import against_reference, reference
    from harness.train.session import Session

    set_torch()
    here, corpus, timed = machine.detect(plan), load_for(plan), of_first_stage(plan)
    session = Session(timed, here, Ranks(0, 1), corpus)
    steps = 0

    def step() -> None:
        nonlocal steps
        session.step(steps % timed.steps)
        steps += 1

    workload, look = reference(timed, here.torch_device), look_alone()
    timing = against_reference(step, workload, here.device, lambda: look.taken(here))
    return Probe(
        plan_hash=plan_hash(plan),
        hardware_class=here.hardware_class,
        timing=Timing(**timing.as_record()),
        uniform=UniformScores(
            **uniform_scores(session.model, corpus.val, session.scoring_tokens, corpus.token_bytes, corpus.answer_N)
        ),
    )
