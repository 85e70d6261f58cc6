"""Building the kernels in C++ and loading them: once, whole, for the sources that are there, or with a reason why not."""

import os
import shutil
from functools import _lru_cache_wrapper

import processes
import pytest
import torch

from harness.train.machine import compiler_missing
from kernels.cpu.brgemm import calls, library

COMPILER = shutil.which(os.environ.get("CXX", "g++"))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A folder that nothing was built in, and nothing known of before or after."""

    def forget():
        for value in vars(library).values():
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled here"))
    forget()
    yield forget
    monkeypatch.undo()
    forget()


def built(tmp_path):
    return sorted(path.name for path in (tmp_path / "compiled here").iterdir())


def compiler(path, script):
    """One that does what `script` says, with `$GXX` for the real one."""
    path.write_text(f"#!/bin/sh\nGXX={COMPILER}\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.fixture
def quick(monkeypatch):
    """Compiles a tenth of the sources, without optimizing."""
    monkeypatch.setattr(library, "SOURCES", ("muon.cpp",))
    monkeypatch.setattr(library, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in library.FLAGS))


def test_they_run_wherever_this_machine_compiles():
    """Unless it says that they cannot: nothing else may keep them from a processor that they are for."""
    if not compiler_missing() and torch.backends.cpu.get_cpu_capability() in library.ISAS:
        assert library.missing() in ("", "torch has no brgemm for this processor")


@pytest.mark.parametrize("capability", ["DEFAULT", "NO AVX", "ZVECTOR"])
def test_another_instruction_set_is_named(fresh, monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert capability in library.missing() and "AVX512 or AVX2" in library.missing()


def test_another_processor_is_named(fresh, monkeypatch):
    monkeypatch.setattr(library.platform, "machine", lambda: "aarch64")
    assert "aarch64" in library.missing()


@pytest.mark.parametrize(
    "name, says", [("/bin/false", "/bin/false does not compile"), ("no-such-compiler", "no-such-compiler does not run")]
)
def test_a_compiler_that_is_none_is_named(fresh, monkeypatch, name, says):
    monkeypatch.setenv("CXX", name)
    assert says in library.missing()
    with pytest.raises(library.Unavailable, match=says):
        library.library()


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(fresh, monkeypatch, tmp_path):
    script = """
[ "$1" = --version ] && echo 1 && exit 0
while [ "$1" != -o ]; do shift; done
echo half > "$2"
echo "x.cpp:1: error: no tiles" >&2
exit 1"""
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", script))
    assert "x.cpp:1: error: no tiles" in library.missing()
    assert built(tmp_path) == []


def test_a_compiler_that_never_ends_is_given_up(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "SLOWEST_S", 0.2)
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", '[ "$1" = --version ] && echo 1 && exit 0\nexec sleep 20'))
    assert "does not run" in library.missing() and "timed out" in library.missing()
    assert built(tmp_path) == []


def test_a_folder_that_takes_no_file_is_named(fresh, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "a file" / "below"))
    assert str(tmp_path / "a file") in library.missing()


@pytest.mark.slow
def test_it_is_built_once_in_a_path_with_blanks_and_again_for_other_sources(fresh, monkeypatch, tmp_path, quick):
    sources = tmp_path / "the sources"
    shutil.copytree(library.HERE, sources)
    monkeypatch.setattr(library, "HERE", sources)
    assert library.missing() == ""
    (first,) = built(tmp_path)
    fresh()
    with monkeypatch.context() as without:
        without.setattr(library, "_build", None)
        assert library.missing() == "" and built(tmp_path) == [first]
    header = sources / "tiles.h"
    header.write_text(header.read_text() + "\n// other\n")
    fresh()
    assert library.missing() == ""
    assert first in built(tmp_path) and len(built(tmp_path)) == 2


def test_flags_compiler_and_torch_are_other_files(fresh, monkeypatch, tmp_path):
    digests = [library._digest()]
    for name, value in (("FLAGS", (*library.FLAGS, "-DX")), ("ISAS", {**library.ISAS, "AVX512": (), "AVX2": ()})):
        with monkeypatch.context() as changed:
            changed.setattr(library, name, value)
            fresh()
            digests.append(library._digest())
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "9.9")
        fresh()
        digests.append(library._digest())
    monkeypatch.setenv("CXX", compiler(tmp_path / "cxx", "echo another version"))
    fresh()
    digests.append(library._digest())
    assert len(set(digests)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"\x7fELF and no more", b"words"])
def test_a_damaged_file_is_built_again(fresh, tmp_path, quick, damage):
    path = library._folder() / f"brgemm-{library._digest()}.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert library.missing() == "" and path.stat().st_size > 1000
    assert built(tmp_path) == [path.name]


BUILDS = """
from kernels.cpu.brgemm import library
library.SOURCES, library.FLAGS = ("muon.cpp",), tuple("-O0" if flag == "-O3" else flag for flag in library.FLAGS)
assert library.missing() == "", library.missing()
"""


@pytest.mark.slow
@pytest.mark.process
def test_processes_that_build_at_once_all_load_and_leave_one_file(fresh, tmp_path):
    here = {"TORCHINDUCTOR_CACHE_DIR": os.environ["TORCHINDUCTOR_CACHE_DIR"]}
    ended = processes.run_together([here, here], BUILDS, timeout=120)
    assert [process.returncode for process in ended] == [0, 0], ended
    assert len(built(tmp_path)) == 1


def test_a_processor_without_products_of_bf16_refuses_native_and_says_what_to_use(monkeypatch):
    monkeypatch.setattr(calls, "multiplies_bf16", lambda: False)
    q = torch.zeros(1, 32, 1, 32, dtype=torch.bfloat16)
    with pytest.raises(library.Unavailable, match="'native'.*use 'emulated'"):
        calls.attention(q, q, q, "native")
    calls.attention(q.float(), q.float(), q.float(), "emulated")
