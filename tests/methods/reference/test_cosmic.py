"""COSMIC: arrays of the public code, and the equations by loop without commonsense or with some of it, and with missing features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.methods.cosmic import COMMONSENSE, COSMIC, COSMICConfig
from tests.methods.reference.conftest import SPEAKERS, Doubled, Reference, build, equal, random_batch, stir
from tests.methods.reference.time_first import rows, spoken

pytestmark = pytest.mark.reference
FEATURES = {f"text{k}": f"in/r{k}" for k in range(1, 5)}
FEATURES |= {name: f"in/{short}_{name}" for name, short in zip(COMMONSENSE, ("x1", "x2", "x3", "o1", "o2"), strict=True)}
CELLS = {"dialogue": "g", "party.q": "p", "party.r": "r", "party.i": "i", "listener.q": "pl", "listener.r": "rl", "emotion": "e"}
ENDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def renamed(given: Mapping[str, Tensor], *, normed: bool, attention: bool) -> dict[str, Tensor]:
    """The parameters of the public code that something reads, under our names."""
    names = {"project": "linear_in", "reduce": "linear", "classify": "smax_fc"}
    names |= {"attend.transform": "matchatt.transform"} if attention else {}
    found = {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    for k in range(4) if normed else ():
        for end in ("weight", "bias", "running_mean", "running_var"):
            found[f"texts.norm.text{k + 1}.{end}"] = given[f"norm3{'abcd'[k]}.{end}"]
    for d, theirs in enumerate(("cs_rnn_f.dialogue_cell.", "cs_rnn_r.dialogue_cell.")):
        own = {key.removeprefix(theirs): value for key, value in given.items() if key.startswith(theirs)}
        cells = {ours: f"{cell}_cell" for ours, cell in CELLS.items() if f"{cell}_cell.bias_ih" in own}
        found |= {f"read.directions.{d}.{ours}.{end}": own[f"{cell}.{end}"] for ours, cell in cells.items() for end in ENDS}
        attend = {key.rpartition(".")[2]: value for key, value in own.items() if key.startswith("attention.")}
        found |= {f"read.directions.{d}.attend.{end}": value for end, value in attend.items()}
    return found


@pytest.mark.parametrize("name", ["iemocap_like", "meld_like", "no_listener_residual"])
def test_states_scores_losses_and_gradients(name: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    every = reference("cosmic")
    told = every.options(norm={"iemocap_like": 3, "meld_like": 0, "no_listener_residual": 0}, residual={"no_listener_residual": True})
    arrays, (batch, _) = every.under(f"{name}/"), spoken(every, FEATURES)
    if not arrays:
        pytest.skip(f"no {name} among the arrays")
    given, cell = arrays.under("param/"), "cs_rnn_f.dialogue_cell"
    config = COSMICConfig(
        width=given[f"{cell}.g_cell.weight_hh"].shape[1],
        hidden=len(given["linear_in.bias"]),
        norm="batch" if told["norm"][name] == 3 else "none",
        context="simple" if f"{cell}.attention.scalar.weight" in given else "general",
        listener=f"{cell}.pl_cell.bias_ih" in given,
        attention="mid/alpha2" in arrays,
        residual=told["residual"].get(name, False),
    )
    widths = {key: value.shape[1] for key, value in batch.features.items()}
    model = build(COSMIC, widths, len(given["smax_fc.bias"]), config)
    put(model, renamed(given, normed=config.norm == "batch", attention=config.attention))

    seen: dict[str, Tensor] = {}
    model.project.register_forward_hook(lambda _, given, found: seen.update(r_projected=found))
    model.read.register_forward_hook(lambda _, given, found: seen.update(emotions=found.states[:, 0], rows=given[0].states[:, 0]))
    model.reduce.register_forward_hook(lambda _, given, found: seen.update(head_input=given[0]))
    scores = model(batch).scores
    close = {"rtol": 0, "atol": 1e-8}
    for part in ("r_projected", "emotions", "head_input"):
        torch.testing.assert_close(seen[part], rows(batch, arrays[f"mid/{part}"]), **close)
    states, _ = model.read.states(seen["rows"][:, None], batch)
    slot = every["in/qmask"].argmax(-1)[..., None, None].expand(-1, -1, 1, config.width)
    for part in ("g", "e"):
        torch.testing.assert_close(rows(batch, states[part][:, 0]), rows(batch, arrays[f"mid/forward_{part}"]), **close)
    for part in ("q", "r", "i"):
        theirs = arrays[f"mid/forward_{part}"].gather(2, slot)[:, :, 0]
        torch.testing.assert_close(rows(batch, states[part][:, 0]), rows(batch, theirs), **close)
    torch.testing.assert_close(scores.log_softmax(-1), rows(batch, arrays["out/log_prob"]), **close)
    arrays.same(F.cross_entropy(scores, batch.target, every["in/class_weight"]), "out/loss_weighted")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "out/loss")
    loss.backward()
    arrays.same(model.read.directions[0].party["r"].weight_ih.grad, f"grad/{cell}.r_cell.weight_ih")
    arrays.same(model.project.weight.grad, "grad/linear_in.weight")


def cell_loop(model: Any, cells: Any, u: list[Tensor], known: list[Mapping[str, Tensor]], speaker: list[int]) -> list[Tensor]:
    """Eqs. (2)-(7) in one direction, turn by turn; in training states double at the end of the turn in which they change."""
    width, g, e, f = model.config.width, [], u[0].new_zeros(1, 3 * model.config.width), 1 + model.training
    q, r, i = ({s: u[0].new_zeros(1, width) for s in speaker} for _ in range(3))
    found = []
    for said, sense, s in zip(u, known, speaker, strict=True):
        before, c = g[-1] if g else u[0].new_zeros(1, width), u[0].new_zeros(width)

        def turned(cell: Any, state: Tensor, *names: str | Tensor, said: Tensor = said, sense: Mapping[str, Tensor] = sense) -> Tensor:
            parts = [name.flatten() if isinstance(name, Tensor) else sense.get(name, said[:0]) for name in names]
            return cell(torch.cat(parts)[None], state)

        if g:
            ask = cells.attend(said) if model.config.context == "general" else cells.attend.weight[0]
            score = torch.stack([one[0] @ ask for one in g])
            weights = (score.tanh() if model.config.context == "general" else score).softmax(0)
            c = sum(a * one[0] for a, one in zip(weights, g, strict=True))
        g.append(f * turned(cells.dialogue, before, said, q[s], r[s]))
        r[s], q[s] = turned(cells.party["r"], r[s], said, "xReact", c), turned(cells.party["q"], q[s], "xEffect", c)
        for other in set(speaker) - {s} if model.config.listener else ():
            r[other] = f * turned(cells.listener["r"], r[other], said, "oReact", r[s])
            q[other] = f * turned(cells.listener["q"], q[other], "oEffect", q[s])
        i[s] = turned(cells.party["i"], i[s], "xIntent", q[s])
        e = f * turned(cells.emotion, e, said, q[s], r[s], i[s])
        q[s], r[s], i[s] = f * q[s], f * r[s], f * i[s]
        found.append(e[0])
    return found


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(9), dialogue by dialogue."""
    scores, values = [], {m: torch.where(batch.present[m][:, None], batch.features[m], 0.0) for m in batch.features}
    for d in range(len(batch)):
        own = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        speaker, u = batch.speaker[own.start : own.stop].tolist(), []
        for row in own:
            texts = [m for m in values if m.startswith("text") and batch.present[m][row]]
            normed = {m: values[m][row] for m in texts}
            for m in texts if model.texts.norm else ():
                norm = model.texts.norm[m]
                normed[m] = (normed[m] - norm.running_mean) / (norm.running_var + norm.epsilon).sqrt() * norm.weight + norm.bias
            text = sum(normed.values()) / max(1, len(texts)) + torch.zeros(model.texts.widths["text"], dtype=torch.float64)
            u.append(model.project(torch.cat([values[m][row] if m in values else text for m in model.turn.names])))
        known = [{m: values[m][row] for m in model.known} for row in own]
        e = [cell_loop(model, model.read.directions[0], u, known, speaker)]
        for backward in list(model.read.directions)[1:]:
            e.append(cell_loop(model, backward, u[::-1], known[::-1], speaker[::-1])[::-1])
        both = [torch.cat(parts) for parts in zip(*e, strict=True)]
        for t, state in enumerate(both):
            heard = both[: t + 1] if model.config.causal else both
            if model.attend is not None:
                weights = torch.stack([(other @ model.attend.transform(state)).tanh() for other in heard]).softmax(0)
                state = sum(a * other for a, other in zip(weights, heard, strict=True))
            scores.append(model.classify(model.reduce(state).relu() + (u[t] if model.config.residual else 0.0)))
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ({"audio": 3, "text1": 5, "text2": 5}, {"norm": "batch"}),
        ({"oReact": 2, "text1": 4, "xEffect": 3}, {"causal": True, "context": "simple"}),
        ({"audio": 3, "text1": 4, "text2": 4, "xIntent": 2}, {"attention": False, "listener": False, "residual": True}),
    ],
)
def test_equations_by_loop(widths: dict[str, int], options: dict[str, Any]) -> None:
    model = build(COSMIC, widths, 3, COSMICConfig(width=3, hidden=4, **options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == bool(options.get("causal"))


def test_dropout_at_the_end_of_a_turn() -> None:
    widths = {"text": 4, "xEffect": 3}
    model = build(COSMIC, widths, 3, COSMICConfig(width=3, hidden=4, dropout=0.0, state_dropout=0.0))
    stir(model)
    model.train().read.dropout = Doubled()
    batch = random_batch(SPEAKERS, widths, classes=3)
    equal(model(batch).scores, loop(model, batch), model)


def test_commonsense_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="modalities: expected one or more besides the commonsense vectors, found xEffect"):
        build(COSMIC, {"xEffect": 3}, 3, COSMICConfig())
