"""Eight faults, each a function that patches the running program the way a mistaken edit would change the code.

The plan, its hash and the record's own words stay what they were; only what the program does differs.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

LR_FACTOR, EXPERT_FACTOR, BYTES_FACTOR, TIME_FACTOR, MEMORY_SHARE = 3.0, 1.01, 1.01, 1.25, 0.30
REPEATED = 10  # the step, counted from 0, that trains on the batch of the one before


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replaces owner.name by `around(original, *arguments)`."""
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(lambda *args, **kwargs: around(original, *args, **kwargs)))


def learning_rate_x3() -> None:
    from harness.optim.optimizer import Optimizer

    _wrap(Optimizer, "step", lambda step, self, scale: step(self, LR_FACTOR * scale))


def balancing_off() -> None:
    from harness.train import session

    session.update_biases = lambda model, count_LE, rate: None


def routing_not_renormalized() -> None:
    """The chosen scores weigh as they are, instead of summing to 1."""
    import torch

    from harness.model.router.sigmoid_topk import SigmoidTopK

    def forward(original, self, x_TD, token_T):
        routing = original(self, x_TD, token_T)
        score_TE = torch.sigmoid(x_TD.float() @ self.weight)
        return routing._replace(weight_TK=score_TE.gather(1, routing.expert_TK))

    _wrap(SigmoidTopK, "forward", forward)


def one_expert_x1_01() -> None:
    """The output of expert 0 of every layer is 1% too large, in forward and backward."""
    import torch

    from harness.model import feedforward

    def moe_mlp(original, x_TD, up, down, expert_TK, weight_TK, **settings):
        return original(x_TD, up, down, expert_TK, torch.where(expert_TK == 0, EXPERT_FACTOR, 1.0) * weight_TK, **settings)

    _wrap(feedforward, "moe_mlp", moe_mlp)


def one_batch_repeated() -> None:
    from harness.data.batches import Batches

    _wrap(Batches, "batch", lambda batch, self, step, *ranks: batch(self, step - (step == REPEATED), *ranks))


def bytes_miscounted() -> None:
    """Bits per byte divides by 1% more bytes than were scored."""
    from harness.evaluate.bpb import Score

    def divided(bpb, *arguments):
        found = bpb(*arguments)
        return None if found is None else found / BYTES_FACTOR

    _wrap(Score, "bpb", divided)
    _wrap(Score, "bpb_where", divided)


def steps_slower() -> None:
    """Every step takes 25% longer."""
    from harness.train.session import Session

    def step(original, *arguments, **settings):
        start = time.perf_counter()
        result = original(*arguments, **settings)
        end = start + TIME_FACTOR * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return result

    _wrap(Session, "step", step)


def more_memory() -> None:
    """Training holds 30% more than what warm-up needed, which runs the same shapes; every page is touched."""
    import torch

    from harness.train.loop import Loop

    def run(original, self, stop):
        size = int(MEMORY_SHARE * self.peak_memory())
        self.hoard = torch.ones(size, dtype=torch.uint8, device=self.session.machine.torch_device)
        return original(self, stop)

    _wrap(Loop, "run", run)


FAULTS: dict[str, tuple[str, Callable[[], None]]] = {
    "learning-rate": ("learning rate x3", learning_rate_x3),
    "balancing": ("balancing off", balancing_off),
    "renormalization": ("routing weights not renormalized", routing_not_renormalized),
    "expert": ("one expert's output x1.01", one_expert_x1_01),
    "batch": ("one batch repeated", one_batch_repeated),
    "bytes": ("validation bytes miscounted by 1%", bytes_miscounted),
    "slow": ("steps 25% slower", steps_slower),
    "memory": ("30% more memory", more_memory),
}
NONE = "none"  # the program as it is: what the baseline and the clean reruns run
