from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erc_graph.conv import compiled
from erc_graph.conv.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import FOLDERS, load_recipe
from tests.conv.test_angular import make_batch

pytestmark = pytest.mark.skipif(not compiled.ready(), reason="no C compiler")
RECIPES = sorted(path.stem for folder in FOLDERS for path in folder.glob("*.toml"))


def outcome(conv: AngularConv, states: Tensor, present: Tensor, batch: Batch, recipe: str, *, expanded: bool = False) -> list[Tensor]:
    """The output, and the gradients of states and of every weight."""
    torch.manual_seed(1)
    states = states.detach().requires_grad_()
    conv.zero_grad()
    output = conv(states, present, batch, load_recipe(recipe))
    weight = torch.ones(()) if expanded else torch.randn(output.shape)
    (output * weight).sum().backward() if not expanded else output.sum().backward()
    assert states.grad is not None
    return [output.detach(), states.grad, *(p.grad for p in conv.parameters() if p.grad is not None)]


def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "ready", lambda: False)


def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per pass of the compiled form, whether it was the backward pass."""
    found: list[bool] = []
    run = compiled.Plan.run

    def counted(plan: compiled.Plan, threads: int, tensors: Mapping[str, Tensor | None], grad: Tensor | None = None) -> None:
        found.append(grad is not None)
        run(plan, threads, tensors, grad)

    monkeypatch.setattr(compiled.Plan, "run", counted)
    return found


def agree(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * max(1.0, float(b.abs().max())))


def some(lengths: tuple[int, ...], streams: int, width: int) -> tuple[Batch, Tensor, Tensor]:
    torch.manual_seed(0)
    batch = make_batch(*lengths)
    present = torch.rand(batch.utterances, streams) < 0.8
    states = torch.randn(batch.utterances, streams, width)
    if batch.utterances > 3:
        states[1], states[2] = states[0], -states[0]  # cosines of one and minus one
        states[3] = 0
    return batch, states, present


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("residual", [True, False])
def test_equal_to_the_batched_form(recipe: str, dropout: float, residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((7, 1, 12, 3, 20), 3, 24)
    conv = AngularConv(24, AngularConvConfig(depth=3, residual=residual), dropout=dropout)
    passes = calls(monkeypatch)
    fast = outcome(conv, states, present, batch, recipe)
    assert passes == [False, True]
    batched(monkeypatch)
    agree(fast, outcome(conv, states, present, batch, recipe))
    assert len(passes) == 2


@pytest.mark.parametrize("lengths", [(1,), (300,), (2, 2, 2), (5, 40, 90, 1, 33), (4, 0, 3)])
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("width", [1, 50])
def test_sizes(lengths: tuple[int, ...], streams: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some(lengths, streams, width)
    conv = AngularConv(width, AngularConvConfig(depth=2))
    fast = outcome(conv, states, present, batch, "pairwise")
    batched(monkeypatch)
    agree(fast, outcome(conv, states, present, batch, "pairwise"))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((9, 30, 2, 14), 2, 16)
    conv = AngularConv(16, AngularConvConfig(depth=2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, second = (outcome(conv, states, present, batch, "speaker") for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    batched(monkeypatch)
    agree(first, outcome(conv, states, present, batch, "speaker"))


def test_strides_of_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 11), 3, 8)
    conv = AngularConv(8, AngularConvConfig(depth=2))
    turned, there = states.transpose(0, 1).contiguous().transpose(0, 1), present.T.contiguous().T
    assert not turned.is_contiguous()
    assert not there.is_contiguous()
    fast = outcome(conv, turned, there, batch, "pairwise", expanded=True)
    batched(monkeypatch)
    agree(fast, outcome(conv, states, present, batch, "pairwise", expanded=True))


def test_a_dialogue_is_the_same_alone_and_in_a_batch() -> None:
    batch, states, present = some((60, 90, 40), 2, 32)  # groups of their own
    conv = AngularConv(32, AngularConvConfig(depth=2)).eval()
    recipe = load_recipe("pairwise")
    together = conv(states, present, batch, recipe)
    alone = conv(states[60:150], present[60:150], make_batch(90), recipe)
    torch.testing.assert_close(together[60:150], alone, rtol=1e-6, atol=1e-6)


def test_what_is_not_a_number_shows() -> None:
    batch, states, present = some((6, 5), 2, 8)
    states[7] = torch.nan
    output = AngularConv(8, AngularConvConfig())(states, torch.ones_like(present), batch, load_recipe("pairwise"))
    assert output[6:].isnan().any()
    assert not output[:6].isnan().any()


def test_states_that_need_no_gradient() -> None:
    batch, states, present = some((6, 5), 2, 8)
    conv = AngularConv(8, AngularConvConfig(), dropout=0.3)
    conv(states, present, batch, load_recipe("pairwise")).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())


@pytest.mark.parametrize(("threads", "dialogues", "workers"), [(1, 1, 1), (1, 9, 1), (2, 1, 2), (4, 1, 2), (4, 3, 3), (4, 9, 4)])
def test_a_single_dialogue_has_two_workers_so_that_its_products_are_not_shared_out(
    threads: int, dialogues: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert compiled._workers(dialogues) == workers


def test_one_long_dialogue_is_left_to_the_products_that_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert compiled.fits([1000, 900], 1)
    assert compiled.fits([1000, 400], 1)
    assert not compiled.fits([1000, 300], 1)
    assert compiled.fits([100], 3)  # so few rows that it does not matter
    assert not compiled.fits([1000], 3)
    assert not compiled.fits([], 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert compiled.fits([1000], 3)


@pytest.mark.parametrize("what", ["float64", "autocast", "pyg", "long", "compiler"])
def test_everything_else_goes_another_way(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = calls(monkeypatch)
    batch, states, present = some((6, 5), 2, 8)
    conv = AngularConv(8, AngularConvConfig(method="pyg" if what == "pyg" else "block"))
    if what == "compiler":
        batched(monkeypatch)
    if what == "long":
        monkeypatch.setattr("erc_graph.conv.propagation.MANY", 10)
    if what == "float64":
        conv, states = conv.double(), states.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
        conv(states, present, batch, load_recipe("pairwise"))
    assert passes == []


def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def run(*_: object) -> int:
            return 1

    monkeypatch.setattr(compiled, "library", lambda _: Full)
    batch, states, present = some((6, 5), 2, 8)
    with pytest.raises(MemoryError, match="no memory for the layers of the graph convolution"):
        AngularConv(8, AngularConvConfig())(states, present, batch, load_recipe("pairwise"))


def test_the_source_is_where_it_is_looked_for() -> None:
    assert Path(compiled.__file__).with_name("compiled.c") == compiled.SOURCE
    assert compiled.SOURCE.is_file()
