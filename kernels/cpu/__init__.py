"""The expert MLP on a CPU: contiguous segments of rows for each expert (`kernels.routing`), one GEMM each.

| file | holds |
|---|---|
| `expert_mlp` | the flow of forward and backward, written once for every precision, compiled or not |
| `products` | the products over operands, and the combine |
| `operands` | operands: plain, or quantized with the scales that their sums still need |
| `compiled` | torch.compile for functions of any number of rows |
| `prepared` | products that oneDNN builds before the clock starts |
"""
