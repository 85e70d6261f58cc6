"""The four names of transformers that exported modelling files import, with as little behind them as their mathematics needs.

With the package itself the files are tested by `make referee`.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import nn

PACKAGE = "exported"


class Config:
    def __init__(self, **rest: Any):
        vars(self).update(rest)


class Pretrained(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def post_init(self) -> None:
        pass


@contextmanager
def _in_place_of_transformers(folder: Path) -> Iterator[None]:
    """The stubs, and a package PACKAGE of what is in the folder."""
    library, outputs, package = ModuleType("transformers"), ModuleType("transformers.modeling_outputs"), ModuleType(PACKAGE)
    library.GenerationMixin, library.PretrainedConfig, library.PreTrainedModel = type("Mixin", (), {}), Config, Pretrained
    outputs.CausalLMOutput = SimpleNamespace
    package.__path__ = [str(folder)]
    stubs = {module.__name__: module for module in (library, outputs, package)}
    before, wrote = {name: sys.modules.get(name) for name in stubs}, sys.dont_write_bytecode
    sys.modules.update(stubs)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote
        for name in [name for name in sys.modules if name in stubs or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if module is not None})


def modelling(path: Path) -> ModuleType:
    """An exported modelling file, with those beside it that it imports."""
    with _in_place_of_transformers(path.parent):
        return importlib.import_module(f"{PACKAGE}.{path.stem}")
