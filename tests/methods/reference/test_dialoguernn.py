"""DialogueRNN: arrays of the public code, and the equations by loop at other sizes, with missing features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.dialoguernn import DialogueRNN, DialogueRNNConfig
from tests.methods.reference.conftest import SPEAKERS, Doubled, Reference, build, equal, random_batch, stir
from tests.methods.reference.time_first import rows, spoken

pytestmark = pytest.mark.reference
CELLS = {"dialogue": "g_cell", "party.q": "p_cell", "listener.q": "l_cell", "emotion": "e_cell"}
ENDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def renamed(given: Mapping[str, Tensor], attention: bool) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"classify.0": "linear", "classify.3": "smax_fc"} | ({"attend.transform": "matchatt.transform"} if attention else {})
    found = {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    for d, theirs in enumerate(("dialog_rnn_f.dialogue_cell.", "dialog_rnn_r.dialogue_cell.")):
        own = {key.removeprefix(theirs): value for key, value in given.items() if key.startswith(theirs)}
        cells = {ours: cell for ours, cell in CELLS.items() if f"{cell}.bias_ih" in own}
        found |= {f"read.directions.{d}.{ours}.{end}": own[f"{cell}.{end}"] for ours, cell in cells.items() for end in ENDS}
        (weight,) = (value for key, value in own.items() if key.startswith("attention."))
        found[f"read.directions.{d}.attend.weight"] = weight
    return found


@pytest.mark.parametrize("name", ["base", "listener", "noatt"])
def test_states_scores_losses_and_gradients(name: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    every = reference("dialoguernn")
    arrays, (batch, _) = every.under(f"{name}/"), spoken(every, {"text": "in/U"})
    given, cell = arrays.under("param/"), "dialog_rnn_f.dialogue_cell"
    config = DialogueRNNConfig(
        width=given[f"{cell}.g_cell.weight_hh"].shape[1],
        party_width=given[f"{cell}.p_cell.weight_hh"].shape[1],
        emotion_width=given[f"{cell}.e_cell.weight_hh"].shape[1],
        hidden=len(given["linear.bias"]),
        context="simple" if f"{cell}.attention.scalar.weight" in given else "general",
        listener=f"{cell}.l_cell.bias_ih" in given,
        attention="mid/alpha2" in arrays,
    )
    model = build(DialogueRNN, {"text": every["in/U"].shape[-1]}, len(given["smax_fc.bias"]), config)
    put(model, renamed(given, config.attention))

    states, _ = model.read.states(model.turn(model.given(batch)).states, batch)
    close = {"rtol": 0, "atol": 1e-8}
    for ours, theirs in {"g": "g_forward", "e": "e_forward"}.items():
        torch.testing.assert_close(rows(batch, states[ours][:, 0]), rows(batch, arrays[f"mid/{theirs}"]), **close)
    slot = every["in/qmask"].argmax(-1)[..., None, None].expand(-1, -1, 1, config.party_width)
    torch.testing.assert_close(rows(batch, states["q"][:, 0]), rows(batch, arrays["mid/q_forward"].gather(2, slot)[:, :, 0]), **close)
    torch.testing.assert_close(rows(batch, states["e"][:, 1]), rows(batch, arrays["mid/e_backward_reversed_time"]), **close)
    prediction = model(batch)
    torch.testing.assert_close(prediction.states, rows(batch, arrays["mid/head_input"]), **close)
    torch.testing.assert_close(prediction.scores.log_softmax(-1), rows(batch, arrays["out/log_prob"]), **close)
    arrays.same(F.cross_entropy(prediction.scores, batch.target), "out/loss")
    loss = F.cross_entropy(prediction.scores, batch.target, every["in/class_weight"])
    arrays.same(loss, "out/loss_weighted")
    loss.backward()
    forward = model.read.directions[0]
    arrays.same(forward.party["q"].weight_ih.grad, f"grad_of_weighted_loss/{cell}.p_cell.weight_ih")
    arrays.same(forward.dialogue.weight_hh.grad, f"grad_of_weighted_loss/{cell}.g_cell.weight_hh")


def cell_loop(model: Any, cells: Any, u: list[Tensor], speaker: list[int]) -> list[Tensor]:
    """Eqs. (1)-(5) in one direction, turn by turn; in training states double when they change."""
    zero, f = u[0].new_zeros, 1 + model.training
    g: list[Tensor] = []
    q = {s: zero(1, cells.party["q"].hidden_size) for s in speaker}
    e, found = zero(1, cells.emotion.hidden_size), []
    for said, s in zip(u, speaker, strict=True):
        before = g[-1] if g else zero(1, cells.dialogue.hidden_size)
        c = torch.zeros_like(before)
        if g:
            ask = cells.attend(said) if model.config.context == "general" else cells.attend.weight[0]
            weights = torch.stack([one[0] @ ask for one in g]).softmax(0)
            c = sum(a * one for a, one in zip(weights, g, strict=True))
        g.append(f * cells.dialogue(torch.cat([said[None], q[s]], 1), before))
        q[s] = f * cells.party["q"](torch.cat([said[None], c], 1), q[s])
        for i in q:
            if i != s and model.config.listener:
                q[i] = f * cells.listener["q"](torch.cat([said[None], q[s]], 1), q[i])
        e = f * cells.emotion(q[s], e)
        found.append(e[0])
    return found


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(7), dialogue by dialogue."""
    scores = []
    for d in range(len(batch)):
        own = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        u = [torch.cat([batch.features[m][i] * batch.present[m][i] for m in model.turn.names]) for i in own]
        speaker = batch.speaker[own.start : own.stop].tolist()
        e = [cell_loop(model, model.read.directions[0], u, speaker)]
        for backward in list(model.read.directions)[1:]:
            e.append(cell_loop(model, backward, u[::-1], speaker[::-1])[::-1])
        both = [torch.cat(parts) for parts in zip(*e, strict=True)]
        for t, state in enumerate(both):
            heard = both[: t + 1] if model.config.causal else both
            if model.attend is not None:
                weights = torch.stack([other @ model.attend.transform(state) for other in heard]).softmax(0)
                state = sum(a * other for a, other in zip(weights, heard, strict=True))
            scores.append(model.classify(state))
    return torch.stack(scores)


@pytest.mark.parametrize("options", [{}, {"causal": True, "listener": True}, {"attention": False, "context": "simple", "listener": True}])
def test_equations_by_loop(options: dict[str, Any]) -> None:
    widths = {"audio": 3, "text": 5}
    model = build(DialogueRNN, widths, 3, DialogueRNNConfig(width=4, party_width=3, emotion_width=2, hidden=5, **options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == bool(options.get("causal"))


def test_dropout_at_once() -> None:
    model = build(
        DialogueRNN, {"text": 5}, 3, DialogueRNNConfig(width=4, emotion_width=2, hidden=5, listener=True, dropout=0.0, output_dropout=0.0)
    )
    stir(model)
    model.train().read.dropout = Doubled()
    batch = random_batch(SPEAKERS, {"text": 5}, classes=3)
    equal(model(batch).scores, loop(model, batch), model)
