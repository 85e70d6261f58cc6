"""Dials that do not fit, as somebody types them: each refusal names the value found and words to type, with which it fits."""

import micro
import pytest
from reading import tokens

from harness.__main__ import main
from harness.errors import UserError
from harness.evaluate.writing import written
from harness.model.build import build_model, count_plan
from harness.model.init import initialize
from harness.model.where import Cache
from harness.plan.compose import compose

MASKED = "lane=wiki-s-moe-64e data.document_mask=true"
# What is typed after lane=tiny-moe-16e (width 256, 4 heads, 4 layers, 256 bytes), what is named, and what is told to type.
REFUSED = [
    ("model.attention_pattern=[full,kda]", "names 2 layers of 4: full,kda", "model.attention_pattern=[full,kda,kda,kda]"),
    ("model.attention_pattern=[full,mla,mla,mla,mla]", "names 5 layers of 4", "model.attention_pattern=[full,mla,mla,mla]"),
    ("model.attention_pattern=[full,full,full,fill]", "model.attention_pattern='fill'", "full"),
    ("model.heads=3", "model.heads=3 does not divide model.width=256", "model.heads=2"),
    ("attention.full.kv_heads=3", "attention.full.kv_heads=3 does not divide model.heads=4", "attention.full.kv_heads=0"),
    ("attention.full.rotated=65", "attention.full.rotated=65 of a head width of 64", "attention.full.rotated=0"),
    ("attention.full.key_offset=true", "attention.full.rotated=0", "attention.full.rotated below the head width of 64"),
    ("model.attention=mla attention.mla.rotary=64", "attention.mla.rotary=64 of a head width of 64", "attention.mla.rotary=32"),
    ("model.attention=mla attention.mla.rank=0", "attention.mla.rank=0", "at least 1"),
    ("model.attention=gated_delta attention.gated_delta.chunk=65", "attention.gated_delta.chunk=65", "from 1 to 64"),
    (
        "model.attention=gated_delta attention.gated_delta.chunk=64 model.sequence_length=32",
        "attention.gated_delta.chunk=64 with model.sequence_length=32",
        "attention.gated_delta.chunk=32",
    ),
    (
        "model.attention=kda attention.kda.chunk=16 model.sequence_length=8",
        "attention.kda.chunk=16 with model.sequence_length=8",
        "attention.kda.chunk=8",
    ),
    ("model.attention=kda attention.kda.taps=300", "attention.kda.taps=300 with", "attention.kda.taps=256"),
    ("model.attention=kda attention.kda.chunk=32", "decays of a chunk reach e^-155", "attention.kda.chunk=17"),
    ("model.attention=window attention.window.tokens=256", "attention.window.tokens=256", "attention.window.tokens=255"),
    ("model.attention=nsa attention.nsa.block=24", "attention.nsa.block=24 does not divide", "attention.nsa.block=16"),
    ("model.attention=nsa attention.nsa.chosen=17", "attention.nsa.chosen=17 blocks", "attention.nsa.chosen=16"),
    ("model.attention=nsa attention.nsa.window=257", "attention.nsa.window=257 with", "attention.nsa.window=256"),
    (
        "optim.muon.iteration=polar-express optim.muon.newton_schulz_steps=4",
        "optim.muon.newton_schulz_steps=4 with optim.muon.iteration=polar-express",
        "optim.muon.newton_schulz_steps=5",
    ),
    (
        "optim.muon.iteration=polar-express optim.muon.expert_steps=4",
        "optim.muon.expert_steps=4 with optim.muon.iteration=polar-express",
        "optim.muon.expert_steps=5",
    ),
    ("optim.qk_clip=100", "optim.qk_clip=100.0 is a no-op under model.qk_norm=true", "optim.qk_clip=0"),
    ("optim.qk_clip=100 model.attention=kda model.qk_norm=false", "with the attention kda", "optim.qk_clip=0"),
    *(
        (f"{MASKED} model.attention={name}", f"data.document_mask=true with model.attention={name}", "data.document_mask=false")
        for name in ("gated_delta", "kda", "nsa")
    ),
    (
        f"{MASKED} model.attention_pattern=[full,full,full,full,full,full,full,kda]",
        "data.document_mask=true with model.attention_pattern=kda",
        "data.document_mask=false",
    ),
    (
        "lane=wiki-s-moe-64e model.memories=[bigram]",
        "memory.bigram.rows=0 with model.vocab_size=50304: 2,530,492,416 rows",
        "memory.bigram.rows=251520",
    ),
    ("model.memories=[bigram] memory.bigram.rows=65537", "memory.bigram.rows=65537", "memory.bigram.rows=65536"),
    ("model.memories=[bigram] memory.bigram.columns=256", "memory.bigram.columns=256", "memory.bigram.columns=0"),
    ("model.memories=[engram] memory.engram.layers=[4]", "memory.engram.layers=[4] of 4 layers", "memory.engram.layers=[2]"),
    ("model.memories=[smear] memory.smear.channels=257", "memory.smear.channels=257", "memory.smear.channels=256"),
    (
        "model.memories=[value_embeddings] memory.value_embeddings.channels=257",
        "memory.value_embeddings.channels=257",
        "memory.value_embeddings.channels=256",
    ),
    ("model.memories=[value_embeddings] model.attention=mla", "the attention mla", "leave value_embeddings out"),
    ("model.memories=[canon] model.attention=kda", "memory.canon.places=ABC with the attention kda", "memory.canon.places=AC"),
    ("model.memories=[canon] memory.canon.places=AD", "memory.canon.places=AD", "memory.canon.places=A"),
    ("model.memories=[canon] memory.canon.places=D", "memory.canon.places=D", "leave canon out"),
    ("optim.matrices=schedule_free", "schedule.decay_share=0.4 with the optimizer schedule_free", "schedule.decay_share=0"),
    ("optim.others=schedule_free", "schedule.decay_share=0.4 with the optimizer schedule_free", "schedule.decay_share=0"),
    ("optim.others=soap", "optim.others=soap", "optim.matrices=soap"),
    ("model.residual=hyper residual.hyper.streams=1", "residual.hyper.streams=1", "from 2 to 16"),
    ("gains.softcap=0.01", "gains.softcap=0.01", "at least 0.1"),
]  # fmt: skip


@pytest.mark.parametrize("typed, named, told", REFUSED, ids=[typed for typed, _, _ in REFUSED])
def test_a_dial_that_does_not_fit_is_named_with_words_that_do(typed, named, told, capsys):
    words = ["lane=tiny-moe-16e", "unranked=true", *typed.split()]
    words = [word for word in words if not word.startswith("lane=")] + [[w for w in words if w.startswith("lane=")][-1]]
    assert main(["plan", *words]) == 2
    said = capsys.readouterr().err
    assert named in said and told in said and "Traceback" not in said
    if "=" in told and not told.startswith("optim.matrices"):
        count_plan(compose([*words, told]).plan)


def small(*words):
    plan = compose([*micro.DENSE, *words]).plan
    model = build_model(plan, "full")
    initialize(model, plan.init, 1)
    return model.eval()


def test_decoding_past_the_sequence_length_is_refused_and_sampling_goes_on_with_the_last_tokens():
    model, cache = small(), Cache()
    model.logits(tokens(1, 30), cache)
    model.logits(tokens(1, 2), cache)
    for given in (cache, None):
        with pytest.raises(UserError, match="33 tokens in a row, and the model reads model.sequence_length=32") as refused:
            model.logits(tokens(1, 33 - (32 if given else 0)), given)
        assert "read the last 32 alone" in refused.value.remedy
    assert len(list(written(model, [1] * 40, [0.5] * 5, 1.0, 256))) == 5


@pytest.mark.parametrize(
    "word, said",
    [
        ("model.sequence_length=16", ["model.sequence_length=16 of tiny-moe-16e", "model.sequence_length=32 or more"]),
        ("model.attention=nsa attention.nsa.chosen=2", ["the attention nsa, which does not decode"]),
    ],
)
def test_what_cannot_be_decoded_is_not_timed(word, said, tmp_path, capsys):
    assert main(["bench", "decode", *micro.MOE, *word.split(), "rounds=1", f"out={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in said)
