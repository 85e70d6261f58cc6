"""Writes a finished run as a folder that the transformers library loads.

usage: python -m harness export RUN out=FOLDER [--published] [--overwrite]
       make export RUN=runs/tiny-moe-16e/1-0123abcd OUT=runs/exported

The folder has the fp32 weights, config.json, modelling files (torch and transformers alone), for a run of bytes a tokenizer,
and a README that says which run it was. It is loaded by
    AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
and its logits are those of the run's own model in fp32. It takes full, window and latent attention (mla) with their dials, all
memories and residual schemes, every router, shared experts, both activations and all gains; what it has no code for (other
attentions, products of quantized formats) is named and refused.
--published  writes an architecture that the library has itself, where one fits, so that no code need be trusted: of dense runs
             Apertus, Arcee, Qwen3 or Llama, of SwiGLU experts behind a sigmoid router with shared ones GLM-4.5. The library
             computes rotary angles in fp32, so that on long inputs logits differ from the run's by more than 1e-5
--overwrite  replaces an export, never anything else; one that is cut off leaves what was there
"""

import shlex

from harness.errors import UserError
from harness.launch.options import PATH, SWITCH, Names, Word, Words

WORDS = Words(
    "export", Word("out", PATH), Word("published", SWITCH, False), Word("overwrite", SWITCH, False),
    names=Names("run", least=1, most=1),
)  # fmt: skip
SUMMARY = "a run as a folder that transformers loads"


def main(arguments: list[str]) -> int:
    own = WORDS.read(arguments)
    (run,) = own.names
    if own.out is None:
        raise UserError("no folder is named", f"python -m harness export {shlex.quote(str(run))} out=FOLDER")
    from harness.export import folder
    from harness.launch.run_model import load_run_model
    from harness.plan.stored import read_plan
    from harness.record.read import read_record

    record, plan = read_record(run), read_plan(run / "plan.yaml")
    folder.check_place(own.out, own.overwrite)
    command = shlex.join(["python", "-m", "harness", "export", *arguments])
    export = folder.plan_export(plan, record, command, own.published)  # refuses before the weights are read
    folder.write(own.out, export, load_run_model(run).state_dict(), own.overwrite)
    trust = "" if own.published else ", trust_remote_code=True"
    print(f"exported: {own.out}   transformers.AutoModelForCausalLM.from_pretrained({str(own.out)!r}{trust})")
    return 0
