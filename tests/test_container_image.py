"""The image: which engine builds it and what that is told, through fake engines; what the Containerfile says; its smoke run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_engines import COMMIT, ID, Fakes, after

from harness.container import __main__ as program
from harness.container import chroot, inside, smoke
from harness.container.build import build, this_tree
from harness.container.engine import ENGINES, Image, choose
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    return Fakes(tmp_path, monkeypatch)


def test_the_first_usable_engine_is_taken_in_the_order_podman_docker_buildah(fakes):
    fakes.add("buildah")
    assert choose(None).name == "buildah"
    fakes.add("docker")
    assert choose(None).name == "docker"
    fakes.add("podman")
    assert choose(None).name == "podman"


def test_a_client_without_its_daemon_is_passed_over(fakes):
    fakes.add("docker", usable=False)
    fakes.add("buildah")
    assert choose(None).name == "buildah"


def test_a_named_engine_is_taken_though_another_comes_first(fakes):
    fakes.add("podman")
    fakes.add("docker")
    assert choose("docker").name == "docker"


def test_without_any_engine_the_error_says_what_is_wrong_with_each(fakes, capsys):
    fakes.add("docker", usable=False)
    assert program.main(["build"]) == 2
    said = capsys.readouterr().err
    assert "podman: not installed" in said and "docker: cannot connect" in said and "make container-chroot" in said


@pytest.mark.parametrize("wanted, message", [("dokcer", "known: podman, docker, buildah"), ("podman", "podman: not installed")])
def test_an_engine_that_is_unknown_or_missing_is_an_error_though_another_is_there(fakes, wanted, message):
    fakes.add("docker")
    with pytest.raises(UserError, match=message):
        choose(wanted)


@pytest.mark.parametrize("name, verb", [("podman", "build"), ("docker", "build"), ("buildah", "bud")])
def test_the_build_is_told_the_tag_the_commit_and_the_callers_own_words(fakes, monkeypatch, capsys, tmp_path, name, verb):
    fakes.add(name)
    (tmp_path / "pip.conf").write_text("[global]\n")
    monkeypatch.setenv("PIP_CONF", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("BUILD_WITH", "--volume '/my wheels:/wheels:ro'")
    build(ENGINES[name], "localhost/base")
    (words,) = fakes.calls(name, verb)
    assert after(words, "--file") == ["Containerfile"] and after(words, "--tag") == ["moe-speedrun"] and words[-1] == "."
    assert set(after(words, "--build-arg")) == {"SPEEDRUN_COMMIT=unknown+dirty", "BASE=localhost/base"}
    assert after(words, "--secret") == [f"id=pip,src={tmp_path}/pip.conf"]
    assert after(words, "--volume") == ["/my wheels:/wheels:ro"]
    assert f"image: moe-speedrun sha256:{ID} ({name}, commit {COMMIT})" in capsys.readouterr().out


def test_the_commit_of_the_tree_and_its_dirty_flag_go_into_the_image(fakes, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    git = [shutil.which("git"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    Path("file").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert this_tree() == head
    Path("file").write_text("changed")
    assert this_tree() == f"{head}+dirty"


def test_a_pip_conf_that_is_not_there_is_an_error_before_anything_is_built(fakes, monkeypatch):
    fakes.add("podman")
    monkeypatch.setenv("PIP_CONF", "nowhere.conf")
    with pytest.raises(UserError, match="PIP_CONF=nowhere.conf is no file"):
        build(ENGINES["podman"], None)
    assert not fakes.calls("podman", "build")


def test_a_smoke_run_of_an_image_without_a_commit_fails(fakes, monkeypatch):
    fakes.add("podman")
    monkeypatch.setattr(smoke, "run", lambda *_: 0)
    monkeypatch.setattr(smoke, "records", iter([set(), {Path("x")}]).__next__)
    monkeypatch.setattr(smoke, "built", lambda _: Image(ID, {"SPEEDRUN_COMMIT": "unknown+dirty"}))
    assert program.main(["smoke"]) == 2


@pytest.mark.parametrize(
    "recorded, expected", [({}, 0), ({"container_image": "sha256:other"}, 2), ({"commit": "other"}, 2), (None, 2)]
)
def test_the_smoke_run_holds_only_if_its_record_names_image_and_commit(fakes, monkeypatch, recorded, expected):
    fakes.add("podman")

    def write_record(_, words):
        folder = Path("runs", "tiny-dense", "1-0")
        folder.mkdir(parents=True)
        if recorded is not None:
            provenance = {"container_image": f"sha256:{ID}", "commit": COMMIT, "dirty": False, **recorded}
            (folder / "record.json").write_text(json.dumps({"provenance": provenance}))
        return 0

    monkeypatch.setattr(smoke, "run", write_record)
    assert program.main(["smoke"]) == expected


def test_chroot_names_what_is_missing_and_starts_nothing(fakes):
    fakes.add("buildah")
    with pytest.raises(UserError, match="not installed: debootstrap"):
        chroot.chroot()
    assert not fakes.log.exists()


@pytest.mark.process
def test_it_runs_without_any_package():
    """-S leaves site-packages out: the module must work before anything is set up."""
    done = subprocess.run([sys.executable, "-S", "-m", "harness.container", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "make container" in done.stdout


def instructions():
    """[instruction, rest] of the Containerfile, continued lines joined."""
    lines = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def test_the_containerfile_installs_the_lock_before_the_source_is_copied():
    found = [f"{name} {rest}" for name, rest in instructions()]
    (install,) = [i for i, line in enumerate(found) if line.endswith("make setup")]
    copies = [line for line in found[:install] if line.startswith("COPY")]
    assert copies == ["COPY requirements.lock Makefile ./"] and "COPY . ." in found[install:]


def test_the_containerfile_ends_as_the_unprivileged_user_that_stands_in_for_root():
    users = [rest for name, rest in instructions() if name == "USER"]
    made = [rest for name, rest in instructions() if "useradd" in rest]
    assert users == ["runner"] and inside.RUNNER[0] != 0
    assert f"--uid {inside.RUNNER[0]} " in made[0] and " runner" in made[0]


def test_the_image_takes_neither_history_nor_runs_nor_environments():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".*-venv", "runs", "**/__pycache__"} <= set(ignored)
    assert not {"results", "lanes", "recipes", "kernels", "harness"} & set(ignored)
