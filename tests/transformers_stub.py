"""The four names of transformers that an exported modelling file imports, with as little behind them as its mathematics needs.

With the package itself the file is tested by `make referee`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import nn


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
def _in_place_of_transformers() -> Iterator[None]:
    library, outputs = ModuleType("transformers"), ModuleType("transformers.modeling_outputs")
    library.GenerationMixin, library.PretrainedConfig, library.PreTrainedModel = type("Mixin", (), {}), Config, Pretrained
    outputs.CausalLMOutput = SimpleNamespace
    stubs = {module.__name__: module for module in (library, outputs)}
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def modelling(path: Path) -> SimpleNamespace:
    """What an exported modelling file defines."""
    found: dict[str, Any] = {"__name__": "exported"}
    with _in_place_of_transformers():
        exec(compile(path.read_text(), str(path), "exec"), found)
    return SimpleNamespace(**found)
