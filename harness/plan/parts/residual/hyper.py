"""Keys of hyper-connections; the mathematics: `harness/model/residual/hyper.py`."""

from dataclasses import dataclass

from harness.plan.marks import frozen


@dataclass
class Keys:
    streams: int = frozen(4, least=2, most=16, later=True)
    rounds: int = frozen(20, least=1, most=100, later=True)  # of Sinkhorn, each rows and columns
    # share of each row of the mixing matrix that starts outside of the diagonal
    stray: float = frozen(0.01, least=1e-8, most=0.9, later=True)
