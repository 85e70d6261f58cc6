"""podman, docker and buildah: which is usable here, and how each is told the same thing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

TAG = "moe-speedrun"
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")  # where the container toolkit of a GPU describes it to podman
INSTALL = "install podman, docker or buildah; where none can run containers, `make container-chroot` builds with chroot"


@dataclass(frozen=True)
class Image:
    id: str  # sha256 of its configuration, 64 hex digits
    environment: dict[str, str]


@dataclass(frozen=True)
class Job:
    """One command in an image."""

    image: Image
    command: list[str]
    mounts: dict[Path, str]  # host folder -> `/inside`, or `/inside:ro`
    environment: dict[str, str]
    user: tuple[int, int]  # (user id, group id) on the host
    network: bool
    terminal: bool
    extra: list[str]  # further words of the caller for the engine


class Engine:
    """What podman and docker share."""

    name = ""
    build_verb = "build"

    def build(self, words: list[str]) -> None:
        """Builds the image in the working folder. Raises: UserError when the build fails; the engine has said why."""
        if subprocess.run([self.name, self.build_verb, "--file", "Containerfile", *words, "."]).returncode:
            raise UserError(f"{self.name} could not build the Containerfile", "the engine's own message is above")

    def image(self, tag: str = TAG) -> Image | None:
        """None where the engine has no image of that name."""
        found = self._ask("image", "inspect", tag)
        return None if found is None else _image(found[0]["Id"], found[0]["Config"])

    def run(self, job: Job) -> int:
        """The command's exit status."""
        words = [self.name, "run", "--rm", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
        words += ["--security-opt", "label=disable"]  # else SELinux hides the mounted folders
        words += _shared(job) + self._user(job.user) + self._gpu()
        words += [] if job.network else ["--network", "none"]
        words += ["--interactive", "--tty"] if job.terminal else []
        return waited([*words, *job.extra, job.image.id, *job.command])

    def missing(self) -> str:
        """Why it cannot be used here, or ""."""
        if not shutil.which(self.name):
            return "not installed"
        asked = subprocess.run([self.name, "info"], capture_output=True, text=True)
        return "" if asked.returncode == 0 else (asked.stderr.strip() or f"`{self.name} info` fails").splitlines()[-1]

    def _ask(self, *words: str):
        asked = subprocess.run([self.name, *words], capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else None

    def _user(self, user: tuple[int, int]) -> list[str]:
        raise NotImplementedError

    def _gpu(self) -> list[str]:
        raise NotImplementedError


class Podman(Engine):
    name = "podman"

    def _user(self, user: tuple[int, int]) -> list[str]:
        keep = ["--userns", "keep-id"] if os.geteuid() else []  # rootless: the caller's id is the same inside
        return [*keep, "--user", f"{user[0]}:{user[1]}"]

    def _gpu(self) -> list[str]:
        specifications = [path for folder in CDI_FOLDERS for path in Path(folder).glob("*")]
        offered = any("nvidia.com/gpu" in path.read_text() for path in specifications if path.is_file())
        return ["--device", "nvidia.com/gpu=all"] if offered else []


class Docker(Engine):
    name = "docker"

    def _user(self, user: tuple[int, int]) -> list[str]:
        # Without root, docker maps the caller to user 0 inside and nobody else to the caller.
        rootless = "rootless" in self._info("{{.SecurityOptions}}")
        return ["--user", "0:0" if rootless else f"{user[0]}:{user[1]}"]

    def _gpu(self) -> list[str]:
        return ["--gpus", "all"] if "nvidia" in self._info("{{.Runtimes}}") else []

    def _info(self, field: str) -> str:
        return subprocess.run([self.name, "info", "--format", field], capture_output=True, text=True).stdout


class Buildah(Engine):
    """Builds images, and runs a command in one where nothing else can: BUILDAH_ISOLATION=chroot needs no namespaces."""

    name = "buildah"
    build_verb = "bud"

    def image(self, tag: str = TAG) -> Image | None:
        found = self._ask("inspect", "--type", "image", tag)
        return None if found is None else _image(found["FromImageID"], found["OCIv1"]["config"])

    def run(self, job: Job) -> int:
        started = subprocess.run([self.name, "from", "--pull-never", job.image.id], stdout=subprocess.PIPE, text=True)
        if started.returncode:
            return started.returncode
        container = started.stdout.strip()
        words = [*self._isolated(job.network), *_shared(job), "--user", f"{job.user[0]}:{job.user[1]}"]
        words += ["--cap-drop", "all"] + (["--tty"] if job.terminal else [])
        try:
            return waited([*words, *job.extra, container, "--", *job.command])
        finally:
            subprocess.run([self.name, "rm", container], stdout=subprocess.DEVNULL)

    def _isolated(self, network: bool) -> list[str]:
        """The beginning of the command. Chroot isolation shares the host's network, so `unshare` takes it away."""
        run = [self.name, "run"]
        if network:
            return run
        if os.environ.get("BUILDAH_ISOLATION") != "chroot":
            return [*run, "--network", "none"]
        unshare = ["unshare", "--net"]
        if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            return [*unshare, *run]
        print("note: this machine cannot take the network away from a chroot; the command runs with it", flush=True)
        return run


def waited(words: list[str]) -> int:
    """The exit status of an engine that runs a command. Ctrl-C on a terminal reaches it by itself; SIGTERM and SIGHUP, which
    this process alone hears, are passed on to it."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    begun: list[subprocess.Popen] = []
    heard: list[int] = []  # before it had begun

    def pass_on(number: int, _frame: object) -> None:
        if begun:
            begun[0].send_signal(number)
        else:
            heard.append(number)

    before = {n: signal.signal(n, pass_on) for n in numbers}
    try:
        with subprocess.Popen(words) as process:
            begun.append(process)
            for number in heard:
                process.send_signal(number)
            return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Podman(), Docker(), Buildah())}


def choose(wanted: str | None) -> Engine:
    """The engine of this name, else the first that is usable. Raises: UserError that says what is wrong with each."""
    if wanted and wanted not in ENGINES:
        raise UserError(f"unknown engine {wanted!r}", f"known: {', '.join(ENGINES)}")
    reasons = {}
    for name in [wanted] if wanted else ENGINES:
        reasons[name] = ENGINES[name].missing()
        if not reasons[name]:
            return ENGINES[name]
    listed = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
    raise UserError(f"no container engine is usable here{listed}", INSTALL)


def _image(identity: str, configuration: dict) -> Image:
    # podman and buildah say the digits, docker sha256: before them
    pairs = (pair.partition("=") for pair in configuration.get("Env") or [])
    return Image(identity.removeprefix("sha256:"), {name: value for name, _, value in pairs})


def _shared(job: Job) -> list[str]:
    words = []
    for host, inside in job.mounts.items():
        words += ["--volume", f"{host}:{inside}"]
    for name, value in job.environment.items():
        words += ["--env", f"{name}={value}"]
    return words
