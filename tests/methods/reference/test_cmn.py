"""CMN: arrays of the public code's equations without its empty turns, dialogue by dialogue and all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.cmn import CMN, CMNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, random_batch, stir

pytestmark = pytest.mark.reference


def cells(given: Reference, *names: str) -> dict[str, Tensor]:
    """GRUs of the public code side by side: the rows of a matrix are first the input's, then the state's; r, then z, then n."""
    width = len(given[f"{names[0]}.bc"])
    parts = [[given[f"{name}.{part}"] for name in names] for part in ("Wg", "Wc", "bg", "bc")]
    gates, new, gate_bias, new_bias = (torch.stack(part) for part in parts)
    return {
        "inputs": torch.cat([gates[:, :-width], new[:, :-width]], -1),
        "gates": gates[:, -width:],
        "new": new[:, -width:],
        "bias": torch.cat([gate_bias, new_bias], -1)[:, None],
    }


def dialogues(arrays: Reference) -> Batch:
    numbers = range(sum(name.startswith("in/U") for name in arrays))
    speakers, labels, text = ([arrays[f"in/{name}{i}"] for i in numbers] for name in ("speaker", "label", "U"))
    first = [torch.tensor([list(dict.fromkeys(turns.tolist())).index(one) for one in turns.tolist()]) for turns in speakers]
    return batch_of(first, labels, text=torch.cat(text))


def check(arrays: Reference, prefix: str, model: Any, batch: Batch, window: int, sides: int) -> Tensor:
    """Scores and attention of every dialogue alone, and the loss over all; the latest turn is the last of a reference's slots."""
    for i in range(len(batch)):
        one, seen = batch.select(torch.tensor([i])), []  # type: ignore[var-annotated]
        arrays.same(model(one).scores, f"{prefix}/logits{i}")
        model.recall(model.turn(model.given(one)), one, seen)
        if f"{prefix}/attention{i}" in arrays:
            found = torch.zeros_like(arrays[f"{prefix}/attention{i}"])
            assert found.shape[1] == len(seen) == sides * model.config.hops
            for turn in range(one.utterances):
                slots = min(turn, window)
                if slots:
                    found[turn, :, -slots:] = torch.stack([weights[turn, :slots] for weights in seen])
            arrays.same(found, f"{prefix}/attention{i}")
    scores = model(batch).scores
    torch.testing.assert_close(scores, torch.cat([arrays[f"{prefix}/logits{i}"] for i in range(len(batch))]), rtol=0, atol=1e-8)
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, f"{prefix}/loss")
    return loss


def windows(arrays: Reference) -> list[int]:
    return sorted({int(name.partition("/")[0][1:]) for name in arrays if name.startswith("K")})


def test_windows_without_empty_turns(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("cmn")
    given, batch = arrays.under("param/"), dialogues(arrays)
    hops = arrays.options(hops=3)["hops"]
    parameters = {"recall.ask.weight": given["W_q"].T, "recall.ask.bias": given["b_q"], "classify.weight": given["W_o"].T}
    parameters |= {"classify.bias": given["b_o"]}
    for part in ("local", "memory"):
        parameters |= {f"recall.{part}.{name}": value for name, value in cells(given, f"{part}_own", f"{part}_other").items()}
    assert windows(arrays)
    for window in windows(arrays):
        config = CMNConfig(width=len(given["b_q"]), hops=hops, window=window, mask="global")
        model = build(CMN, {"text": len(given["W_q"])}, len(given["b_o"]), config)
        put(model, parameters)
        prefix = f"K{window}/clean"
        check(arrays, prefix, model, batch, window, sides=2).backward()
        if f"{prefix}/numgrad/W_q" in arrays:
            memory, difference = model.recall.memory, arrays.under(f"{prefix}/numgrad/")  # central differences
            found = torch.cat([memory.inputs.grad[0][:, -memory.width :], memory.new.grad[0]])
            torch.testing.assert_close(model.recall.ask.weight.grad.T, difference["W_q"], rtol=0, atol=1e-7)
            torch.testing.assert_close(found, difference["memory_own.Wc"], rtol=0, atol=1e-7)


def loop(model: Any, batch: Batch) -> Tensor:
    """The states of every turn by loop, with the attention over each side's own turns; absent turns are in no history."""
    recall, found = model.recall, []

    def cell(net: Any, side: int, x: Tensor, h: Tensor) -> Tensor:
        r, z, n = (x @ net.inputs[side] + net.bias[side, 0]).chunk(3)
        of_r, of_z = (h @ net.gates[side]).chunk(2)
        r, z = (r + of_r).sigmoid(), (z + of_z).sigmoid()
        return z * h + (1 - z) * (n + (r * h) @ net.new[side]).tanh()

    for row in range(batch.utterances):
        there, text = batch.present["text"], batch.features["text"]
        turn, window = int(batch.turn[row]), recall.config.window
        past = [k for k in range(row - min(turn, turn if window is None else window), row) if there[k]]
        q = recall.ask(text[row] if there[row] else torch.zeros_like(text[row])).tanh()
        sides = []
        for side in range(2):
            local, memory, kept = q.new_zeros(q.shape), q.new_zeros(q.shape), []
            for k in past:
                on = (batch.speaker[k] == batch.speaker[row]) == (side == 0)
                local = cell(recall.local, side, text[k], local) if on else local
                memory = cell(recall.memory, side, local.tanh() if on else torch.zeros_like(q), memory)
                kept += [memory] if on else []
            sides.append(kept)
        for _ in range(recall.config.hops):
            heard = torch.zeros_like(q)
            for kept in filter(None, sides):
                weights = torch.stack([(q @ m).tanh() for m in kept]).softmax(0)
                heard = heard + sum(a * m for a, m in zip(weights, kept, strict=True))
            q = (q + heard).tanh()
        found.append(q)
    return torch.stack(found)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_equations_by_loop(window: int | None) -> None:
    model = build(CMN, {"text": 3}, 4, CMNConfig(width=4, hops=2, window=window))
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, {"text": 3}, classes=4)
    torch.testing.assert_close(model(batch).states, loop(model, batch), rtol=0, atol=1e-10)
