"""A verb in the container, through fake engines: what each engine is told, and who owns what is written."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from fake_engines import COMMIT, ID, Fakes, after, as_user

from harness.container import inside
from harness.container.engine import ENGINES, Engine, waited
from harness.data.cache import cache_folder
from harness.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    return Fakes(tmp_path, monkeypatch)


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


def test_a_strangers_record_is_verified_inside_and_is_all_that_is_shown_besides(fakes, tmp_path):
    fakes.add("podman")
    record = tmp_path / "a stranger's" / "1-0123abcd"
    record.mkdir(parents=True)
    assert inside.run(ENGINES["podman"], ["verify", str(record), "steps=all"]) == 0
    (told,) = fakes.calls("podman", "run")
    assert told[-3:] == ["verify", "/record", "steps=all"] and after(told, "--network") == ["none"]
    assert f"{record}:/record" in after(told, "--volume")
    with pytest.raises(UserError, match="cannot be shown"):
        inside.run(ENGINES["podman"], ["verify", str(tmp_path / "nowhere")])


def test_ctrl_c_reaches_the_command_inside_alone_and_this_process_again_afterwards(fakes, monkeypatch):
    fakes.add("podman")
    before, during = signal.getsignal(signal.SIGINT), []
    monkeypatch.setattr(Engine, "run", lambda *_: during.append(signal.getsignal(signal.SIGINT)) or 0)
    inside.run(ENGINES["podman"], ["lanes"])
    assert during != [before] and during[0](signal.SIGINT, None) is None
    assert signal.getsignal(signal.SIGINT) == before


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
    (cache_folder() / "container").mkdir(parents=True)
    inside.run(ENGINES["podman"], ["lanes"])
    user = caller or 1000
    assert after(fakes.calls("podman", "run")[-1], "--user") == [f"{user}:{user}"]
    assert given[:3] == [("runs", user, user), ("old", user, user), ("container", user, user)]
    assert given[3:] == [("runs", caller, caller), ("old", caller, caller), ("container", caller, caller)]


def test_of_two_runs_at_once_the_last_to_end_gives_the_files_back(monkeypatch, tmp_path):
    given, runs = as_user(monkeypatch, 0), tmp_path / "runs"
    with inside.lent([runs], (1000, 1000), (7, 7)):
        with inside.lent([runs], (1000, 1000), (7, 7)):
            pass
        assert given[-1] == ("runs", 1000, 1000)  # what the first is still writing stays its own
    assert given[-1] == ("runs", 7, 7)


def test_folders_made_for_a_cache_belong_to_the_caller_and_a_file_that_vanishes_is_no_error(monkeypatch, tmp_path):
    given = as_user(monkeypatch, 0)
    with inside.lent([tmp_path / "new" / "container"], (1000, 1000), (7, 7)):
        assert ("new", 7, 7) in given and given[-1] == ("container", 1000, 1000)
        monkeypatch.setattr(inside.os, "chown", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError))


@pytest.mark.parametrize("words", [["test", "IN=container"], ["speedrun", "IN=contianer"]])
def test_make_refuses_what_would_run_on_the_host_instead(words):
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, env=outer, capture_output=True, text=True)
    assert done.returncode == 2 and "IN=" in done.stderr


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


def test_make_runs_a_verb_inside_and_sets_nothing_up_for_it():
    words = ["make", "--dry-run", "speedrun", "IN=container", "VENV=nowhere", "PYTHON=python3", "LANE=tiny-dense", "SET=a=1"]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of a `make test`
    done = subprocess.run(words, cwd=ROOT, env=outer, capture_output=True, text=True, check=True)
    assert done.stdout.split() == "python3 -m harness.container run speedrun lane=tiny-dense seed=1 a=1".split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_this_process_alone_reaches_the_engine_and_its_status_is_waited_for(tmp_path, number):
    begun = tmp_path / "begun"

    def send():
        while not begun.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    script = f"trap 'exit 7' TERM HUP; : > {begun}; while :; do sleep 0.05; done"
    assert waited(["/bin/sh", "-c", script]) == 7 and signal.getsignal(number) == signal.SIG_DFL
