"""LMF: arrays of the public code; the product of low rank is the tensor of TFN times a weight, also where a modality is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.errors import ConfigError
from erc_graph.methods.lmf import LMF, LMFConfig
from erc_graph.methods.tfn import products
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, random_batch, stir

pytestmark = pytest.mark.reference
LETTERS = {"audio": "a", "video": "v", "text": "t"}


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {f"factors.{m}": f"{m}_factor" for m in LETTERS} | {"weight": "fusion_weights", "bias": "fusion_bias"}
    linear = {"subnets.text.linear": "text_subnet.linear_1"}
    for m in ("audio", "video"):
        linear |= {f"subnets.{m}.linear.{i}": f"{m}_subnet.linear_{i + 1}" for i in range(3)} | {f"subnets.{m}.norm": f"{m}_subnet.norm"}
        names |= {f"subnets.{m}.norm.{end}": f"{m}_subnet.norm.{end}" for end in ("running_mean", "running_var")}
    names |= {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in linear.items() for end in ("weight", "bias")}
    names |= {f"subnets.text.lstm.{end}_l0": f"text_subnet.rnn.{end}_l0" for end in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return {ours: given[theirs] for ours, theirs in names.items()}


def test_classes(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("lmf")
    given = arrays.under("param/")
    rank, _, classes = given["text_factor"].shape
    widths = {m: given[f"{m}_factor"].shape[1] - 1 for m in LETTERS}
    words = given["text_subnet.rnn.weight_hh_l0"].shape[1]
    config = LMFConfig(graph="none", widths=widths, words=words, rank=rank, fused=0)
    features = {m: arrays[f"in/{m}"] for m in ("audio", "video")}
    items = {"text": (arrays["in/text"].shape[-1],)}
    dtype = given["text_factor"].dtype
    model = build(LMF, {m: rows.shape[1] for m, rows in features.items()}, classes, config, sequences=items, dtype=dtype)
    put(model, renamed(given))
    batch = batch_of([torch.zeros(len(arrays["in/y"]), dtype=torch.long)], [arrays["in/y"]], **features)
    batch = replace(batch, sequences={"text": Ragged.of(list(arrays["in/text"]))})

    given_of = model.given(batch)
    for m, letter in LETTERS.items():
        rows = given_of.sequences.get(m) or Nodes.of_turns(given_of.values[m])
        z = model.subnets[m](rows) if m == "text" else model.subnets[m](rows, batch)
        arrays.same(z, f"mid/z_{letter}")
        arrays.same(F.pad(z, (1, 0), value=1.0) @ model.factors[m], f"mid/fac_{letter}")
    arrays.same(model.products(given_of), "mid/prod")
    scores = model(batch).scores
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target, reduction="sum")
    arrays.same(loss, "loss_ce_sum")
    loss.backward()
    arrays.same(model.factors["audio"].grad, "grad/audio_factor")
    arrays.same(model.weight.grad, "grad/fusion_weights")
    arrays.same(model.subnets["text"].linear.weight.grad, "grad/text_subnet.linear_1.weight")


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3, "text": 5}, {"text": 4}])
def test_low_rank_is_a_weight_times_the_tensor_and_what_is_missing_is_never_read(widths: Mapping[str, int]) -> None:
    model = build(LMF, widths, 3, LMFConfig(graph="none", width=3, widths={"text": 2}, rank=2, fused=0))
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    other = replace(batch, features={m: torch.where(batch.present[m][:, None], x, torch.nan) for m, x in batch.features.items()})
    given = model.given(batch)
    z = {m: model.subnets[m](Nodes.of_turns(given.values[m]), batch) * batch.present[m][:, None] for m in model.names}
    tensor = products(list(z.values()))
    weight = torch.zeros(tensor.shape[1], 3).double()
    for share, *factors in zip(model.weight[0], *(model.factors[m] for m in model.names), strict=True):
        columns = [products([factor[None, 1:, k] / factor[0, k] for factor in factors])[0] for k in range(3)]
        ones = torch.stack([factor[0] for factor in factors]).prod(0)
        weight = weight + share * ones * torch.stack(columns, 1)
    here = torch.stack(list(batch.present.values()), 1).any(1)[:, None]
    torch.testing.assert_close(model(batch).scores, torch.where(here, tensor @ weight + model.bias, 0.0), rtol=0, atol=1e-8)
    assert torch.equal(model(other).scores, model(batch).scores)


def test_without_a_fused_vector_there_is_no_graph() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.fused: expected 1 or more, or 0 without a graph, found 0 with graph 'speaker'"):
        build(LMF, {"text": 3}, 2, LMFConfig(fused=0))
