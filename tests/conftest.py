"""Settings that must hold before any test imports torch."""

import os

from harness.train.determinism import compiled_folder

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads than cores only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_folder()))  # where every verb keeps its compiled code

collect_ignore = ["referee"]  # needs packages of its own: `make referee` names the folder
