"""What to try against each trouble, most promising first. Which of it composes here, and from which checkpoint, is for
`commands` to find out."""

from harness.doctor.finding import Try
from harness.doctor.patient import Patient
from harness.doctor.thresholds import BIAS_RULES
from harness.plan import parts
from harness.plan.lanes import RECIPES, read


def spread_the_load(run: Patient) -> tuple[Try, ...]:
    """Against hot, dominant and dead experts and against collapse. First what departs from the recipe, all at once."""
    multiplier, warmup = run.settings["optim.multipliers.router"], run.settings["schedule.warmup_share"]
    tries = _balance(run)
    if multiplier > 1:
        rushed = Try(
            f"the router learns at {multiplier:g} times the rate of the rest: it decides before the experts differ",
            ("optim.multipliers.router=1",),
        )  # fmt: skip
        both = [Try(f"{t.why}, and {rushed.why}", (*t.words, *rushed.words)) for t in tries[:2]]
        tries = [*both, rushed, *tries]
    elif multiplier > 0:
        why = "a slower router gives the experts time to differ before it chooses among them"
        tries.append(Try(why, (f"optim.multipliers.router={_short(multiplier * 0.3)}",)))
    if warmup < 0.1:
        why = "a longer warmup: the first hundred steps are where routing is decided"
        tries.append(Try(why, ("schedule.warmup_share=0.1",), from_checkpoint=False))
    return tuple(tries)


def settle_for_val(run: Patient) -> tuple[Try, ...]:
    """Against a load that is even in training and not on val: a bias that is still moved settles for no step in particular."""
    if run.settings["balance.rule"] != "bias" or run.settings["balance.schedule"] == "cosine":
        return spread_the_load(run)
    why = "a rate that falls to 0 trains the last steps under a settled selection, the one that val is scored under"
    return (Try(why, ("balance.schedule=cosine",), from_checkpoint=False), *spread_the_load(run))


def _balance(run: Patient) -> list[Try]:
    rule = run.settings["balance.rule"]
    losses = [key for key in ("balance.aux_loss_coef", "balance.sequence_loss_coef") if run.settings[key]]
    if rule == "none" and not losses:
        names = sorted((path.stem for path in (RECIPES / "balance").glob("*.yaml")), key=lambda name: (name != "bias", name))
        return [Try("nothing balances the load here", (f"balance={name}",)) for name in names if name != "none"]
    tries = []
    if rule == "bias" and run.settings["balance.z_loss_coef"]:
        why = "the z-loss pulls the scores towards each other, until a bias of fixed steps decides alone"
        tries.append(Try(why, ("balance.z_loss_coef=0",)))
    if rule == "bias":
        outvotes = max((span for row in run.windows[-1:] for span in row["bias_range"]), default=0) >= BIAS_RULES.value
        if outvotes or run.settings["balance.rate"] > 2 * _usual_rate():
            tries.extend(calm_the_bias(run))
        else:
            faster = (f"balance.rate={_short(run.settings['balance.rate'] * 2)}",)
            tries.append(Try("balancing is slower than the router", faster))
    return tries + [Try("a stronger balancing loss", (f"{key}={_short(run.settings[key] * 2)}",)) for key in losses]


def calm_the_bias(run: Patient) -> tuple[Try, ...]:
    """The recipe's rate where the run's is far from it, else less."""
    rate, usual = run.settings["balance.rate"], _usual_rate()
    if rate > 2 * usual:
        return (Try(f"balance.rate is {rate:g}, the recipe has {usual:g}", (f"balance.rate={usual:g}",)),)
    return (Try("a slower bias follows the load instead of overshooting it", (f"balance.rate={_short(rate / 4)}",)),)


def _usual_rate() -> float:
    return float(read(RECIPES / "balance" / "bias.yaml").rate)


def scale_updates(run: Patient, group: str, ratio: float, wanted: float) -> tuple[Try, ...]:
    """Against an update that is `ratio` of its parameters where about `wanted` is usual: what departs from the recipe first."""
    key = f"optim.multipliers.{group}"
    now, tries = run.settings[key], []
    if now == 0:
        return (Try(f"{key}=0 keeps this group at its initial weights", (f"{key}=1",)),)
    rate = parts.learning_rate(run.settings, group)
    if not 0.5 <= now <= 2:
        tries.append(Try(f"{key} is {now:g}", (f"{key}=1",)))
    if rate and not rate[1] / 2 <= run.settings[rate[0]] <= rate[1] * 2:
        tries.append(Try(f"{rate[0]} is {run.settings[rate[0]]:g}, the recipe has {rate[1]:g}", (f"{rate[0]}={rate[1]:g}",)))
    if not tries and ratio > 0:
        tries.append(Try("this group alone, brought to what is usual", (f"{key}={_short(now * wanted / ratio)}",)))
    return tuple(tries)


def give_routing_meaning(run: Patient, controlled: bool) -> tuple[Try, ...]:
    multiplier, rate = run.settings["optim.multipliers.router"], run.settings["balance.rate"]
    tries = []
    if multiplier == 0:
        tries.append(Try("the router never moves", ("optim.multipliers.router=1",), False))
    if run.settings["balance.rule"] == "bias":
        less = _usual_rate() if rate > 2 * _usual_rate() else rate / 4
        tries.append(Try("balancing that is too strong overrules the scores", (f"balance.rate={_short(less)}",), False))
    if 0 < multiplier < 4:
        why = "a router that learns faster than the experts change"
        tries.append(Try(why, (f"optim.multipliers.router={_short(multiplier * 2)}",), False))
    if not controlled:
        why = "the control: a hash router in everything else the same; then doctor RUN --control THAT_RUN"
        tries.append(Try(why, ("model.router=hash", "balance=none", "unranked=true"), False))
    return tuple(tries)


def lift_the_router_gradient(run: Patient) -> tuple[Try, ...]:
    return (
        Try("the same without quantized experts, to see what the format costs", ("precision.format=bf16", "unranked=true")),
        Try("momentum over more steps: what is rounded at random averages out", ("optim.adamw.beta1=0.95",)),
        Try("more tokens a step, so that the gradient is less noise", (*_twice_the_batch(run), "unranked=true"), False),
    )


def _twice_the_batch(run: Patient) -> list[str]:
    """At the same learning rates."""
    stages = [2 * tokens for tokens in run.settings["batch.stages"]]
    twice = f"batch.tokens_per_step={2 * run.settings['batch.tokens_per_step']}"
    return [twice, f"batch.stages=[{','.join(map(str, stages))}]"] if stages else [twice]


def calm_training(run: Patient) -> tuple[Try, ...]:
    """Against numbers that are not finite, and divergence."""
    s, tries = run.settings, []
    rates = dict(rate for group in ("dense", "embedding") if (rate := parts.learning_rate(s, group)))
    for key, usual in rates.items():
        if s[key] > 2 * usual:
            tries.append(Try(f"{key} is {s[key]:g}, the recipe has {usual:g}", (f"{key}={usual:g}",)))
    if not s["optim.clip_norm"]:
        tries.append(Try("one bad batch then moves the weights no further than any other", ("optim.clip_norm=1",)))
    if rates:
        tries.append(Try("half the learning rate", tuple(f"{key}={_short(s[key] / 2)}" for key in rates)))
    if s["schedule.warmup_share"] < 0.1:
        tries.append(Try("a longer warmup", ("schedule.warmup_share=0.1",), False))
    return tuple(tries)


def _short(value: float) -> str:
    """Two digits: what a person would type."""
    return f"{float(f'{value:.2g}'):g}"
