"""Triton's interpreter in less time, for scripts that run kernels in it: imported once TRITON_INTERPRET is set.

At every launch, and at every call of a device function within one, it puts itself into Triton's language and lists hundreds of
names for that: a fifth of all that these scripts compute. Here each list is made once.
"""

import inspect
from functools import cache

import triton.language as tl
from triton.runtime import interpreter


@cache
def _builtins(package) -> tuple[str, ...]:
    return tuple(name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member))


def _patch_builtin(package, builder, scope) -> None:
    for name in _builtins(package):
        if tl.core.is_builtin(member := getattr(package, name)):  # else it is replaced already
            interpreter._patch_attr(package, name, member, builder, scope)


interpreter._patch_builtin = _patch_builtin
