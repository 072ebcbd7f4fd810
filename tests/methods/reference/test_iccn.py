"""After ICCN: the canonical correlation against arrays from its definition, and the whole by loop, with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.methods.iccn import ICCN, ICCNConfig, correlations
from tests.methods.reference.conftest import SPEAKERS, Reference, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def test_correlations_are_those_of_the_definition(reference: Callable[[str], Reference]) -> None:
    arrays = reference("iccn")
    one, two = arrays["in/H1"], arrays["in/H2"]
    here = torch.ones(len(one), dtype=torch.bool)
    found = correlations(one, two, here).to(one.dtype)
    arrays.same(found, "mid/singular_values")
    assert torch.allclose(found, torch.linalg.svdvals(arrays["mid/T"]), atol=1e-5)
    arrays.same(found.sum(), "clean:nuclear_norm")
    arrays.same(found[:2].sum(), "clean:top2")
    more = [torch.cat([rows, torch.full_like(rows[:3], 7.0)]) for rows in (one, two)]  # what is not here counts nowhere
    assert torch.allclose(correlations(*more, torch.cat([here, ~here[:3]])), found.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 2, 9])
def test_the_gradient_is_finite_for_any_number_of_rows(rows: int) -> None:
    one, two = (torch.randn(9, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    here = torch.arange(9) < rows
    total = correlations(one, two, here).sum()
    assert all(part.isfinite().all() for part in torch.autograd.grad(total, [one, two]))
    assert rows < 9 or torch.autograd.gradcheck(lambda a, b: correlations(a, b, here).sum(), (one, two))


def root(matrix: Tensor) -> Tensor:
    """The inverse of the symmetric root."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**-0.5) @ vectors.T


def loop(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores and penalty by Eqs. (1)-(6), utterance by utterance."""
    scores, k = [], {m: {} for m in model.others}
    for i in range(batch.utterances):
        h = {m: torch.tanh(model.vectors[m][0](batch.features[m][i])) for m in batch.features if batch.present[m][i]}
        for m in model.others:
            if "text" in h and m in h:
                image = torch.stack([h["text"][row] * h[m] for row in range(len(h["text"]))])[None, None]
                for layer in (0, 3):
                    image = F.conv2d(image, model.convolve[m][layer].weight, model.convolve[m][layer].bias, padding=1).clamp(min=0)
                    image = F.pad(image, (0, image.shape[3] % 2, 0, image.shape[2] % 2))
                    image = image.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
                k[m][i] = model.project[m](image.flatten())
        text = h["text"] if "text" in h else model.missing.vectors["text"] if h else torch.zeros(model.config.text_width).double()
        e = torch.cat([text, *(k[m].get(i, torch.zeros(model.config.units).double()) for m in model.others)])
        scores.append(model.classify[1](e))
    found = []
    for m, n in combinations(model.others, 2):
        rows = sorted(k[m].keys() & k[n].keys())
        one, two = (torch.stack([k[name][i] for i in rows]) for name in (m, n))
        both = torch.cat([one, two], 1).T.cov() + 1e-3 * torch.eye(2 * one.shape[1]).double()
        size = one.shape[1]
        found.append(torch.linalg.matrix_norm(root(both[:size, :size]) @ both[:size, size:] @ root(both[size:, size:]), "nuc") / size)
    return torch.stack(scores), -model.config.weight * sum(found, torch.zeros(()).double()) / max(1, len(found))


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4, "text": 3}, {"text": 4}])
@pytest.mark.parametrize("graph", ["none", "speaker"])
def test_equations_by_loop(widths: dict[str, int], graph: str) -> None:
    model = build(ICCN, widths, 3, ICCNConfig(graph=graph, text_width=7, width=5, units=3, weight=0.7))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.2)
    given = model.given(batch)
    penalty = torch.as_tensor(model.penalty(model.products(given)[1], given), dtype=torch.double)
    if graph == "none":
        scores, wanted = loop(model, batch)
        equal(torch.cat([model(batch).scores.flatten(), penalty[None]]), torch.cat([scores.flatten(), wanted[None]]), model)
    assert model.utterance_level == (graph == "none") and bool(penalty) == (len(widths) > 2)
    assert torch.equal(torch.as_tensor(model.train()(batch).penalty, dtype=torch.double), penalty)


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected text, which ICCN multiplies with the other modalities, found audio, visual"):
        build(ICCN, {"audio": 3, "visual": 2}, 3, ICCNConfig())
