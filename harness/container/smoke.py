"""A short run inside, and whether its record names the image it ran in."""

from __future__ import annotations

import json
from pathlib import Path

from harness.container.build import UNKNOWN, built
from harness.container.engine import Engine
from harness.container.inside import run
from harness.errors import UserError

LANE = "tiny-dense"
WORDS = ["speedrun", f"lane={LANE}", "seed=1", "unranked=true", "budget.tokens=8192"]


def smoke(engine: Engine) -> int:
    """Raises: UserError when the run wrote no record, or one that names another image or commit than this one."""
    before = records()
    status = run(engine, WORDS)
    if status:
        return status
    written = records() - before
    if len(written) != 1:
        raise UserError(f"the run left {len(written)} new records in runs/{LANE}", "its own output is above")
    image = built(engine)
    if image.environment["SPEEDRUN_COMMIT"] == UNKNOWN:
        raise UserError("the image does not know the commit it was built from", "build it in a git checkout that git trusts")
    found = json.loads(written.pop().read_text())["provenance"]
    expected = {"container_image": f"sha256:{image.id}", "commit": image.environment["SPEEDRUN_COMMIT"].removesuffix("+dirty")}
    for key, value in expected.items():
        if found[key] != value:
            raise UserError(f"the record's {key} is {found[key]}, the image's {value}", "make container, then try again")
    print(f"the record names image {found['container_image']}, commit {found['commit']}, dirty {found['dirty']}", flush=True)
    return 0


def records() -> set[Path]:
    return set(Path("runs", LANE).glob("*/record.json"))
