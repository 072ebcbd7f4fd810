"""Principal components: against the covariance's eigenvectors, and as an encoder by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from erc_graph.data.files.storage import save_tensors
from erc_graph.errors import CheckpointError
from erc_graph.features.encoder_names import load_text_encoder
from erc_graph.features.principal import ABOUT, AXES, Projected, along, fit_axes, save_axes
from erc_graph.features.text import TextEncoder

TEXTS = ["we won !", "really ?", "you are joking", "won hello", "hello there", "really joking !"]


def test_axes_are_the_eigenvectors_of_the_covariance() -> None:
    vectors = torch.randn(50, 6) @ torch.randn(6, 6) + 3
    axes, share = fit_axes(vectors, 2)
    values, directions = torch.linalg.eigh(torch.cov(vectors.T.double()))
    torch.testing.assert_close(axes["mean"], vectors.mean(0))
    torch.testing.assert_close((axes["axes"].double() @ directions[:, [5, 4]]).abs(), torch.eye(2, dtype=torch.double), atol=1e-5, rtol=0)
    assert share == pytest.approx(float(values[-2:].sum() / values.sum()))
    torch.testing.assert_close(along(axes, vectors).var(0).double(), values[[5, 4]], atol=1e-4, rtol=1e-4)


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    axes, _ = fit_axes(TextEncoder(str(tiny_encoder), pooling="cls")(TEXTS), 3)
    save_axes(tmp_path / "p", axes, f"{tiny_encoder}:pooling=cls", "six texts")
    return tmp_path / "p"


def test_an_encoder_by_name(folder: Path, tiny_encoder: Path) -> None:
    encoder = load_text_encoder(str(folder))
    assert isinstance(encoder, Projected) and (encoder.width, encoder.longest, encoder.context) == (3, 32, 0)
    vectors = TextEncoder(str(tiny_encoder), pooling="cls")(TEXTS)
    torch.testing.assert_close(encoder(TEXTS, tokens=5), along(encoder.axes, vectors))
    assert encoder(TEXTS).mean(0).abs().max() < 1e-5
    with pytest.raises(CheckpointError, match=r"expected valid options \(none\), found layer=1"):
        load_text_encoder(f"{folder}:layer=1")
    with pytest.raises(CheckpointError, match="principal components: expected an encoder with vectors of 24 numbers, found 48 from"):
        Projected(TextEncoder(str(tiny_encoder), pooling="cls+mean"), encoder.axes)


@pytest.mark.parametrize("change", ["format", "version", "shape", "nan", "lacking", "nested"])
def test_what_is_damaged_is_refused(change: str, folder: Path) -> None:
    about = json.loads((folder / ABOUT).read_text())
    if change in ("format", "version"):
        (folder / ABOUT).write_text(json.dumps({**about, change: 2}))
        message = (
            "expected the format 'erc_graph principal components of a text encoder' of version 1, "
            "found another format or version; upgrade erc_graph"
        )
    elif change == "nested":  # components of components are not read, nor those of themselves
        (folder / ABOUT).write_text(json.dumps({**about, "encoder": str(folder)}))
        message = "config.json: this file is missing; expected the files"
    else:
        shapes = {"mean": torch.zeros(24), "axes": torch.zeros(3, 7 if change == "shape" else 24)}
        if change == "nan":
            shapes["mean"][0] = torch.nan
        if change == "lacking":
            del shapes["axes"]
        save_tensors(folder / AXES, shapes)
        message = r"expected finite tensors `mean` of shape \(d,\) and `axes` of shape \(k, d\), found"
    with pytest.raises(CheckpointError, match=message):
        load_text_encoder(str(folder))
