"""Kernels in C++ on ATen's brgemm, oneDNN's micro-kernel for small products: AMX, AVX512-BF16 or fp32 FMA.

| file | holds |
|---|---|
| `tiles.h` | operands, packing, exponentials: what the kernels share |
| `attention.cpp` | causal attention, forward and backward |
| `expert_mlp.cpp` | the expert MLP, forward and backward |
| `muon.cpp` | momentum, Newton-Schulz iteration and update of many matrices |
| `library` | builds and loads them, once for each state of the sources |
| `calls` | them as functions of tensors |
"""
