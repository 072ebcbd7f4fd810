"""Speaker context: the equations by loop, node by node."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.speaker_context import SpeakerContext, SpeakerContextConfig
from tests.methods.reference.conftest import SPEAKERS, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
WINDOW = 10  # of the recipe `dialoguegcn`, whose edges leave out the utterance itself


def read(net: Any, rows: list[Tensor]) -> list[Tensor]:
    """A network over one sequence."""
    zeros = torch.zeros(len(rows), dtype=torch.long)
    return list(net.read(torch.stack(rows), batch_of([zeros], [zeros])))


def attention(layer: Any, n: dict[int, Tensor], target: int, sources: list[int]) -> Tensor:
    """Dot-product attention over some nodes, head by head, with the map of the target's own state."""
    query, key, value = (lambda i, part=part: part(n[i]).view(layer.heads, -1) for part in (layer.query, layer.key, layer.value))
    heads = []
    for h in range(layer.heads):
        if not sources:
            heads.append(torch.zeros_like(query(target)[h]))
            continue
        size = query(target).shape[-1] ** 0.5
        weights = torch.stack([query(target)[h] @ key(j)[h] / size for j in sources]).softmax(0)
        heads.append(sum(weight * value(j)[h] for weight, j in zip(weights, sources, strict=True)))
    return torch.cat(heads) + layer.skip(n[target])


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5)."""
    scores, names = [], tuple(batch.features)
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        turns = range(first, last)
        features: dict[int, list[Tensor]] = {i: [] for i in turns}
        for m in names:
            spoken = [batch.features[m][i] for i in turns if batch.present[m][i]]
            for i in turns:
                if batch.present[m][i]:
                    features[i] += [batch.features[m][i], batch.features[m][i] - sum(spoken) / len(spoken)]
                else:
                    features[i] += [model.missing.vectors[m], torch.zeros_like(batch.features[m][i])]
        x = {i: model.project(torch.cat(features[i])) for i in turns}  # Eq. (1)
        here = {i: any(bool(batch.present[m][i]) for m in names) for i in turns}
        c = dict(zip(turns, read(model.context, list(x.values())), strict=True))
        z = {}
        for speaker in set(batch.speaker[first:last].tolist()):
            own = [i for i in turns if batch.speaker[i] == speaker]
            read_as = [x[i] if here[i] else torch.zeros_like(x[i]) for i in own]
            z |= dict(zip(own, read(model.own.net, read_as), strict=True))  # Eq. (2)
        n = {i: model.join(torch.cat([c[i], z[i]])) for i in turns}  # Eq. (3)
        for i in turns:
            states = [n[i]]
            if model.attend is not None:
                heard = [j for j in turns if j != i and abs(i - j) <= WINDOW and here[j] and here[i]]
                states.append(model.norm(n[i] + attention(model.attend, n, i, heard).relu()))  # Eq. (4)
            state = torch.cat(states)
            scores.append(model.classify(state if here[i] else torch.zeros_like(state)))  # Eq. (5)
    return torch.stack(scores)


@pytest.mark.parametrize("graph", ["dialoguegcn", "none"])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"text": 4}])
def test_equations_by_loop(widths: dict[str, int], graph: str) -> None:
    model = build(SpeakerContext, widths, 3, SpeakerContextConfig(graph=graph, width=6, heads=2, dropout=0.0))
    stir(model)
    batch = random_batch((*SPEAKERS, [0, 1] * 8), widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
