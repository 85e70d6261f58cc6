"""Linear probes: can the latent variable of a task be read off the stream by a multinomial logistic regression?

Fitted on the tokens of half of the instances, asked about the other half. Beside each stand, of the same tokens:
  untrained  the same probe on a model of the same plan with its first weights, where outputs that start at zero are drawn too
  shuffled   the same stream, the labels of the fit shuffled among its tokens
  token      no stream at all: the state that a token of this id mostly has in the fit
  control    the same stream, a random label for every token id, drawn as often as the states are (Hewitt and Liang,
             arXiv 1909.03368): how well such a probe learns by heart. Probe less control is its selectivity
A latent is said to be there, `above`, where the probe is above the first three. The control task says how much a probe of
this width could learn by heart, and `token` how much that would gain it: where ids are fewer than channels, any label of an id
can be learned, and the control is no bound for a state that ids do not tell.
"""

import warnings
from typing import Any

import numpy as np

from harness.data.draws import Draws
from harness.evaluate.inspect.intervals import Interval, by_instance, share
from harness.evaluate.inspect.sample import Sample
from harness.evaluate.inspect.seen import Seen

FIT_TOKENS = 2048  # at most
STEPS = 200  # of L-BFGS at most: a fit that is stopped there is one more regularized
BESIDE = ("untrained", "shuffled", "token", "control")
DECIDE = BESIDE[:3]


def probe(fit_NW: np.ndarray, label_N: np.ndarray, asked_MW: np.ndarray) -> np.ndarray:
    """The labels that a probe says of M streams, fitted to N. Channels are standardized by the fit."""
    from sklearn.exceptions import ConvergenceWarning  # takes a second, and not every sample is asked
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(label_N)) == 1:
        return np.full(len(asked_MW), label_N[0])
    centre_W, spread_W = fit_NW.mean(0), fit_NW.std(0)
    spread_W = np.where(spread_W > 1e-6 * spread_W.max(initial=0.0), spread_W, 1.0)
    fit, asked = ((x - centre_W) / spread_W for x in (fit_NW, asked_MW))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(max_iter=STEPS, tol=1e-3).fit(fit, label_N).predict(asked)


def by_token(fit_N: np.ndarray, label_N: np.ndarray, asked_M: np.ndarray) -> np.ndarray:
    """The most frequent label of each token id in the fit, the lowest of several; of all tokens for an id that is not there."""
    usual = int(np.bincount(label_N).argmax())
    of_id = {int(token): int(np.bincount(label_N[fit_N == token]).argmax()) for token in np.unique(fit_N)}
    return np.array([of_id.get(int(token), usual) for token in asked_M], np.int64)


def probes(sample: Sample, seen: Seen, untrained: Seen, among: int) -> list[dict[str, Any]]:
    """A row a depth; none of a task without latent states, or where half of the instances show but one."""
    probed, draws, instances = sample.probed, Draws(0, "inspect", "probes", sample.name), len(sample.token_BS)
    latent_N, token_N = probed.of(sample.latent_BS), probed.of(sample.token_BS)
    fitted_B = np.isin(np.arange(instances), draws.some(instances, instances // 2))
    of_fit = fitted_B[probed.row_N]
    fit, asked = np.flatnonzero(of_fit), np.flatnonzero(~of_fit)
    fit = fit[sorted(draws.some(len(fit), min(len(fit), FIT_TOKENS)))]
    if not len(asked) or len(np.unique(latent_N[fit])) < 2:
        return []
    row_M, truth_M, label_N = probed.row_N[asked], latent_N[asked], latent_N[fit]
    shuffled_N = label_N[draws.some(len(fit), len(fit))]
    label_of = {token: int(draws.one_of(label_N)) for token in np.unique(token_N).tolist()}
    random_N = np.array([label_of[token] for token in token_N.tolist()])

    def right(said_M: np.ndarray, wanted_M: np.ndarray = truth_M) -> Interval:
        made = by_instance(row_M, np.stack((said_M == wanted_M, np.ones(len(row_M))), 1).astype(np.float64), instances)
        made = made[~fitted_B]
        return share(made[:, 0], made[:, 1], among).at()

    token = right(by_token(token_N[fit], label_N, token_N[asked]))
    rows = []
    for depth, (x_NW, other_NW) in enumerate(zip(seen.probed_DNW, untrained.probed_DNW)):
        found = right(probe(x_NW[fit], label_N, x_NW[asked]))
        beside = {
            "untrained": right(probe(other_NW[fit], label_N, other_NW[asked])),
            "shuffled": right(probe(x_NW[fit], shuffled_N, x_NW[asked])),
            "token": token,
            "control": right(probe(x_NW[fit], random_N[fit], x_NW[asked]), random_N[asked]),
        }
        rows.append({
            "task": sample.name, "depth": depth, "states": len(np.unique(latent_N)), "tokens": len(asked),
            "accuracy": found.value, "interval": [found.low, found.high],
            **{name: [one.value, one.low, one.high] for name, one in beside.items()},
            "selectivity": found.value - beside["control"].value, "above": all(found.above(beside[name]) for name in DECIDE),
        })  # fmt: skip
    return rows
