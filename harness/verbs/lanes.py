"""Lists lanes and what this machine can run.

usage: python -m harness lanes
       make lanes
"""

from harness.launch.options import Words

SUMMARY = "what exists: lanes, their tracks, budgets and targets"


def main(arguments: list[str]) -> int:
    Words("lanes").read(arguments)
    from harness.plan.compose import compose
    from harness.plan.goal import goal
    from harness.plan.lanes import lane_names

    names = lane_names()
    width = max(map(len, names)) + 2
    print(f"{'lane':<{width}}{'track':<12}{'for':<10}{'model':<46}{'budget':>22}  {'target on the slice':<44}twin")
    for name in names:
        plan = compose([f"lane={name}"]).plan
        m, target = plan.model, goal(plan.track)
        ffn = f"{m.num_experts} experts of {m.expert_width}, top-{m.top_k}" if m.num_experts else f"dense FFN {m.ffn_width}"
        begins = "open, from " if plan.lane.open else ""
        shape = f"{begins}{m.layers} x {m.width}, {ffn}, {plan.precision.format}"
        asked = f"{target.level:.4f} {target.unit} ({target.label})" if target else "none: a fixed budget"
        where = "GPU" if plan.lane.gpu else "CPU, GPU"
        budget = f"{'from ' if plan.lane.open else ''}{plan.budget.tokens:,} {plan.track.unit}"
        print(f"{name:<{width}}{plan.track.name:<12}{where:<10}{shape:<46}{budget:>22}  {asked:<44}{plan.lane.twin or '-'}")
    print(
        "\nmake speedrun LANE=<lane>; make plan LANE=<lane> shows what it would take here. A lane for GPUs runs on a CPU only "
        'shortened: SET="unranked=true budget.tokens=65536". An open lane fixes data, scoring and target; model, batch and '
        "budget are the contestant's, and stand here as its file has them to start from."
    )
    return 0
