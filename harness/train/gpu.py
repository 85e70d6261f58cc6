"""What nvidia-smi says of the GPU that a run is on: who else computes there, how busy it is, its clocks."""

import subprocess
import time

import torch

from harness.record.occupancy import GpuLook
from harness.train.machine import synchronize

TIMEOUT_S = 20
SETTLES_S = 1.2  # what nvidia-smi calls utilization is of the last second at most
FIGURES = ("utilization.gpu", "clocks.sm", "clocks.max.sm")


class NotSeen(Exception):
    """nvidia-smi is not here or does not say; the text says what."""


def look(own: int) -> GpuLook:
    """Waits until the run's own work no longer shows. `own`: how many of its processes compute on the GPU. In a container they
    may have other numbers than here, so they are counted, not recognized; where not even they are listed, utilization tells.

    Raises:
        NotSeen: nvidia-smi is not here, or says neither.
    """
    synchronize("cuda")
    time.sleep(SETTLES_S)
    of_gpu = [f"--id={_identity()}"]
    figures = _ask([*of_gpu, f"--query-gpu={','.join(FIGURES)}", "--format=csv,noheader,nounits"]).splitlines()
    known = dict(zip(FIGURES, (figures[0] if figures else "").split(",")))
    percent, clock, most = (_number(known.get(name, "")) for name in FIGURES)
    processes = _ask([*of_gpu, "--query-compute-apps=pid", "--format=csv,noheader"]).splitlines()
    listed = sum(line.strip().isdecimal() for line in processes)
    if percent is None and listed < own:
        raise NotSeen("nvidia-smi says neither what computes nor how busy the GPU is")
    found = {}
    if listed >= own:
        found["others"] = listed - own
    if percent is not None:
        found["utilization"] = min(1.0, percent / 100)
    found |= {name: value for name, value in (("clock_mhz", clock), ("most_clock_mhz", most)) if value}
    return GpuLook(**found)


def _identity() -> str:
    """The device in use, as nvidia-smi knows it: its own numbers are not those of CUDA_VISIBLE_DEVICES."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def _ask(words: list[str]) -> str:
    """Raises: NotSeen."""
    try:
        return subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    except FileNotFoundError as error:
        raise NotSeen("there is no nvidia-smi") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise NotSeen(f"nvidia-smi failed: {error}") from error


def _number(text: str) -> float | None:
    """None of "[N/A]" and the like."""
    try:
        return float(text)
    except ValueError:
        return None
