"""README.md of an exported folder: what the model is, where it came from, how it is loaded."""

from harness.export.configuration import CODE
from harness.plan.schema import Plan
from harness.record.schema import Record
from harness.shown import one_line

PAGE = """# {lane}, seed {seed}

A language model trained by moe-speedrun: {size} parameters, {layers} layers of width {width}, {feedforward}, {context} {unit}
of context. {tokens}

| what | value |
|---|---|
| {measure} of val ({track}) | {val_bpb} |
| ranked | {ranked} |
| sha256 of the record's content | {record} |
| hash of the plan | {plan} |
| sha256 of the run's weights | {weights} |
| commit | {commit} |
| trained in | {format} (the weights here are its fp32 ones) |

```python
{usage}
```

`FOLDER` is this folder. {computed} The model was trained on sequences of {context} {unit}: longer ones have positions that it
has never seen.

Made by: `{command}`
"""
OWN = f"""The model is computed by `{CODE}.py` and the files that it imports, which lie in it and need torch and transformers
alone. Its logits are those of the run's own model in fp32."""
PUBLISHED = """The model is computed by the library's own `{}`, whose mathematics is the run's. The library computes the angles
of rotary positions in fp32, so that its logits differ a little from those of the run's own model, the more the longer the
input."""
OF_TEXT = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({tokenizer})
model = AutoModelForCausalLM.from_pretrained("FOLDER"{trust})
text = tokenizer("The state of the Union", return_tensors="pt")
print(tokenizer.decode(model.generate(**text, max_new_tokens=100, do_sample=True)[0]))"""
OF_IDS = """import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("FOLDER"{trust})
print(model(torch.tensor([[224, 5, 7, 129, 128]])).logits.argmax(-1))"""
TOKENIZERS = {  # what loads it, and a sentence about it
    "": (
        '"FOLDER"{trust}',
        "Its tokens are bytes: the id of a token is the byte, of text in UTF-8, and there are no special tokens.",
    ),
    "gpt2": (
        '"openai-community/gpt2"',
        "Its tokens are GPT-2's (`openai-community/gpt2` on the hub), whose end-of-text token began every document.",
    ),
    "tasks": (
        "",
        "Its tokens are ids of generated tasks ({tasks}), as `harness/data/vocabulary.py` has them; it knows no text.",
    ),
}


def page(plan: Plan, record: Record, command: str, published: str | None = None) -> str:
    """`published`: the library's class, where the model is computed by one."""
    m, metrics = plan.model, record.metrics
    tokenizer, tokens = TOKENIZERS[plan.track.tokens.tokenizer]
    trust = "" if published else ", trust_remote_code=True"
    usage = (OF_TEXT if tokenizer else OF_IDS).format(tokenizer=tokenizer.format(trust=trust), trust=trust)
    feedforward = f"feed-forward parts of {m.ffn_width}"
    if m.num_experts:
        feedforward = f"{m.num_experts} experts of {m.expert_width}, top-{m.top_k}"
    val_bpb = f"{metrics.val_bpb:.4f}"
    if metrics.partial:
        val_bpb += f", of its first {metrics.scored_bytes:,} {plan.track.scored}s"
    return PAGE.format(
        lane=record.lane, seed=record.seed, track=record.track, val_bpb=val_bpb, measure=plan.track.measure,
        tokens=tokens.format(tasks=", ".join(plan.data.tasks)), usage=usage,
        ranked="yes" if record.ranked else f"no: {one_line('; '.join(record.unranked_reasons))}",
        size=f"{record.counts.params_total:,}", layers=m.layers, width=m.width, feedforward=feedforward,
        context=f"{m.sequence_length:,}", unit=plan.track.unit, format=plan.precision.format,
        record=record.content_sha256 or "not stated", plan=record.plan_hash,
        weights=record.artifacts["weights.safetensors"].sha256, commit=one_line(record.provenance.commit),
        computed=PUBLISHED.format(published) if published else OWN,
        command=one_line(command),
    )  # fmt: skip
