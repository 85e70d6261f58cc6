"""Where the harness keeps what it fetched or computed once. Standard library only: `harness.container` mounts this folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """SPEEDRUN_CACHE, else ~/.cache/moe-speedrun. May not exist yet."""
    return Path(os.environ.get("SPEEDRUN_CACHE") or "~/.cache/moe-speedrun").expanduser()
