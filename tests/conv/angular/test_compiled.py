from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erc_graph.conv import compiler
from erc_graph.conv.angular import compiled
from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import load_recipe
from tests.conv.angular.test_angular import WINDOWED, ask, make_batch, operator

POSSIBLE = any(map(shutil.which, compiler.COMPILERS)) and compiler.sgemm() is not None
pytestmark = pytest.mark.skipif(not POSSIBLE, reason="no C compiler")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """One entry per pass of the compiled form: whether it was the backward pass."""
    found: list[bool] = []
    run = compiled.Plan.run

    def counting(plan: compiled.Plan, threads: int, tensors: Mapping[str, Tensor | None], grad: Tensor | None = None) -> None:
        found.append(grad is not None)
        run(plan, threads, tensors, grad)

    with monkeypatch.context() as patch:
        patch.setattr(compiled.Plan, "run", counting)
        yield found


def outcome(conv: AngularConv, states: Tensor, present: Tensor, batch: Batch, *, summed: bool = False) -> list[Tensor]:
    """The output, and the gradients of states and of every weight."""
    torch.manual_seed(1)
    states = states.detach().requires_grad_()
    conv.zero_grad()
    output = ask(conv, states, present, batch)
    output.backward(torch.ones(()).expand(output.shape) if summed else torch.randn(output.shape))
    assert states.grad is not None
    return [output.detach(), states.grad, *(p.grad for p in conv.parameters() if p.grad is not None)]


def compare(
    monkeypatch: pytest.MonkeyPatch,
    conv: AngularConv,
    states: Tensor,
    present: Tensor,
    batch: Batch,
    *,
    summed: bool = False,
) -> None:
    """Both passes are compiled, and what comes out is what comes out without."""
    with counted(monkeypatch) as passes:
        fast = outcome(conv, states, present, batch, summed=summed)
        assert passes == [False, True]
        with compiled.without():
            slow = outcome(conv, states.contiguous(), present.contiguous(), batch, summed=summed)
        assert len(passes) == 2
    assert len(fast) == len(slow) == 2 + len(list(conv.parameters()))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * max(1.0, float(b.nan_to_num().abs().max())), equal_nan=True)


def some(lengths: tuple[int, ...], streams: int, width: int) -> tuple[Batch, Tensor, Tensor]:
    torch.manual_seed(0)
    batch = make_batch(*lengths)
    present = torch.rand(batch.utterances, streams) < 0.8
    states = torch.randn(batch.utterances, streams, width)
    if batch.utterances > 3:
        states[1], states[2] = states[0], -states[0]  # cosines of one and minus one
        states[3] = 0
    return batch, states, present


def test_there_is_a_compiled_form_where_there_is_a_compiler() -> None:
    assert compiled.ready()


def test_the_compiler_has_nothing_to_say(tmp_path: Path) -> None:
    command = ["gcc", *compiler.FLAGS, "-Wall", "-Wextra", "-Werror", "-c", str(compiled.SOURCE), "-o", str(tmp_path / "object.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_recipes() -> None:
    assert len(WINDOWED) >= 5


@pytest.mark.parametrize("recipe", WINDOWED)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("residual", [True, False])
def test_equal_to_the_batched_form(recipe: str, dropout: float, residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    conv = operator(24, load_recipe(recipe), AngularConvConfig(depth=3, residual=residual), dropout=dropout)
    batch, states, present = some((7, 1, 12, 3, 20), 3, 24)
    compare(monkeypatch, conv, states, present, batch)


@pytest.mark.parametrize("lengths", [(1,), (150, 149), (2, 2, 2), (5, 40, 90, 1, 83), (4, 0, 3)])
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("width", [1, 50])
def test_sizes(lengths: tuple[int, ...], streams: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some(lengths, streams, width)
    compare(monkeypatch, operator(width, config=AngularConvConfig(depth=2)), states, present, batch)


@pytest.mark.parametrize("hidden", [5, 40])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("variant", [True, False])
def test_layers_of_another_width_and_form(
    hidden: int, dropout: float, residual: bool, variant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, states, present = some((7, 1, 12, 3, 20), 3, 16)
    config = AngularConvConfig(depth=3, residual=residual, variant=variant)
    compare(monkeypatch, operator(16, config=config, hidden=hidden, dropout=dropout), states, present, batch)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((9, 30, 2, 14), 2, 16)
    conv = operator(16, load_recipe("speaker"), AngularConvConfig(depth=2))
    torch.set_num_threads(threads)
    first, second = (outcome(conv, states, present, batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    compare(monkeypatch, conv, states, present, batch)


@pytest.mark.parametrize("depth", [1, 2])
def test_strides_of_all_kinds(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 11), 3, 8)
    turned, there = states.transpose(0, 1).contiguous().transpose(0, 1), present.T.contiguous().T
    assert not turned.is_contiguous()
    assert not there.is_contiguous()
    compare(monkeypatch, operator(8, config=AngularConvConfig(depth=depth)), turned, there, batch, summed=True)


def test_degrees_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 11), 2, 8)
    recipe = load_recipe("pairwise")
    tiny = replace(recipe, edges=tuple(replace(rule, scale=1e-14) for rule in recipe.edges))
    compare(monkeypatch, operator(8, tiny, AngularConvConfig(depth=2)), states, present, batch)


def test_states_that_need_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 5), 2, 8)
    conv, found = operator(8, dropout=0.3), []
    for slow in (False, True):
        conv.zero_grad()
        torch.manual_seed(1)
        with counted(monkeypatch) as passes, compiled.without() if slow else monkeypatch.context():
            ask(conv, states, present, batch).sum().backward()
        assert len(passes) == (0 if slow else 2)
        found.append([p.grad for p in conv.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_is_not_a_number_shows_and_stays_in_its_dialogue(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 5), 2, 8)
    states[7] = torch.nan
    present[:] = True
    conv = operator(8, config=AngularConvConfig(residual=False), dropout=dropout)
    output = ask(conv, states, present, batch)
    assert output[6:].isnan().all()
    assert not output[:6].isnan().any()
    compare(monkeypatch, conv, states, present, batch)


@pytest.mark.parametrize("recipe", ["pairwise", "mmgcn", "speaker"])
def test_a_propagation_written_as_a_loop(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer whose own matrix hardly counts is `P` of the first state; `P` edge by edge from the rules, in float64."""
    batch, states, present = some((5, 8), 2, 6)
    chosen = load_recipe(recipe)
    conv = operator(6, chosen, AngularConvConfig(depth=1, alpha=0.0, lambda_=1e-12, residual=False))
    with torch.no_grad():
        conv.first.weight.copy_(torch.eye(6))
        conv.first.bias.fill_(20)  # nothing is below zero
    with counted(monkeypatch) as passes:
        found = ask(conv, states, present, batch)
    assert passes == [False]
    unit = states.double() / states.double().norm(dim=-1, keepdim=True).clamp(min=1e-30)
    expected = torch.zeros(13, 2, 6, dtype=torch.float64)
    for start, end in pairwise(batch.ptr.tolist()):
        nodes = [(i, s) for i in range(start, end) for s in range(2) if present[i, s]]
        weight = {}
        for i, s in nodes:
            for j, r in nodes:
                for rule in chosen.edges:
                    same = bool(batch.speaker[i] == batch.speaker[j])
                    if (
                        (s == r) == (rule.scope == "within")
                        and (rule.past is None or i - j <= rule.past)
                        and (rule.future is None or j - i <= rule.future)
                        and (rule.self_loops or i != j)
                        and (rule.speaker == "any" or same == (rule.speaker == "same"))
                    ):
                        cosine = float(unit[i, s] @ unit[j, r])
                        similarity = 1 - torch.tensor(cosine).clamp(-1, 1).acos().item() / torch.pi
                        value = rule.scale * (similarity if rule.weight == "angular" else 1.0)
                        weight[i, s, j, r] = weight.get((i, s, j, r), 0.0) + value
        degree = {node: sum(v for (i, s, _, _), v in weight.items() if (i, s) == node) for node in nodes}
        for (i, s, j, r), value in weight.items():
            expected[i, s] += value / (degree[i, s] * degree[j, r]) ** 0.5 * (states[j, r].double() + 20)
    torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=5e-3)  # the printed arccos differs by up to 0.0015


def test_nothing_flows_back_from_the_future() -> None:
    batch, states, present = some((9,), 2, 8)
    present[:] = True
    states.requires_grad_()
    ask(operator(8, load_recipe("causal"), AngularConvConfig(residual=False)), states, present, batch)[:5].sum().backward()
    assert states.grad is not None
    assert (states.grad[5:] == 0).all()
    assert (states.grad[:5] != 0).any()


def test_a_dialogue_is_the_same_alone_and_in_a_batch() -> None:
    batch, states, present = some((60, 90, 40), 2, 32)
    conv = operator(32, config=AngularConvConfig(depth=2)).eval()
    together = ask(conv, states, present, batch)
    alone = ask(conv, states[60:150], present[60:150], make_batch(90))
    torch.testing.assert_close(together[60:150], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("slow", [False, True])
def test_what_is_changed_before_the_backward_pass_is_noticed(slow: bool) -> None:
    batch, states, present = some((6, 5), 2, 8)
    states.requires_grad_()
    with compiled.without() if slow else pytest.MonkeyPatch.context():
        output = operator(8)(Nodes(states, torch.ones_like(present), ("audio", "text"), whole=True), batch).states
    with torch.no_grad():
        states.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_presence_that_is_changed_before_the_backward_pass_is_noticed() -> None:
    batch, states, present = some((6, 5), 2, 8)
    output = ask(operator(8), states.requires_grad_(), present, batch)
    present[0] = False
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_twice_backward_and_no_gradient_of_a_gradient() -> None:
    batch, states, present = some((6, 5), 2, 8)
    output = ask(operator(8), states.requires_grad_(), present, batch).square().sum()
    once, twice = (torch.autograd.grad(output, states, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, twice)
    (grad,) = torch.autograd.grad(output, states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_inside_another_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 5), 2, 8)
    conv = operator(8, dropout=0.3)
    torch.manual_seed(0)
    expected = ask(conv, states, present, batch)
    torch.manual_seed(0)
    with torch.device("meta"), counted(monkeypatch) as passes:
        found = ask(conv, states, present, batch)
    assert passes == [False]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "what",
    ["float64", "autocast", "list", "long", "without", "weights", "width 4", "width 16", "few rows", "many rows", "streams 1", "mask"],
)
def test_everything_else_goes_another_way(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, states, present = some((6, 5), 2, 8)
    conv = operator(8, layout="list" if what == "list" else "auto")
    if what == "long":
        monkeypatch.setattr("erc_graph.conv.angular.propagation.MANY", 10)
    if what == "float64":
        conv, states = conv.double(), states.double()
    if what == "weights":
        conv.weights[1].data = conv.weights[1].data.double()
    states = {"width 4": torch.randn(11, 2, 4), "width 16": torch.randn(11, 2, 16)}.get(what, states)
    rows = {"few rows": 7, "many rows": 20}.get(what, 11)
    states, present = states[:1].expand(rows, -1, -1) if rows != 11 else states, torch.ones(rows, 1 if what == "streams 1" else 2) > 0
    present = present.float() if what == "mask" else present
    refused = what in ("weights", "width 4", "width 16", "few rows", "many rows", "streams 1", "mask")
    with (
        counted(monkeypatch) as passes,
        torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"),
        compiled.without() if what == "without" else monkeypatch.context(),
        pytest.raises((RuntimeError, IndexError)) if refused else monkeypatch.context(),
    ):
        ask(conv, states, present, batch)
    assert passes == []


@pytest.mark.parametrize(("threads", "dialogues", "workers"), [(1, 1, 1), (1, 9, 1), (2, 1, 2), (4, 1, 2), (4, 3, 3), (4, 9, 4)])
def test_a_single_dialogue_has_two_workers_so_that_its_products_are_not_shared_out(threads: int, dialogues: int, workers: int) -> None:
    torch.set_num_threads(threads)
    assert compiled._workers(dialogues) == workers


@pytest.mark.parametrize(
    ("lengths", "streams", "threads", "fits"),
    [
        ((1000, 900), 1, 2, True),
        ((1000, 400), 1, 2, True),
        ((1000, 300), 1, 2, False),
        ((100,), 3, 2, True),  # so few rows that it does not matter
        ((1000,), 3, 2, False),
        ((1000,), 3, 1, True),
        ((), 1, 2, False),
    ],
)
def test_one_long_dialogue_is_left_to_the_products_that_share_it(lengths: tuple[int, ...], streams: int, threads: int, fits: bool) -> None:
    torch.set_num_threads(threads)
    rows = sum(lengths)
    ptr = torch.tensor([0, *accumulate(lengths)])
    batch = replace(make_batch(1), ptr=ptr, speaker=torch.zeros(rows, dtype=torch.long), sizes=lengths)
    states, weights = torch.zeros(rows, streams, 4), [torch.zeros(4, 4), torch.zeros(4)]
    assert compiled.fits(batch, states, states, torch.ones(rows, streams) > 0, weights) is fits


def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        @staticmethod
        def run(*_: object) -> int:
            return 1

    monkeypatch.setattr(compiled, "library", lambda *_: Full)
    batch, states, present = some((6, 5), 2, 8)
    with pytest.raises(MemoryError, match="the graph convolution could not allocate memory for its layers"):
        ask(operator(8), states, present, batch)
