"""Fake container engines on PATH: programs that write down what they are told and answer as podman, docker and buildah do."""

import json
import os
from pathlib import Path

from harness.container import engine

VARIABLES = ("ENGINE", "BASE", "PIP_CONF", "BUILD_WITH", "RUN_WITH", "SPEEDRUN_MIRROR", "BUILDAH_ISOLATION", "SUDO_UID")
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
    """An empty working folder and a PATH with nothing but what a test puts on it; remembers what was called."""

    def __init__(self, folder, monkeypatch):
        self.bin, self.log = folder / "bin", folder / "log"
        for made in (self.bin, folder / "tree"):
            made.mkdir()
        monkeypatch.chdir(folder / "tree")
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("SPEEDRUN_CACHE", str(folder / "cache"))
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(engine, "CDI_FOLDERS", (str(folder / "cdi"),))

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
