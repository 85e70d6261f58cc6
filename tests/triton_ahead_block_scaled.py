"""Compiles the kernels that take block scales for GPUs that have them, and prints what the assembler says. usage:
[architecture ...]"""

import json
import sys

from triton_ahead import SHAPE

from kernels import Arithmetic, Precision, Quantization
from kernels.triton.ahead import compiled, launches
from kernels.triton.blockscaled import FORMATS

KERNELS = ("up_kernel", "rows_kernel", "dh_kernel", "weight_gradient_kernel")

if __name__ == "__main__":
    found = {}
    for format in FORMATS:
        recorded = launches(Precision(Arithmetic.of("native"), Quantization.recipe(format)), "swiglu", *SHAPE, native=True)
        for target in [int(word) for word in sys.argv[1:]] or [100]:
            for kernel in KERNELS:
                kinds = {kind: compiled(*words, target) for kind, words in recorded[kernel].items()}
                found[f"{format} {kernel}, sm_{target}"] = kinds
    print(json.dumps(found))
