from __future__ import annotations

import pytest
import torch

from erc_graph.training.config import TrainingConfig
from erc_graph.training.schedule import POOL, batch_order, plateau, rate

LENGTHS = torch.randint(1, 100, (1000,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dialogues", "batch_size"), [(1000, 16), (17, 16), (1, 4), (5, 1), (33, 32), (5, 2**63 - 1), (5, 2**80)])
def test_every_dialogue_once_and_even_batches(dialogues, batch_size):
    batches = batch_order(LENGTHS[:dialogues], batch_size, (1, 0, 0))
    assert sorted(torch.cat(batches).tolist()) == list(range(dialogues))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-dialogues // batch_size)


def test_order_depends_on_the_epoch_alone():
    def order(*seed):
        return torch.cat(batch_order(LENGTHS, 16, seed)).tolist()

    torch.manual_seed(0)
    one = order(1, 0, 3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert order(1, 0, 3) == one
    assert torch.equal(state, torch.get_rng_state())
    assert len({tuple(order(*seed)) for seed in ((1, 0, 3), (1, 0, 4), (1, 1, 3), (2, 0, 3))}) == 4


def test_little_padding_but_mixed():
    batches = batch_order(LENGTHS, 16, (1, 0, 0))
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.2 * int(LENGTHS.sum())
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).tensor_split(len(batches))
    assert sum(int(LENGTHS[batch].max()) * len(batch) for batch in shuffled) > 1.6 * int(LENGTHS.sum())
    neighbours = [set(batch.tolist()) for batch in batches]
    again = [set(batch.tolist()) for batch in batch_order(LENGTHS, 16, (1, 0, 1))]
    assert max(len(a & b) for a in neighbours for b in again) < 10
    assert POOL > 1


@pytest.mark.parametrize("budget", [1, 50, 400, 3000, 2**80])
@pytest.mark.parametrize("batch_size", [4, 16, 2**63 - 1])
def test_a_budget_of_utterances(batch_size, budget):
    batches = batch_order(LENGTHS, batch_size, (1, 0, 0), budget)
    assert sorted(torch.cat(batches).tolist()) == list(range(1000))
    for batch in batches:
        padded = int(LENGTHS[batch].max()) * len(batch)
        assert len(batch) == 1 or (padded <= budget and len(batch) <= batch_size)
    order = [batch.tolist() for batch in batches]
    assert order == [batch.tolist() for batch in batch_order(LENGTHS, batch_size, (1, 0, 0), budget)]
    if len(batches) > 1:
        assert order != [batch.tolist() for batch in batch_order(LENGTHS, batch_size, (1, 0, 1), budget)]


def test_a_budget_leaves_little_padding():
    batches = batch_order(LENGTHS, 1000, (1, 0, 0), 800)
    turns = torch.tensor([int(LENGTHS[batch].sum()) for batch in batches]).float()
    padded = torch.tensor([float(LENGTHS[batch].max() * len(batch)) for batch in batches])
    assert padded.sum() < 1.15 * turns.sum()
    assert len({len(batch) for batch in batches}) > 5  # short dialogues stand together in greater number


def test_no_budget_is_the_order_of_old():
    for size in (4, 16):
        plain, none = batch_order(LENGTHS, size, (3, 1, 2)), batch_order(LENGTHS, size, (3, 1, 2), 0)
        assert [batch.tolist() for batch in plain] == [batch.tolist() for batch in none]
    assert batch_order(LENGTHS[:9], 4, (3, 1, 2))[0].tolist() == [7, 2, 5]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rate(schedule):
    config = TrainingConfig(schedule=schedule, warmup=0.1)
    rates = [rate(step, 100, config) for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and 0 < rates[0] < 0.1 < rates[9] < 1
    assert rates[10] == 1.0
    assert rates[100] == pytest.approx(1.0 if schedule == "constant" else 0.0)
    assert rates[55] == pytest.approx(1.0 if schedule == "constant" else 0.5)
    assert [rate(step, 5, TrainingConfig()) for step in range(5)] == [1.0] * 5
    assert rate(4, 5, TrainingConfig(warmup=1.0)) < 1


def test_a_step_is_a_tenth_in_the_second_half():
    config = TrainingConfig(schedule="step")
    assert [rate(step, 40, config) for step in range(40)] == 20 * [1.0] + 20 * [0.1]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("wait", [0, 1, 3])
def test_plateau_is_that_of_pytorch(lower, wait):
    figures = torch.randint(0, 6, (40,), generator=torch.Generator().manual_seed(wait)).tolist()  # with ties
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    mode = "min" if lower else "max"
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=wait, threshold=0.0, eps=0.0)
    for epoch, figure in enumerate(figures):
        oracle.step(figure)
        found = plateau(figures[: epoch + 1], lower=lower, wait=wait, factor=0.5)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"])
    assert found < 0.01
