"""A text of a few ids for what looks at routers token by token, and micro plans whose models read it."""

import micro
import numpy as np

from harness.evaluate.atlas.probe import Label, Probe
from harness.plan.compose import compose

WINDOWS, LENGTH, EXPERTS, K = 12, 32, 8, 2


def planned(*words):
    return compose([*micro.MOE, *words]).plan


def probe(seed=3):
    token_BS = np.random.default_rng(seed).integers(97, 107, size=(WINDOWS, LENGTH))
    row_N, place_N = (x.ravel() for x in np.indices(token_BS.shape))
    return Probe(token_BS, row_N, place_N, {"parity": Label(("even", "odd"), token_BS.ravel() % 2)})
