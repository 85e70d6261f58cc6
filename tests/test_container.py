"""The container through fake engines on PATH: which one is taken, and what it is told. No engine is needed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.container import __main__ as program
from harness.container import chroot, engine, inside, smoke
from harness.container.build import build, this_tree
from harness.container.engine import ENGINES, choose
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
ID = "0123456789abcdef" * 4
COMMIT = "89abcdef" * 5
FAKE = """#!/bin/sh
line=${0##*/}
for word in "$@"; do line="$line\t$word"; done
echo "$line" >> "%(log)s"
case "$1" in
  info) [ "$2" = --format ] && echo "%(info)s"; [ %(usable)d = 1 ] || echo "cannot connect" >&2; [ %(usable)d = 1 ];;
  image|inspect) [ %(has_image)d = 1 ] && echo '%(image)s';;
  from) echo container-1;;
  run) exit %(status)d;;
esac
"""


class Fakes:
    """A PATH with nothing but what a test puts on it, and what was called."""

    def __init__(self, folder):
        self.bin, self.log = folder / "bin", folder / "log"
        self.bin.mkdir()

    def add(self, name, usable=True, info="", has_image=True, status=0):
        environment = [f"SPEEDRUN_COMMIT={COMMIT}", "PATH=/bin"]
        if name == "buildah":
            image = {"FromImageID": ID, "OCIv1": {"config": {"Env": environment}}}
        else:
            image = [{"Id": f"sha256:{ID}" if name == "docker" else ID, "Config": {"Env": environment}}]
        values = {"log": self.log, "info": info, "usable": usable, "has_image": has_image, "status": status}
        (self.bin / name).write_text(FAKE % {**values, "image": json.dumps(image)})
        (self.bin / name).chmod(0o755)

    def calls(self, name, *verb):
        lines = [line.split("\t") for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [words for words in lines if words[: 1 + len(verb)] == [name, *verb]]


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    found = Fakes(tmp_path)
    monkeypatch.setenv("PATH", str(found.bin))
    monkeypatch.setenv("SPEEDRUN_CACHE", str(tmp_path / "cache"))
    for name in ("ENGINE", "BASE", "PIP_CONF", "BUILD_WITH", "RUN_WITH", "SPEEDRUN_MIRROR", "BUILDAH_ISOLATION", "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(engine, "CDI_FOLDERS", (str(tmp_path / "cdi"),))
    (tmp_path / "tree").mkdir()
    monkeypatch.chdir(tmp_path / "tree")
    return found


def as_user(monkeypatch, user):
    """The caller's ids; root's right to give files away becomes a list of who was given which."""
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(os, "getgid", lambda: user)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_: given.append((Path(path).name, uid, gid)))
    return given


def after(words, flag):
    """The words that follow each appearance of a flag."""
    return [words[i + 1] for i, word in enumerate(words) if word == flag]


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


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_a_run_is_unprivileged_sees_runs_and_cache_and_states_the_image(fakes, monkeypatch, tmp_path, name):
    as_user(monkeypatch, 1234)
    fakes.add(name)
    assert inside.run(ENGINES[name], ["speedrun", "lane=tiny-dense", "run.folder=my runs"]) == 0
    (words,) = fakes.calls(name, "run")
    assert words[-7:] == [ID, "python", "-m", "harness", "speedrun", "lane=tiny-dense", "run.folder=my runs"]
    assert after(words, "--user") == ["1234:1234"] and after(words, "--cap-drop") == ["all"]
    assert after(words, "--volume") == [f"{tmp_path}/tree/runs:/speedrun/runs", f"{tmp_path}/cache/container:/cache"]
    assert after(words, "--env") == [f"SPEEDRUN_IMAGE=sha256:{ID}"]
    assert ("keep-id" in words) == (name == "podman")
    assert Path("runs").is_dir() and (tmp_path / "cache" / "container").is_dir()


@pytest.mark.parametrize(
    "words, network",
    [
        (["speedrun", "lane=tiny-moe-16e"], False),
        (["speedrun", "--multirun", "lane=tiny-dense,sotu-moe-256e", "seed=1,2"], False),
        (["speedrun", "lane=tiny-dense,wiki-s-dense"], True),
        (["speedrun", "lane=moe-64e"], True),
        (["prepare", "sotu"], False),
        (["prepare", "wiki"], True),
        (["plan", "lane=moe-64e"], False),
        (["lanes"], False),
    ],
)
def test_a_run_has_a_network_only_where_a_lane_has_data_to_fetch(fakes, words, network):
    fakes.add("podman")
    inside.run(ENGINES["podman"], words)
    (told,) = fakes.calls("podman", "run")
    assert after(told, "--network") == ([] if network else ["none"])


def test_the_gpu_is_given_where_the_runtime_offers_one_and_nowhere_else(fakes, tmp_path):
    fakes.add("podman")
    fakes.add("docker", info="map[runc]")
    for name in ("podman", "docker"):
        inside.run(ENGINES[name], ["lanes"])
        assert not {"--device", "--gpus"} & set(fakes.calls(name, "run")[-1])
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    fakes.add("docker", info="map[nvidia runc]")
    inside.run(ENGINES["podman"], ["lanes"])
    assert after(fakes.calls("podman", "run")[-1], "--device") == ["nvidia.com/gpu=all"]
    inside.run(ENGINES["docker"], ["lanes"])
    assert after(fakes.calls("docker", "run")[-1], "--gpus") == ["all"]


def test_docker_without_root_runs_as_its_user_0_who_is_the_caller(fakes, monkeypatch):
    as_user(monkeypatch, 1234)
    fakes.add("docker", info="[name=seccomp name=rootless]")
    inside.run(ENGINES["docker"], ["lanes"])
    assert after(fakes.calls("docker", "run")[-1], "--user") == ["0:0"]


def test_buildah_runs_in_a_container_that_is_removed_and_passes_the_status_on(fakes):
    fakes.add("buildah", status=3)
    assert inside.run(ENGINES["buildah"], ["speedrun", "lane=tiny-dense"]) == 3
    (told,) = fakes.calls("buildah", "run")
    assert after(told, "--network") == ["none"]
    assert told[told.index("--") - 1 :] == ["container-1", "--", "python", "-m", "harness", "speedrun", "lane=tiny-dense"]
    assert fakes.calls("buildah", "from")[0][-1] == ID and fakes.calls("buildah", "rm") == [["buildah", "rm", "container-1"]]


def test_chroot_isolation_loses_the_network_through_unshare_or_says_that_it_cannot(fakes, monkeypatch, capsys):
    monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
    fakes.add("buildah")
    inside.run(ENGINES["buildah"], ["lanes"])
    assert "cannot take the network away" in capsys.readouterr().out
    (fakes.bin / "unshare").write_text('#!/bin/sh\nshift\n[ "$1" = true ] || exec "$@" --without-network\n')
    (fakes.bin / "unshare").chmod(0o755)
    inside.run(ENGINES["buildah"], ["lanes"])
    assert "cannot" not in capsys.readouterr().out and fakes.calls("buildah", "run")[-1][-1] == "--without-network"


@pytest.mark.parametrize("sudo, caller", [(None, 0), ("1234", 1234)])
def test_root_runs_as_another_user_and_the_caller_owns_the_files_afterwards(fakes, monkeypatch, sudo, caller):
    given = as_user(monkeypatch, 0)
    if sudo:
        monkeypatch.setenv("SUDO_UID", sudo)
        monkeypatch.setenv("SUDO_GID", sudo)
    fakes.add("podman", status=1)
    Path("runs").mkdir()
    Path("runs", "old").write_text("")
    inside.run(ENGINES["podman"], ["lanes"])
    user = caller or 1000
    assert after(fakes.calls("podman", "run")[-1], "--user") == [f"{user}:{user}"]
    assert given[:3] == [("runs", user, user), ("old", user, user), ("container", user, user)]
    assert given[3:] == [("runs", caller, caller), ("old", caller, caller), ("container", caller, caller)]


@pytest.mark.parametrize("mirror, stated", [("https://example.org/data", "https://example.org/data"), ("mirror", "/mirror")])
def test_a_mirror_reaches_the_inside_as_an_address_or_as_a_mounted_folder(fakes, monkeypatch, tmp_path, mirror, stated):
    monkeypatch.setenv("SPEEDRUN_MIRROR", mirror)
    fakes.add("podman")
    inside.run(ENGINES["podman"], ["speedrun", "lane=wiki-dense"])
    (words,) = fakes.calls("podman", "run")
    assert f"SPEEDRUN_MIRROR={stated}" in after(words, "--env")
    assert (f"{tmp_path}/tree/mirror:/mirror:ro" in after(words, "--volume")) == (stated == "/mirror")


@pytest.mark.parametrize("words", [["submit", "runs"], []])
def test_a_verb_that_needs_more_of_the_host_does_not_run_inside(fakes, words):
    fakes.add("podman")
    with pytest.raises(UserError, match="does not run in the container"):
        inside.run(ENGINES["podman"], words)
    assert not fakes.calls("podman", "run")


def test_an_image_of_another_commit_is_said(fakes, capsys):
    fakes.add("podman")
    inside.run(ENGINES["podman"], ["lanes"])
    assert f"the image holds {COMMIT}, this tree is unknown+dirty" in capsys.readouterr().err


def test_a_missing_image_names_the_command_that_builds_it(fakes):
    fakes.add("docker", has_image=False)
    with pytest.raises(UserError, match="make container ENGINE=docker"):
        inside.run(ENGINES["docker"], ["lanes"])


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


def test_it_runs_without_any_package():
    """-S leaves site-packages out: the module must work before anything is set up."""
    done = subprocess.run([sys.executable, "-S", "-m", "harness.container", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "make container" in done.stdout


def test_make_runs_a_verb_inside_and_sets_nothing_up_for_it():
    words = ["make", "--dry-run", "speedrun", "IN=container", "VENV=nowhere", "PYTHON=python3", "LANE=tiny-dense", "SET=a=1"]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a `make test`
    done = subprocess.run(words, cwd=ROOT, env=outer, capture_output=True, text=True, check=True)
    assert done.stdout.split() == "python3 -m harness.container run speedrun lane=tiny-dense seed=1 a=1".split()


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
