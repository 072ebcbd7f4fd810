"""Losses that papers add, against loops."""

from __future__ import annotations

import pytest
import torch

from erc_graph.methods.penalties import density, margin_loss


def by_triples(states: torch.Tensor, modality: torch.Tensor, target: torch.Tensor, margin: float) -> torch.Tensor:
    total, count = torch.zeros((), dtype=states.dtype), 0
    for i in range(len(states)):
        for j in range(len(states)):
            for k in range(len(states)):
                if modality[i] == modality[j] or modality[i] != modality[k] or target[i] != target[j] or target[i] == target[k]:
                    continue
                near = torch.cosine_similarity(states[i], states[j], 0)
                far = torch.cosine_similarity(states[i], states[k], 0)
                total, count = total + (margin - near + far).clamp(min=0), count + 1
    return total / max(1, count)


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5, 3.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_margin_loss_is_that_of_the_triples(margin: float, seed: int) -> None:
    """Value and gradient, with modalities that some utterances lack."""
    random = torch.Generator().manual_seed(seed)
    modality, target = torch.randint(0, 3, (16,), generator=random), torch.randint(0, 3, (16,), generator=random)
    states = torch.randn(16, 4, generator=random, dtype=torch.float64)
    one, two = states.clone().requires_grad_(), states.clone().requires_grad_()
    found, expected = margin_loss(one, modality, target, margin), by_triples(two, modality, target, margin)
    assert float(expected.detach()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(margin_loss(states.float(), modality, target, margin).double(), expected.detach(), rtol=0, atol=1e-5)


def test_many_samples_and_no_triple() -> None:
    """384 samples have 7 million triples; each i against all j and k at once."""
    random = torch.Generator().manual_seed(0)
    modality, target = torch.arange(384) % 3, torch.randint(0, 6, (384,), generator=random)
    states = torch.randn(384, 8, generator=random)
    unit = torch.nn.functional.normalize(states.double(), dim=-1)
    cosine = unit @ unit.T
    total, count = 0.0, 0
    for i in range(384):
        near = cosine[i][(modality != modality[i]) & (target == target[i])]
        far = cosine[i][(modality == modality[i]) & (target != target[i])]
        total += float((0.2 - near[:, None] + far).clamp(min=0).sum())
        count += len(near) * len(far)
    assert float(margin_loss(states, modality, target)) == pytest.approx(total / count, abs=1e-5)
    for keep in (modality == 0, target == 1, modality > 2):  # one modality, one class, nothing
        alone = states[keep].requires_grad_()
        loss = margin_loss(alone, modality[keep], target[keep])
        loss.backward()
        assert float(loss.detach()) == 0 and alone.grad is not None and not alone.grad.any()


def test_special_states_and_half_precision() -> None:
    modality, target = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    for states in (torch.zeros(4, 3), torch.ones(4, 3), torch.randn(4, 3).bfloat16()):
        states = states.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = margin_loss(states, modality, target)
        loss.backward()
        assert loss.dtype is torch.float32 and loss.isfinite() and states.grad is not None and states.grad.isfinite().all()


def test_density_is_the_printed_norm_over_the_entries() -> None:
    states = torch.tensor([[1.0, -2.0, 0.0], [3.0, -4.0, 2.0]], requires_grad=True)
    assert density(states).item() == pytest.approx(2.0)
    assert density(states, "sum").item() == pytest.approx(12.0)
    density(states, "sum").backward()
    assert states.grad is not None
    assert states.grad.tolist() == [[1, -1, 0], [1, -1, 1]]
