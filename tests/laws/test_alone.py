"""A dialogue gives the same alone, in any batch, with any padding, in any order: scores, and all their gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.stage import infer
from tests.laws.cases import Case, conversations, every_case, first, leaves, over, scores, stir, stirred, whole, without_dropout

Ask = Callable[[nn.Module, Batch], Tensor]
LENGTHS = [3, 1, 5, 2, 8]  # the last is only company: longer than all, so that there is more padding


def check_alone(ask: Ask, module: nn.Module, batch: Batch) -> None:
    """Outputs, gradients of parameters and gradients of what is given do not depend on company, padding and order."""
    everything, given = leaves(batch)
    count = len(everything) - 1
    whole, order = everything.select(torch.arange(count)), torch.tensor([2, 0, 3, 1])
    weight: Tensor | None = None
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def run(batches: list[Batch]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        nonlocal weight
        values = [ask(module, batch) for batch in batches]
        rows = torch.cat([batch.row for batch in batches])
        found = torch.zeros(everything.utterances, values[0].shape[1], dtype=torch.float64).index_copy(0, rows, torch.cat(values))
        found = found[: whole.utterances]
        weight = torch.randn(found.shape, dtype=torch.float64) if weight is None else weight
        ends = [*parameters, *given.values()]
        gradients = torch.autograd.grad((found * weight).sum(), ends, retain_graph=True, allow_unused=True)
        filled = [torch.zeros_like(end) if part is None else part for end, part in zip(ends, gradients, strict=True)]
        return found.detach(), filled[: len(parameters)], filled[len(parameters) :]

    alone, of_parameters, of_inputs = run([whole.select(torch.tensor([i])) for i in range(count)])
    assert alone.isfinite().all()
    assert sum(float(part.abs().sum()) for part in [*of_parameters, *of_inputs]) > 0
    for other in ([everything], [whole.select(order)], [whole.select(order[:1]), whole.select(order[1:])]):
        value, gradients, inputs = run(other)
        torch.testing.assert_close(value, alone, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradients, of_parameters, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(inputs, of_inputs, rtol=1e-7, atol=1e-9)


@over(whole)
def test_alone_in_any_batch_in_any_order(case: Case) -> None:
    check_alone(scores, stirred(case), conversations(case, LENGTHS))


SEVERAL = [case for case in every_case() if len(case.build().stages()) > 1]


@over(whole, lambda case: case in SEVERAL)
def test_every_stage_alone_in_any_batch_in_any_order(case: Case) -> None:
    network = stirred(case)
    for stage in network.stages():
        check_alone(lambda _, batch, ask=stage.forward: ask(batch).scores, network, conversations(case, LENGTHS))  # type: ignore[misc]


@over(first)
def test_inference_in_chunks_of_any_size(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [3, 6, 1, 4])
    together = infer(network, batch, 99)
    for size in (1, 2):
        found = infer(network, batch, size)
        torch.testing.assert_close(found.scores, together.scores, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.states, together.states, rtol=1e-6, atol=1e-6)


@over(whole, lambda case: not case.members)
def test_a_penalty_is_the_sum_or_the_mean_of_its_dialogues_or_couples_them_on_purpose(case: Case) -> None:
    """In training, without dropout: a loss that compares utterances of several dialogues is declared (`couples_batch`)."""
    network = case.build()
    assert not isinstance(network, Ensemble)
    if network.couples_batch:
        return
    without_dropout(stir(network).train())
    batch = conversations(case, [4, 6, 2])
    each = [batch.select(torch.tensor([i])) for i in range(len(batch))]
    for stage in network.stages():
        torch.manual_seed(0)
        together = stage.forward(batch)
        found = torch.as_tensor(together.penalty)
        parts = [torch.as_tensor(stage.forward(one).penalty) for one in each]
        if together.penalty_reduction == "mean":
            parts = [part * one.utterances / batch.utterances for part, one in zip(parts, each, strict=True)]
        torch.testing.assert_close(found, torch.stack(parts).sum(), rtol=1e-7, atol=1e-12)
