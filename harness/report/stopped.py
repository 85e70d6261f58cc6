"""`stopped.json`: what health saw when it stopped a run."""

import json
from pathlib import Path
from typing import Any

from harness.errors import UserError

STOP_FIELDS = {"reason": str, "step": int, "what": str, "remedy": str}


def read_stop(path: Path) -> dict[str, Any] | None:
    """None where there is no such file. Errors: UserError."""
    if not path.exists():
        return None
    try:
        stop = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is truncated or corrupt ({error})", "run that lane again") from error
    wrong = [key for key, kind in STOP_FIELDS.items() if not isinstance(stop, dict) or not isinstance(stop.get(key), kind)]
    if wrong:
        raise UserError(f"{path} is corrupt: {', '.join(wrong)} missing", "run that lane again")
    return stop
