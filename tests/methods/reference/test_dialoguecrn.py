"""DialogueCRN: arrays of the public code, which reads padding at both levels, and the equations by loop with missing features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.methods.dialoguecrn import DialogueCRN, DialogueCRNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, build, equal, random_batch, stir
from tests.methods.reference.time_first import PaddingRead, rows, spoken

pytestmark = pytest.mark.reference
ENDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
LEVELS = ("situation", "speaker")


def renamed(given: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"start": "cognition_net.fc", "classify.2": "cognition_net.smax_fc"}
    found = {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    for end in ENDS:
        for i in range(layers):
            for ours, theirs in {"situation": "rnn", "speaker.net": "rnn_parties"}.items():
                found[f"{ours}.layers.{i}.0.{end}_l0"] = given[f"{theirs}.{end}_l{i}"]
                found[f"{ours}.layers.{i}.1.{end}_l0"] = given[f"{theirs}.{end}_l{i}_reverse"]
        for i, level in enumerate(LEVELS):
            if f"cognition_net.reason_modules.{i}.lstm.{end}_l0" in given:
                found[f"reason.{level}.cell.{end}"] = given[f"cognition_net.reason_modules.{i}.lstm.{end}_l0"]
    return found


@pytest.mark.parametrize("name", ["s2p3", "s2p0"])
def test_contexts_queries_scores_losses_and_gradients(name: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    every = reference("dialoguecrn")
    steps = every.options(steps={"s2p3": [2, 3], "s2p0": [2, 0]})["steps"][name]
    arrays, (batch, _) = every.under(f"{name}/"), spoken(every, {"text": "in/U"})
    given = arrays.under("param/")
    layers = sum(key.startswith("rnn.weight_hh") and not key.endswith("reverse") for key in given)
    width = given["cognition_net.fc.weight"].shape[1]
    config = DialogueCRNConfig(width=width, layers=layers, situation_rounds=steps[0], speaker_rounds=steps[1])
    model = build(DialogueCRN, {"text": every["in/U"].shape[-1]}, len(given["cognition_net.smax_fc.bias"]), config)
    put(model, renamed(given, layers))

    def losses(scores: Tensor) -> tuple[Tensor, Tensor]:
        """With the weights, and with gamma 1: both are plain means."""
        each = F.cross_entropy(scores, batch.target, reduction="none")
        return (every["in/class_weight"][batch.target] * each).mean(), ((1 - (-each).exp()) * each).mean()

    scores = model(batch).scores
    arrays.same(scores.log_softmax(-1), "packed/log_prob_flat")
    arrays.same(losses(scores)[0], "packed/loss_gamma0_weighted")

    model.situation = PaddingRead(model.situation, len(every["in/U"]))
    model.speaker.net = PaddingRead(model.speaker.net, len(every["in/U"]))
    seen: dict[str, Tensor] = {}
    model.situation.register_forward_hook(lambda _, given, found: seen.update(U_s=found.states[:, 0]))
    model.speaker.register_forward_hook(lambda _, given, found: seen.update(U_p=found.states[:, 0]))
    prediction = model(batch)
    seen["q_speaker"], seen["q_situation"] = prediction.states.chunk(2, -1)
    for part, value in seen.items():
        torch.testing.assert_close(value, rows(batch, arrays[f"mid/{part}"]), rtol=0, atol=1e-8)
    arrays.same(prediction.scores.log_softmax(-1), "out/log_prob_flat")
    weighted, focal = losses(prediction.scores)
    arrays.same(focal, "out/loss_gamma1")
    arrays.same(weighted, "out/loss_gamma0_weighted")
    weighted.backward()
    arrays.same(model.start.weight.grad, "grad_of_gamma0/cognition_net.fc.weight")
    arrays.same(model.speaker.net.net.layers[0][1].weight_hh_l0.grad, "grad_of_gamma0/rnn_parties.weight_hh_l0_reverse")


def bilstm(recurrent: Any, u: list[Tensor]) -> list[Tensor]:
    """Layer by layer, each direction by PyTorch's own net."""
    for forward, *backward in recurrent.layers:
        states = [forward(torch.stack(u)[None])[0][0], *(net(torch.stack(u[::-1])[None])[0][0].flip(0) for net in backward)]
        u = list(torch.cat(states, -1))
    return u


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), turn by turn."""
    scores = []
    for d in range(len(batch)):
        own = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        u = [torch.cat([batch.features[m][i] * batch.present[m][i] for m in model.turn.names]) for i in own]
        speaker = batch.speaker[own.start : own.stop].tolist()
        contexts = {"speaker": list(u), "situation": bilstm(model.situation, u)}
        for s in set(speaker):
            turns = [t for t, other in enumerate(speaker) if other == s]
            for t, state in zip(turns, bilstm(model.speaker.net, [u[t] for t in turns]), strict=True):
                contexts["speaker"][t] = state
        for t in range(len(u)):
            found = []
            for level, c in contexts.items():
                q, state = model.start(c[t]), None
                for _ in range(getattr(model.config, f"{level}_rounds")):
                    state = model.reason[level].cell(q[None], state)
                    m, heard = state[0][0], c[: t + 1] if model.config.causal else c
                    weights = torch.stack([other @ m for other in heard]).softmax(0)
                    q = torch.cat([m, sum(a * other for a, other in zip(weights, heard, strict=True))])
                found.append(q)
            scores.append(model.classify(torch.cat(found)))
    return torch.stack(scores)


@pytest.mark.parametrize("options", [{}, {"causal": True, "layers": 1}, {"situation_rounds": 0, "speaker_rounds": 1}])
def test_equations_by_loop(options: dict[str, Any]) -> None:
    widths = {"audio": 3, "text": 5}
    model = build(DialogueCRN, widths, 3, DialogueCRNConfig(width=4, **options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == bool(options.get("causal"))
