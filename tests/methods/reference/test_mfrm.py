"""After MFRM: the equations by loop, turn by turn, with modalities that are missing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.methods.mfrm import MFRM, MFRMConfig
from tests.methods.reference.conftest import SPEAKERS, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def read(net: Any, rows: list[Tensor]) -> list[Tensor]:
    """A recurrent net in the one or two directions that it has."""
    found = []
    for direction, gru in enumerate(net.nets(0)):
        states, _ = gru(torch.stack(rows[:: -1 if direction else 1])[None])
        found.append(states[0].flip(0) if direction else states[0])
    return list(torch.cat(found, -1))


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5), dialogue by dialogue and turn by turn."""
    scores, names, width = [], model.names, model.config.width
    for start, end in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        turns = range(start, end)
        here = {m: [bool(batch.present[m][i]) for i in turns] for m in names}
        x = {m: [batch.features[m][i] if batch.present[m][i] else torch.zeros_like(batch.features[m][i]) for i in turns] for m in names}
        h = {m: [model.project[m](row) for row in read(model.read[m], x[m])] for m in names}
        state = torch.zeros(width).double()
        for t in range(len(turns)):
            scale: Tensor | float = 1.0
            if "audio" in names:
                last, a, known = t + 1 if model.config.causal else len(turns), h["audio"], {}
                for j in range(last):
                    if here["audio"][j]:
                        change = a[j] - a[j - 1] if j and here["audio"][j - 1] else torch.zeros(width).double()
                        known[j] = (model.intensity.strength(a[j]) + model.intensity.change(change)).squeeze()
                if model.config.causal:  # the mean of what was known at turn j
                    e = [known.get(j, sum(v for k, v in known.items() if k < j) / max(1, sum(k < j for k in known))) for j in range(last)]
                else:
                    e = [known.get(j, sum(known.values()) / max(1, len(known))) for j in range(last)]
                share = torch.stack([torch.as_tensor(value, dtype=torch.double) for value in e]).softmax(0)
                scale = 1 + last * share[t]
            own = {m: h[m][t] if here[m][t] else torch.zeros(width).double() for m in names}
            products = []
            for size in range(1, len(names) + 1):
                for subset in combinations(names, size):
                    product = torch.ones(width).double()
                    for m in subset:
                        product = product * (scale * own[m])
                    products.append(product)
            u = model.fuse(torch.cat(products)).clamp(min=0)
            cell = model.memory
            wg, wr, wc = cell.given.weight.split(width)
            bg, br, bc = cell.given.bias.split(width)
            vg, vr = cell.gates.weight.split(width)
            normed = cell.norm(state)
            gate, reset = torch.sigmoid(wg @ u + bg + vg @ normed), torch.sigmoid(wr @ u + br + vr @ normed)
            state = state + gate * torch.tanh(wc @ u + bc + cell.kept.weight @ (reset * normed))
            f = model.join(torch.cat([state, u, *own.values()])).clamp(min=0)
            scores.append(model.classify[1](f))
    return torch.stack(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4}, {"text": 4, "visual": 3}])
def test_equations_by_loop(widths: dict[str, int], causal: bool) -> None:
    model = build(MFRM, widths, 3, MFRMConfig(width=4, causal=causal))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)


def test_without_sound_all_turns_count_the_same_and_a_loud_one_more() -> None:
    model = build(MFRM, {"audio": 3}, 3, MFRMConfig(width=4))
    stir(model)
    batch = random_batch(((0, 1, 0, 1),), {"audio": 3}, classes=3, missing=0.0)
    rows = torch.randn(4, 1, 4, dtype=torch.double)
    scale = model.intensity(Nodes(rows, torch.ones(4, 1, dtype=torch.bool), ("audio",)), batch).states.flatten()
    assert abs(float((scale - 1).mean().detach()) - 1) < 1e-12 and float(scale.detach().std()) > 0
    scale = model.intensity(Nodes(rows, torch.zeros(4, 1, dtype=torch.bool), ("audio",)), batch).states.flatten()
    torch.testing.assert_close(scale, torch.full_like(scale, 2.0))
