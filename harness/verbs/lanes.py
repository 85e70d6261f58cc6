"""Lists lanes and what this machine can run.

usage: python -m harness lanes
       make lanes
"""

from harness.errors import UserError

SUMMARY = "what exists: lanes, their tracks, budgets and targets"


def main(arguments: list[str]) -> int:
    if arguments:
        raise UserError(f"`lanes` takes no arguments, found {' '.join(arguments)}", "python -m harness lanes")
    from harness.plan.compose import compose
    from harness.plan.lanes import lane_names

    print(f"{'lane':<18}{'track':<8}{'model':<44}{'budget':>18}  {'target on the slice':<28}twin")
    for name in lane_names():
        plan = compose([f"lane={name}"]).plan
        m, line = plan.model, plan.track.lines[plan.track.target]
        ffn = f"{m.num_experts} experts of {m.expert_width}, top-{m.top_k}" if m.num_experts else f"dense FFN {m.ffn_width}"
        shape = f"{m.layers} x {m.width}, {ffn}, {plan.precision.format}"
        target = f"{line.slice:.4f} bpb ({line.label})"
        print(f"{name:<18}{plan.track.name:<8}{shape:<44}{plan.budget.tokens:>12,} bytes  {target:<28}{plan.lane.twin}")
    print(
        "\nAll of them run on a CPU or one GPU. make speedrun LANE=<lane>; make plan LANE=<lane> shows what it would take here."
    )
    return 0
