"""bc-LSTM: arrays of the public code, which reads the padding of shorter dialogues, and the equations by loop with missing features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.bc_lstm import BCLSTM, BCLSTMConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, build, equal, random_batch, stir
from tests.methods.reference.time_first import PaddingRead, rows, spoken

pytestmark = pytest.mark.reference
ENDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def renamed(given: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"classify.0": "linear", "classify.3": "smax_fc", "attend.transform": "matchatt.transform"}
    found = {f"{o}.{end}": given[f"{t}.{end}"] for o, t in names.items() for end in ("weight", "bias") if f"{t}.{end}" in given}
    for i in range(layers):
        for end in ENDS:
            found[f"read.layers.{i}.0.{end}_l0"] = given[f"lstm.{end}_l{i}"]
            found[f"read.layers.{i}.1.{end}_l0"] = given[f"lstm.{end}_l{i}_reverse"]
    return found


@pytest.mark.parametrize("name", ["plain", "att"])
def test_states_attention_scores_losses_and_gradients(name: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    every = reference("bc-lstm")
    arrays, (batch, _) = every.under(f"{name}/"), spoken(every, {"text": "in/U"})
    given = arrays.under("param/")
    layers = sum(key.startswith("lstm.weight_hh") and not key.endswith("reverse") for key in given)
    width, hidden = 2 * given["lstm.weight_hh_l0"].shape[1], len(given["linear.bias"])
    config = BCLSTMConfig(width=width, layers=layers, hidden=hidden, attention="matchatt.transform.weight" in given)
    model = build(BCLSTM, {"text": every["in/U"].shape[-1]}, len(given["smax_fc.bias"]), config)
    put(model, renamed(given, layers))
    scores = model(batch).scores
    torch.testing.assert_close(scores.log_softmax(-1), rows(batch, arrays["packed/log_prob"]), rtol=0, atol=1e-8)
    arrays.same(F.cross_entropy(scores, batch.target), "packed/loss")

    model.read = PaddingRead(model.read, len(every["in/U"]))
    seen: dict[str, Tensor] = {}
    model.read.register_forward_hook(lambda _, given, found: seen.update(bilstm=found.states[:, 0]))
    if model.attend is not None:
        model.attend.register_forward_hook(lambda _, given, found: seen.update(attended=found.states[:, 0]))
    scores = model(batch).scores
    for part, value in seen.items():
        torch.testing.assert_close(value, rows(batch, arrays[f"mid/{part}"]), rtol=0, atol=1e-8)
    torch.testing.assert_close(scores.log_softmax(-1), rows(batch, arrays["out/log_prob"]), rtol=0, atol=1e-8)
    arrays.same(F.cross_entropy(scores, batch.target, every["in/class_weight"]), "out/loss_weighted")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "out/loss")
    loss.backward()
    arrays.same(model.read.net.layers[0][1].weight_hh_l0.grad, "grad/lstm.weight_hh_l0_reverse")
    arrays.same(model.classify[0].weight.grad, "grad/linear.weight")


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(3), dialogue by dialogue."""
    scores = []
    for d in range(len(batch)):
        own = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        h = [torch.cat([batch.features[m][i] * batch.present[m][i] for m in model.turn.names]) for i in own]
        for layer in model.read.layers:
            forward, *backward = layer
            states = [forward(torch.stack(h)[None])[0][0]]
            states += [net(torch.stack(h[::-1])[None])[0][0].flip(0) for net in backward]
            h = list(torch.cat(states, -1))
        for i, state in enumerate(h):
            heard = h[: i + 1] if model.config.causal else h
            if model.attend is not None:
                score = torch.stack([other @ model.attend.transform(state) for other in heard])
                score = score.tanh() if model.config.bounded else score
                state = sum(a * other for a, other in zip(score.softmax(0), heard, strict=True))
            scores.append(model.classify(state))
    return torch.stack(scores)


@pytest.mark.parametrize("options", [{}, {"causal": True, "layers": 1}, {"attention": False}, {"bounded": False}])
def test_equations_by_loop(options: dict[str, Any]) -> None:
    widths = {"audio": 3, "text": 5}
    model = build(BCLSTM, widths, 3, BCLSTMConfig(width=6, hidden=4, **options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == bool(options.get("causal"))
