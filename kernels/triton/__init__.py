"""The expert MLP on a GPU in Triton: gathers fused into the products, no float atomics, no host synchronization.

Nothing of size T*K*D is kept for the backward: `backward` gets x, the pre-activations h_RG, the
routing and the order of rows that it made, and recomputes the activation.

| step | kernel | reads | writes |
|---|---|---|---|
| metadata | `metadata.order`, `metadata.routes` (torch, and a kernel) | expert ids | rows by expert, tiles |
| up | `products.up_kernel` | x gathered by token, w_up | h_RG, weight * act(h) |
| down | `products.rows_kernel` | activation, w_down | rows_RD |
| combine | `products.combine_kernel` | rows_RD | y_TD, in the order of k, fp32 |
| dH | `products.dh_kernel` | dy gathered, w_down, h | dh_RG, weight * act(h), partials of dweight |
| dW | `weight_gradients.weight_gradient_kernel` | rows of each expert | one writer per tile, fp32 |
| dW of several units | `weight_gradients.fold_kernel` | rows of each expert and unit, totals | totals, one writer per tile |
| dX | `products.rows_kernel`, then combine | dh, w_up | dx_TD |

Below bf16 the same kernels read codes, which quantizers (`operands`, `quantizers`) make before them; `numbers` holds the
formats themselves.

A row's bits depend on its own token and its expert alone: every product sums over its whole inner dimension in one fixed
order, whatever the tile holds; in nvfp4 on the largest magnitude of each whole tensor too. So `units` takes the rows that
several units have in one call, with the bits of a call for each. Checked without a GPU by Triton's interpreter and its
ahead-of-time compiler (`tests/`).
"""

from kernels.triton.configuration import describe
from kernels.triton.expert_mlp import backward, forward, interpreted, key
from kernels.triton.metadata import Order
from kernels.triton.operands import kind

__all__ = ["Order", "backward", "describe", "forward", "interpreted", "key", "kind"]
