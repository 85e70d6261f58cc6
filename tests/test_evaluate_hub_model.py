"""What a model from the hub needs. With the package itself it is tested by `make referee`."""

import pytest

import harness.evaluate.hub_model as hub_model
from harness.errors import UserError


def test_without_the_extra_the_error_names_the_package_and_how_to_get_it(monkeypatch):
    monkeypatch.setattr(hub_model, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="hf:openai-community/gpt2 needs the package transformers") as caught:
        hub_model.load_hub_model("openai-community/gpt2", tokenizer=None)
    assert "pip install transformers" in str(caught.value)


def test_a_folder_that_does_not_exist_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_model, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="there is no folder .*nowhere"):
        hub_model.load_hub_model(str(tmp_path / "nowhere"), tokenizer=None)


@pytest.mark.parametrize("name", ["a/b/c", "openai-community/gpt2"])
def test_a_hub_that_cannot_be_asked_is_a_clear_error(name, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("Name or service not known\nand a page of advice")

    monkeypatch.setattr(hub_model, "find_spec", lambda name: object())
    if name.count("/") == 1:
        monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(UserError, match=f"cannot have {name} from the hub") as caught:
        hub_model.load_hub_model(name, tokenizer=None)
    assert "advice" not in str(caught.value) and "hf:/path/to/it" in str(caught.value)
