"""Hand-made damage.json of the run folders of tests/report_factory.py: interferences that cost as asked."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.record.damaged import DAMAGE_VERSION, write_damage

STEPS, SHARES = (0, 16, 64, 128, 256), (0.25, 0.5, 0.75)
Row = dict[str, Any]
DRIFT = ("sets", "router", "inputs", "load", "evenness", "weights", "model")


def even(**at: Any) -> float:
    return 0.1


def damage(
    folder: Path, figure: Callable[..., float] = even, cost: Callable[..., float] = even, *, transplants: bool = True,
    removes: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """`figure(name=, step=, layer=)` and `figure(name=, share=, which=, layer=)`: what is known beforehand;
    `cost(foretold=, ...)` in nats, of `step=` or of `share=`, `which=`, `what=`, both with `layer=`, None of all of them."""
    record, plan = json.loads((folder / "record.json").read_text()), OmegaConf.load(folder / "plan.yaml")
    layers = list(range(plan.model.layers))

    def row(names: tuple[str, ...], layer: int | None, **at: Any) -> Row:
        known = {key: value for key, value in at.items() if key != "what"}
        foretold = {name: float(figure(name=name, layer=layer, **known)) for name in names}
        value = float(cost(foretold=foretold, layer=layer, **at))
        return at | {"layer": layer, "nats": [value, value - 0.01, value + 0.01], "foretold": foretold}

    cells = product(SHARES, ("coldest", "random", "busiest"), ("removed", "exchanged") if removes else ("exchanged",))
    return {
        "schema_version": DAMAGE_VERSION,
        "run": {key: record[key] for key in ("lane", "seed", "plan_hash", "content_sha256")}
        | {"weights_sha256": record["artifacts"]["weights.safetensors"]["sha256"]},
        "model": {"moe_layers": layers, "experts": plan.model.num_experts, "top_k": plan.model.top_k,
                  "router": "sigmoid_topk", "step": 384},
        "probe": {"of": "tiny", "windows": 32, "tokens": 8192, "sha256": "ab" * 32}, "seed": 0, "nats": 1.2,
        "loads": [{"layer": layer, "chosen": [1] * plan.model.num_experts} for layer in layers],
        "interferences": [
            row(("said", "load", "weights", "experts"), layer, share=share, which=which, what=what)
            for share, which, what in cells for layer in (*layers, None)
        ],
        "transplants": [
            row((*DRIFT, "steps"), layer, step=step) for step in STEPS for layer in (*layers, None) if transplants
        ],
    }  # fmt: skip


def put(folder: Path, *how: Any, **words: Any) -> Path:
    """`damage` as a run has it; returns the file."""
    path = folder / "damage" / "damage.json"
    path.parent.mkdir(exist_ok=True)
    write_damage(path, damage(folder, *how, **words))
    return path
