"""Triton's interpreter in less time, for scripts that run kernels in it: imported once TRITON_INTERPRET is set.

At every launch, and at every call of a device function within one, it puts itself into Triton's language and lists hundreds of
names for that: a fifth of all that these scripts compute. Here each list is made once, and what a launch calls finds the
language as the launch left it. Another fifth are sums and products of integers that it takes again in 64 bits, to compare them
with what 32 hold: nobody hears of the result, since assertions on a device are off in it.
"""

import inspect
from dataclasses import replace
from functools import cache

import triton.language as tl
from triton.runtime import interpreter

_whole = interpreter._patch_lang


@cache
def _builtins(package) -> tuple[str, ...]:
    return tuple(name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member))


def _patch_builtin(package, builder, scope) -> None:
    for name in _builtins(package):
        if tl.core.is_builtin(member := getattr(package, name)):  # else it is replaced already
            interpreter._patch_attr(package, name, member, builder, scope)


def _patch_lang(fn):
    seen = [package for package in (tl, tl.core) if any(value is package for value in fn.__globals__.values())]
    if seen and not any(tl.core.is_builtin(package.load) for package in seen):  # within a launch
        return interpreter._LangPatchScope()
    return _whole(fn)


interpreter._patch_builtin, interpreter._patch_lang = _patch_builtin, _patch_lang
_options = interpreter.interpreter_builder.options
assert not _options.debug
interpreter.interpreter_builder.options = replace(_options, sanitize_overflow=False)
