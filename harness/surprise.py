"""What a choice tells of one label: the KL, in nats, of what is chosen under that label from what is chosen under any.

It is DeWeese and Meister's specific surprise (Network: Computation in Neural Systems 10, 1999); its mean over labels, weighted
by how often each is there, is the mutual information of choice and label.
"""

import numpy as np
from scipy.special import rel_entr


def surprise(table_EZ: np.ndarray) -> np.ndarray:
    """(..., Z) of each table (..., E, Z) of counts, choices by labels; NaN of a label that is not there."""
    with np.errstate(divide="ignore", invalid="ignore"):
        given_EZ = table_EZ / table_EZ.sum(-2, keepdims=True)
    any_E1 = table_EZ.sum(-1, keepdims=True) / table_EZ.sum((-2, -1), keepdims=True)
    return rel_entr(given_EZ, any_E1).sum(-2)
