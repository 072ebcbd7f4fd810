"""Causal ⇔ no gradient from later turns ⇔ streamed equals offline; and what breaks these laws is caught."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns
from erc_graph.inference.saved import Network
from erc_graph.inference.stream import Stream
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Shapes
from erc_graph.methods.parts import Turn
from tests.laws.cases import (
    THREE,
    WIDTHS,
    Case,
    Schema,
    by_row,
    conversations,
    leaves,
    networks,
    of_each_kind,
    over,
    scores,
    stir,
    stirred,
    whole,
)
from tests.laws.test_alone import LENGTHS, check_alone

# -- gradients ---------------------------------------------------------------------------------------------------------------------


def check_gradients(network: Network, batch: Batch) -> None:
    """Later turns have a gradient unless the network says that it is causal; any other turn unless it judges utterances alone."""
    batch, given = leaves(networks(network)[0].inputs.prepared(batch))  # sequences that are pooled: as vectors
    found = scores(network, batch)
    weight, later, other = torch.randn(found.shape[1], dtype=found.dtype), False, False
    own = torch.zeros(batch.utterances, dtype=torch.bool)
    for row in range(batch.utterances):
        parts = torch.autograd.grad((found[row] * weight).sum(), list(given.values()), retain_graph=True, allow_unused=True)
        moved = by_row(batch, dict(zip(given, parts, strict=True)))
        here = batch.dialogue == batch.dialogue[row]
        assert not moved[~here].any(), "another dialogue"
        later |= bool(moved[here & (batch.turn > batch.turn[row])].any())
        other |= bool(moved[here & (batch.turn != batch.turn[row])].any())
        own[row] = moved[row]
    assert own.any()
    assert later is not network.causal, "later turns"
    assert other is not network.utterance_level, "other turns"


@over(whole)
def test_causal_is_no_gradient_from_later_turns(case: Case) -> None:
    check_gradients(stirred(case), conversations(case, [5, 3], speakers=[0, 1, 0, 0, 1, 1, 0, 1]))


@over(whole, lambda case: stirred(case).utterance_level)
def test_an_utterance_that_is_judged_by_itself_stands_for_itself(case: Case) -> None:
    network, batch = stirred(case), conversations(case, [5, 3])
    rows = batch.utterances
    apart = {"ptr": torch.arange(rows + 1), "sizes": (1,) * rows, "speaker": torch.zeros_like(batch.speaker)}
    torch.testing.assert_close(scores(network, Batch(**{**_fields(batch), **apart})), scores(network, batch), rtol=1e-9, atol=1e-10)


@over(whole)
def test_what_is_asked_to_be_causal_is_causal(case: Case) -> None:
    if case.name.partition(": ")[2].startswith("causal"):
        assert stirred(case).causal


@over(whole, lambda case: stirred(case).causal)
def test_a_beginning_is_judged_as_in_the_whole(case: Case) -> None:
    """Nothing of later turns counts, their speakers and what they lack included."""
    network, batch = stirred(case), conversations(case, [9])
    one = torch.ones(9, dtype=torch.long)
    turns = Batch(**{**_fields(batch), "ptr": torch.arange(10), "sizes": tuple(one.tolist())})
    for length in (1, 4, 8):
        part = turns.select(torch.arange(length))
        beginning = Batch(**{**_fields(part), "ptr": torch.tensor([0, length]), "sizes": (length,)})
        torch.testing.assert_close(scores(network, beginning), scores(network, batch)[:length], rtol=1e-8, atol=1e-9)


def _fields(batch: Batch) -> dict[str, Any]:
    names = ("ptr", "speaker", "target", "judged", "row", "features", "present", "sequences")
    return {name: getattr(batch, name) for name in names}


# -- turn by turn ------------------------------------------------------------------------------------------------------------------


def streamed(network: Network, batch: Batch) -> Tensor:
    """`(N, C)` scores of one dialogue, turn by turn; what is missing is left out."""
    stream, found = Stream(network), []
    for row, speaker in enumerate(batch.speaker.tolist()):
        present = {name: value[row] for name, value in batch.features.items() if batch.present[name][row]}
        found.append(stream.push(f"speaker {speaker}", present).scores)
    return torch.tensor(found)


@torch.no_grad()
def check_stream(network: Network, batch: Batch) -> None:
    """Every turn is judged as in the whole dialogue."""
    torch.testing.assert_close(streamed(network, batch), scores(network, batch).float(), rtol=1e-5, atol=1e-5)


def streams(case: Case) -> bool:
    """Causal methods of vectors."""
    return stirred(case).causal and not stirred(case).schema.sequences


@over(whole, streams)
def test_streamed_equals_offline(case: Case) -> None:
    check_stream(stirred(case), conversations(case, [12]))


@over(of_each_kind, lambda case: whole(case) and streams(case))
def test_200_streamed_turns_equal_offline_in_single_precision(case: Case) -> None:
    network = case.build().float().eval()
    check_stream(network, conversations(case, [200], dtype=torch.float32))


# -- what breaks the laws ----------------------------------------------------------------------------------------------------------


def earlier(x: Tensor, batch: Batch) -> Tensor:
    """Sum of a turn and all before it, `(N, S, w)`, without knowing where a dialogue begins."""
    return x.cumsum(0)


def before(x: Tensor, batch: Batch) -> Tensor:
    """A turn and the one before it, within the dialogue."""
    return x + torch.where((batch.turn > 0)[:, None, None], x.roll(1, 0), 0.0)


def behind(x: Tensor, batch: Batch) -> Tensor:
    """A turn and the one behind it, within the dialogue."""
    last = batch.turn == batch.lengths[batch.dialogue] - 1
    return x + torch.where(last[:, None, None], 0.0, x.roll(-1, 0))


def padded(x: Tensor, batch: Batch) -> Tensor:
    """A turn and the mean over the padded dialogue."""
    return x + (batch.pad(x).mean(1, keepdim=True) + batch.pad(0 * x)).flatten(0, 1)[batch._slot]


class Hidden(nn.Module):
    """Mixes turns, and does not say so."""

    def __init__(self, mix: Any) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        return nodes.with_states(self.mix(nodes.masked(), batch))


class Said(OverTurns):
    """Mixes turns, and says how."""

    def __init__(self, mix: Any, ahead: bool) -> None:
        super().__init__()
        self.mix, self.ahead = mix, ahead

    @property
    def causal(self) -> bool:
        return not self.ahead

    @property
    def past(self) -> int | None:
        return 1

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        return nodes.with_states(self.mix(nodes.masked(), batch))


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """What is mixed, and by which kind of module."""

    part: Any = None
    dropout: float = 0.0


class Mix(Method):
    """A turn's features, mixed, and a linear classifier."""

    Config = MixConfig

    def parts(self, config: MixConfig, shapes: Shapes) -> Iterator[nn.Module]:
        yield Turn(shapes.widths)
        yield config.part


def mixing(part: nn.Module) -> Method:
    method = Mix(Schema(widths={name: WIDTHS[name] for name in ("audio", "text")}, task=THREE), MixConfig(part=part))
    stir(method)
    return method


def check_all(method: Method) -> None:
    batch = conversations(None, LENGTHS)
    check_alone(scores, method, batch)
    check_gradients(method, batch.select(torch.tensor([3, 4])))
    if method.causal:
        whole = conversations(None, [8])
        check_stream(method, Batch(**{**_fields(whole), "features": {n: whole.features[n] for n in method.schema.widths}}))


@pytest.mark.parametrize(("mix", "ahead"), [(before, False), (behind, True)])
def test_a_part_that_says_what_it_does_keeps_the_laws(mix: Any, ahead: bool) -> None:
    method = mixing(Said(mix, ahead))
    assert method.causal is not ahead
    check_all(method)


def test_a_part_that_hides_a_look_back_is_caught_by_gradient_and_by_stream() -> None:
    method = mixing(Hidden(before))
    assert method.causal and method.utterance_level
    check_alone(scores, method, conversations(None, LENGTHS))
    with pytest.raises(AssertionError, match="other turns"):
        check_gradients(method, conversations(None, [4, 2]))
    whole = conversations(None, [8])
    with pytest.raises(AssertionError, match="not close"):
        check_stream(method, Batch(**{**_fields(whole), "features": {n: whole.features[n] for n in method.schema.widths}}))


@pytest.mark.parametrize("part", [Hidden(behind), Said(behind, False)], ids=["hidden", "said to be causal"])
def test_a_part_that_looks_ahead_is_caught(part: nn.Module) -> None:
    method = mixing(part)
    assert method.causal
    with pytest.raises(AssertionError, match="later turns"):
        check_gradients(method, conversations(None, [4, 2]))


def test_a_part_that_says_it_looks_ahead_and_does_not_is_caught() -> None:
    with pytest.raises(AssertionError, match="later turns"):
        check_gradients(mixing(Said(before, True)), conversations(None, [4, 2]))


@pytest.mark.parametrize(("mix", "what"), list(itertools.product([earlier], ["another dialogue"])))
def test_a_part_that_mixes_dialogues_is_caught(mix: Any, what: str) -> None:
    method = mixing(Said(mix, False))
    with pytest.raises(AssertionError, match="not close"):
        check_alone(scores, method, conversations(None, LENGTHS))
    with pytest.raises(AssertionError, match=what):
        check_gradients(method, conversations(None, [4, 2]))


def test_a_part_that_counts_padding_is_caught() -> None:
    with pytest.raises(AssertionError, match="not close"):
        check_alone(scores, mixing(Said(padded, True)), conversations(None, LENGTHS))
