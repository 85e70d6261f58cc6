"""A model from the hub or from a folder in the hub's layout, as a `LanguageModel`: what a published figure is checked with.

Letters: B batch, S sequence, T = B*S tokens, D width, V vocabulary. The architecture is the transformers library's (the extra
`hub` of pyproject.toml), in fp32. Only JSON, text and safetensors files are read: nothing is unpickled, no code of the
repository runs. Evaluations here hand over GPT-2's tokens, so a model with another vocabulary is refused.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.data.tokenizer import Tokenizer
from harness.errors import UserError
from harness.evaluate.language_model import nats_and_hits
from harness.files import file_sha256

PREFIX = "hf:"  # hf:openai-community/gpt2, hf:/a/folder
FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "vocab.json", "merges.txt")  # fmt: skip
LOGIT_ROWS = 256  # T at a time: the fp32 logits of GPT-2's vocabulary take 51 MB then
# What byte-pair encodings disagree about: case, contractions, digits, runs of spaces, lines, letters beyond ASCII.
PROBE = "Hello world, it's 1984:\n\n\tthe  quick-brown   fox_jumps\u2014na\u00efve \u65e5\u672c (x2)! don't \u00b0C end."


class HubModel:
    """A LanguageModel; `name` as asked for, `revision` the hub's commit or None for a folder, `weights` file: sha256."""

    packs = True

    def __init__(self, name: str, network: Any, revision: str | None, weights: dict[str, str]):
        self.name, self.network, self.revision, self.weights = name, network, revision, weights
        self.context: int = network.config.max_position_embeddings  # of GPT-2: n_positions, 1,024
        self.head = network.get_output_embeddings()
        self.vocab_size: int = self.head.weight.shape[0]
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.device = self.head.weight.device

    def score(
        self, input_BS: Tensor, target_BS: Tensor, position_BS: Tensor | None = None, visible_BSS: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `LanguageModel.score`: nats_BS fp32 and hit_BS."""
        with torch.inference_mode():
            hidden_TD = self._hidden(input_BS, position_BS, visible_BSS).flatten(0, 1)
            target_T = target_BS.to(self.device).flatten()
            pairs = zip(hidden_TD.split(LOGIT_ROWS), target_T.split(LOGIT_ROWS))
            nats, hits = zip(*(nats_and_hits(self.head(hidden), target) for hidden, target in pairs))
        return torch.cat(nats).float().view(input_BS.shape), torch.cat(hits).view(input_BS.shape)

    def _hidden(self, input_BS: Tensor, position_BS: Tensor | None, visible_BSS: Tensor | None) -> Tensor:
        """What the head reads, (B, S, D). From positions without a mask the library would guess one."""
        words: dict[str, Tensor] = {}
        if position_BS is not None or visible_BSS is not None:
            length = input_BS.shape[1]
            if visible_BSS is None:
                visible_BSS = torch.ones(length, length, dtype=torch.bool).tril().expand(len(input_BS), -1, -1)
            hidden = torch.finfo(self.head.weight.dtype).min
            mask_BSS = torch.zeros(visible_BSS.shape, dtype=self.head.weight.dtype, device=self.device)
            words["attention_mask"] = mask_BSS.masked_fill_(~visible_BSS.to(self.device), hidden)[:, None]
            if position_BS is not None:
                words["position_ids"] = position_BS.to(self.device)
        return self.network.base_model(input_BS.to(self.device), use_cache=False, **words).last_hidden_state


def load_hub_model(name: str, tokenizer: Tokenizer, device: str = "cpu") -> HubModel:
    """`name` without its prefix: a folder (with a separator at its start, or existing), else a repository of the hub.

    Raises: UserError when transformers is not installed, the folder or the repository cannot be had, the files are not a
    causal language model in safetensors, or its vocabulary is not GPT-2's.
    """
    if find_spec("transformers") is None:
        raise UserError(
            f"{PREFIX}{name} needs the package transformers (the extra `hub` of pyproject.toml), which is not installed",
            ".venv/bin/python -m pip install transformers",
        )
    folder, revision = _folder(name)
    _check_tokenizer(name, folder, tokenizer)
    network = _network(name, folder)
    if getattr(network.config, "max_position_embeddings", None) is None:
        raise UserError(f"{PREFIX}{name} states no longest input (max_position_embeddings)", "its config.json must have one")
    model = HubModel(
        name, network.to(device), revision, {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    )
    if model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"{PREFIX}{name} has a vocabulary of {model.vocab_size:,}, GPT-2's is {tokenizer.vocab_size:,}", _OTHER_VOCABULARY
        )
    _check_head(model)
    return model


_OTHER_VOCABULARY = "name a model with GPT-2's vocabulary: evaluations here encode text with it"


def _folder(name: str) -> tuple[Path, str | None]:
    """(folder with the model's files, commit on the hub or None)."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path, None
    if name.startswith(("/", ".", "~")):
        raise UserError(
            f"there is no folder {path}", f"name a folder with config.json and *.safetensors, or {PREFIX}owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        found = Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (OSError, HFValidationError) as error:
        raise UserError(
            f"cannot have {name} from the hub: {_first_line(error)}",
            f"check the name and the connection, or copy the repository into a folder: {PREFIX}/path/to/it",
        ) from error
    return found, found.name


def _check_tokenizer(name: str, folder: Path, tokenizer: Tokenizer) -> None:
    """A folder need not have a tokenizer; one that it has must be GPT-2's, and begin texts as ours does."""
    if not any((folder / file).exists() for file in ("tokenizer.json", "vocab.json")):
        return
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        found = theirs.encode(PROBE)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(f"cannot read the tokenizer of {PREFIX}{name}: {_first_line(error)}", _OTHER_VOCABULARY) from error
    first = theirs.eos_token_id if theirs.bos_token_id is None else theirs.bos_token_id
    expected = tokenizer.encode(PROBE)
    if found != expected:
        raise UserError(
            f"the tokenizer of {PREFIX}{name} is not GPT-2's: a probe is {found[:6]}..., GPT-2's is {expected[:6]}...",
            _OTHER_VOCABULARY,
        )
    if first not in (None, tokenizer.end_of_text):
        raise UserError(
            f"texts of {PREFIX}{name} begin with token {first}, GPT-2's with {tokenizer.end_of_text}", _OTHER_VOCABULARY
        )


def _network(name: str, folder: Path) -> Any:
    """The library's model, in evaluation mode, every weight of it from a file."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if (folder / "adapter_config.json").exists():
        raise UserError(f"{PREFIX}{name} holds an adapter, not a whole model", "merge it into its base model and save that")
    try:
        network, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="sdpa",  # whatever the file says: some values fetch kernels from the hub
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{PREFIX}{name} is no causal language model that can be read: {_first_line(error)}",
            "it takes config.json and model.safetensors of an architecture that transformers has",
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{PREFIX}{name} lacks weights: {', '.join(missing[:5])}", "save the whole model again")
    return network.eval()


def _check_head(model: HubModel) -> None:
    """`score` takes logits from the head alone; an architecture that scales or caps them afterwards would be scored wrongly."""
    input_BS = torch.arange(8, device=model.device)[None]
    with torch.inference_mode():
        theirs = model.network(input_BS, use_cache=False).logits
        ours = model.head(model._hidden(input_BS, None, None))
    if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
        raise UserError(
            f"{PREFIX}{model.name}: its architecture changes logits after the output layer, which is not supported here",
            "name a GPT-2, GPT-Neo or GPT-J model",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
