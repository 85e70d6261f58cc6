"""What the starting plan says of the data of a plan that turns them (`data.*`), before any is read."""

from harness.data.turned import turns, with_weights
from harness.plan.schema import Plan


def data_lines(plan: Plan) -> list[tuple[str, str, str]]:
    """One line; nothing of a plan that reads all of its track."""
    data = with_weights(plan.data, plan.track.texts)
    if plan.track.tokens.tokenizer or not (data.noise or turns(data)):
        return []
    names = data.sources or list(plan.track.texts)
    weights = dict(zip(names, data.weights))
    sources = ", ".join(f"{name} ({weights[name] / sum(data.weights):.0%})" if weights else name for name in names)
    kinds, done = ", ".join(data.noise), []
    if data.noise and data.noise_share:
        done.append(f"{data.noise_share:.0%} of the bytes are noise ({kinds})")
    elif data.noise:
        done.append(f"scored on noise too ({kinds}), trained on none")
    done += ["equal passages once"] if data.deduplicate else []
    done += [f"the best {data.quality_keep:.0%} by {data.quality}"] if data.quality else []
    if data.epochs:
        passes = "one pass" if data.epochs == 1 else f"{data.epochs} passes"
        done.append(f"{passes} over {plan.budget.tokens // data.epochs:,} {plan.track.unit} that the seed chooses")
    if data.order == "staged":
        done.append("source after source" if weights else "noise first, then source after source")
    return [("data", sources, "; ".join(done) or "in a mixture")]
