"""As `triton_ahead.py`, the kernels below bf16, SwiGLU: in each format's recipe, and with a dial turned that makes kernels of
its own. usage: [architecture ...]"""

import json
import sys
from dataclasses import replace

from triton_ahead import SHAPE
from triton_quantized_cases import DIALLED, KERNELS

from kernels import Arithmetic, Precision, Quantization
from kernels.triton.ahead import compiled, launches

if __name__ == "__main__":
    found = {}
    for name, kernels in KERNELS.items():
        dials = replace(Quantization.recipe(name.split()[0]), **DIALLED.get(name, {}))
        recorded = launches(Precision(Arithmetic.of("native"), dials), "swiglu", *SHAPE)
        for target in [int(word) for word in sys.argv[1:]] or [90]:
            for kernel in kernels:
                kinds = {kind: compiled(*words, target) for kind, words in recorded[kernel].items()}
                found[f"{name} {kernel}, sm_{target}"] = kinds
    print(json.dumps(found))
