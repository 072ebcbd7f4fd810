"""A name finds its encoder, with its options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from erc_graph.errors import CheckpointError
from erc_graph.features.encoder_names import load_text_encoder
from erc_graph.features.text import TextEncoder
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT

pytest.importorskip("transformers")


def test_an_encoder_by_name_is_a_tuned_one_or_another(fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    assert isinstance(load_text_encoder(str(tiny_encoder)), TextEncoder)
    for name, width in ((str(fitted), 24), (f"{fitted}:output=log-probabilities", 2)):
        encoder = load_text_encoder(name)
        assert isinstance(encoder, TunedEncoder) and encoder.width == width
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(
        CheckpointError, match="expected the format 'erc_graph tuned text encoder' of version 1, found another format or version"
    ):
        load_text_encoder(str(tmp_path))
    with pytest.raises(CheckpointError, match="no such folder, and not the name of a model"):
        load_text_encoder("x" * 5000 + ":layer=-1")
    encoder = load_text_encoder(f"{tiny_encoder}:layer=1,pooling=cls")
    expected = TextEncoder(str(tiny_encoder), pooling="cls", layer=1)
    torch.testing.assert_close(encoder(["we won !"]), expected(["we won !"]))
    for name in (f"{fitted}:layer=1", f"{fitted}:output=logits", f"{tiny_encoder}:pooling=max"):
        with pytest.raises(CheckpointError, match=r"expected valid options \((output|pooling, layer, quantize)\), found"):
            load_text_encoder(name)
    with pytest.raises(CheckpointError, match=r"no fine-tuned encoder there, .*--extractor NAME=FOLDER:output=features"):
        load_text_encoder(f"{tiny_encoder}:output=features")
