"""A clone and a cache whose paths have blanks, quotes and umlauts: compiled code is built there all the same."""

import os
import stat
import sys
from pathlib import Path

import micro
import pytest

from harness.train import compiler_paths
from harness.train.machine import compiler_missing

ODD = 'my clones\' "ü"'


@pytest.fixture
def plain_tmp(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler_paths.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"moe-speedrun-{os.getuid()}"


def test_a_path_without_blanks_is_left_alone(plain_tmp):
    assert compiler_paths.plain(Path("/a/ü/b")) == Path("/a/ü/b") and not plain_tmp.exists()


def test_a_link_without_blanks_leads_to_the_folder_and_is_made_once(plain_tmp, tmp_path):
    odd = tmp_path / ODD
    odd.mkdir()
    link = compiler_paths.plain(odd)
    assert not compiler_paths.SPLITS.search(str(link)) and link.resolve() == odd.resolve()
    assert compiler_paths.plain(odd) == link and stat.S_IMODE(plain_tmp.stat().st_mode) == 0o700


@pytest.mark.parametrize("how", ["writable by others", "a link"])
def test_no_link_is_made_where_somebody_else_could_turn_it(plain_tmp, tmp_path, how):
    (tmp_path / "real").mkdir()
    plain_tmp.symlink_to(tmp_path / "real") if how == "a link" else plain_tmp.mkdir()
    plain_tmp.chmod(0o777)
    assert compiler_paths.plain(tmp_path / ODD) == tmp_path / ODD


def test_a_folder_that_cannot_be_named_to_the_compiler_is_a_machine_without_one(plain_tmp, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/a b")
    assert compiler_missing() in ("no compiler that takes the path '/a b'", "no g++", "no Python.h")


# Without the header that Inductor compiles ahead for each path of torch: it takes most of the time, and would stay in the
# machine's folder of temporary files, 156 MB each time. Nor does it compile a file for every instruction set to see which the
# compiler knows: that takes most of the rest.
COMPILES = """
import os
os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
from harness.__main__ import set_environment
set_environment()
import torch
assert " " not in torch.__path__[0], torch.__path__
compiled = torch.compile(lambda x: x.sin() + x.cos(), options={"cpp_cache_precompile_headers": False})
print(compiled(torch.zeros(8)).sum().item())
"""


@pytest.mark.process
@pytest.mark.skipif(bool(compiler_missing()), reason="nothing is compiled here")
def test_torch_compiles_where_environment_and_cache_lie_below_a_folder_with_blanks(tmp_path):
    odd = tmp_path / ODD
    odd.mkdir()
    (odd / "site").symlink_to(next(entry for entry in sys.path if (Path(entry) / "torch").is_dir()))
    found = {"PYTHONPATH": f"{odd / 'site'}:{micro.ROOT}", "SPEEDRUN_CACHE": str(odd / "cache")}
    done = micro.python(COMPILES, TORCHINDUCTOR_VEC_ISA_OK="1", **found)
    assert done.returncode == 0 and done.stdout.strip() == "8.0", done.stderr[-2000:]
    assert list((odd / "cache").rglob("*.so"))
