"""UniMSE: arrays of the public code's adapter and InfoNCE, and what a language model reads of a turn's neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from erc_graph.data.ragged import Ragged
from erc_graph.encoders.adapter import Adapter
from erc_graph.methods.unimse import UniMSE, UniMSEConfig, info_nce
from tests.methods.reference.conftest import Reference, batch_of, build

pytestmark = pytest.mark.reference


def test_adapter(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("unimse")
    given, hidden, visual, sound = arrays.under("adapter/param/"), *(arrays[f"in/{m}"] for m in ("hidden", "visual", "acoustic"))
    beside = torch.cat([visual, sound], -1)[:, None].expand(-1, hidden.shape[1], -1)
    adapter = Adapter(hidden.shape[-1], beside.shape[-1], len(given["adapter_down_project.bias"])).double()
    assert torch.equal(adapter.output(torch.cat([hidden, beside], -1)), hidden)  # it starts as the identity on h
    names = {"down": "adapter_down_project", "up": "adapter_up_project", "output": "adapter_linear"}
    put(adapter, {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")})
    found = adapter(hidden, beside)
    arrays.same(found, "adapter/out")
    found.square().sum().backward()
    arrays.same(adapter.down.weight.grad, "adapter/grad_of_sum_of_squares/adapter_down_project.weight")  # type: ignore[arg-type]


def test_contrast(reference: Callable[[str], Reference]) -> None:
    arrays = reference("unimse")
    own, other = (arrays[f"info_nce/param/info_proj_{name}.weight"][..., 0] for name in ("query", "positive"))
    found = info_nce(arrays["in/hidden"].mean(1) @ own.T, arrays["in/modality_sequence"].mean(1) @ other.T, 0.1)
    arrays.same(found, "info_nce/loss")


@pytest.mark.parametrize("causal", [False, True])
def test_a_turn_is_read_between_its_neighbours(causal: bool) -> None:
    """Every turn with those around it, by hand; one is silent, one too long to be read with others."""
    words = [torch.arange(n)[:, None] + 5.0 for n in (3, 2, 0, 4, 20, 3, 2)]
    settings = {
        "model_type": "bert", "vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 8,
        "max_position_embeddings": 21,
    }  # fmt: skip
    config = UniMSEConfig(causal=causal, modality=3, bottleneck=4)
    config = replace(config, language_model=replace(config.language_model, settings=settings))
    model = build(UniMSE, {"audio": 2}, 3, config, sequences={"text": (1,)})
    for value in model.parameters():
        value.data.normal_(0, 0.3)
    sizes = (5, 2)
    turns = [torch.zeros(n, dtype=torch.long) for n in sizes]
    batch = replace(batch_of(turns, turns, audio=torch.randn(7, 2).double()), sequences={"text": Ragged.of(words)})
    given = model.given(batch)
    beside, _ = model.attached(given)
    found, _ = model.text_states(given, beside)
    for row in range(7):
        start, end = (0, 5) if row < 5 else (5, 7)
        around = list(range(max(start, row - 2), min(end, row + 1 + 2 * (not causal))))
        around = around if sum(len(words[i]) for i in around) <= 21 else [row]
        ids = torch.cat([words[i] for i in around])[None]
        if not len(words[row]):
            assert not found[row].any()
            continue
        with model.text.model.adapted(list(model.text.adapters), beside[row].expand(1, ids.shape[1], -1)):
            states, _ = model.text.model.states(ids, torch.ones(ids.shape[:2], dtype=torch.bool))
        place = sum(len(words[i]) for i in around if i < row)
        torch.testing.assert_close(found[row], states[0, place], rtol=0, atol=1e-10)
    trained = {name.split(".layer.")[1][0] for name, p in model.named_parameters() if ".layer." in name and p.requires_grad}
    assert trained == {"2", "3"} and model.causal == causal
