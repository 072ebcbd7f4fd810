"""Encoders that were tuned once, for all tests that ask them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.features.fine_tuning import TuningConfig, tune

QUICK = TuningConfig(epochs=3, batch_size=8, learning_rate=3e-3)


def rows_of(corpus: Corpus, split: str) -> list[int]:
    rows = corpus.rows(corpus.position[i] for i in corpus.splits[split])
    return [row for row in rows.tolist() if corpus.labelled[row] and corpus.texts[row].strip()]


@pytest.fixture(scope="session")
def fitted(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "fitted"
    tune(talks, str(tiny_encoder), folder, QUICK, quiet=True)
    return folder


@pytest.fixture(scope="session")
def crossed(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "crossed"
    tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)
    return folder


def causal(kind: str, folder: Path, tiny_encoder: Path) -> Path:
    """A random causal language model of that kind, saved as its owners do; its tokenizer adds no token to the words."""
    transformers = pytest.importorskip("transformers")
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=15, n_positions=32, n_embd=24, n_layer=3, n_head=3, **ends)
    else:
        config = transformers.AutoConfig.for_model(
            kind, vocab_size=15, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3,
            max_position_embeddings=32, **ends,
        )  # fmt: skip
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = json.loads((tiny_encoder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    return folder
