"""SDT: arrays of the public code for both of its corpora, and the equations by loop with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.encoders.positions import sines
from erc_graph.methods.sdt import SDT, SDTConfig, distilled
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
TEMPERATURE = {"iemocap": 1.0, "meld": 8.0}
MODALITIES = ("audio", "text", "visual")
LISTED = ("text", "audio", "visual")  # the order of the public code: a target itself, then the others


def renamed(given: Mapping[str, Tensor], learned: bool) -> dict[str, Tensor]:
    """The parameters of the public code under our names; a key's bias cancels, and some norms are never read."""
    found = {"speaker.embedding.weight": given["speaker_embeddings.weight"], "gate.weight": given["last_gate.fc.weight"]}
    found["speaker.weight.weight"] = torch.eye(found["speaker.embedding.weight"].shape[1])
    names = {"classify": "all_output_layer"} | {f"own.{m}.2": f"{m[0]}_output_layer.2" for m in MODALITIES}
    for b in MODALITIES:
        found[f"project.{b}.weight"] = given[{"audio": "acouf", "text": "textf", "visual": "visuf"}[b] + "_input.weight"][:, :, 0]
        order = (b, *(a for a in LISTED if a != b))
        parts = given[f"features_reduce_{b[0]}.weight"].chunk(len(order), 1)
        found[f"reduce.{b}.weight"] = torch.cat([parts[order.index(a)] for a in MODALITIES], 1)
        found[f"reduce.{b}.bias"] = given[f"features_reduce_{b[0]}.bias"]
        for a in MODALITIES:
            ours, theirs = f"pairs.{a}_to_{b}", f"{a[0]}_{b[0]}.transformer_inter.0"
            names |= {f"{ours}.attend.{part}": f"{theirs}.self_attn.linear_{part[0]}" for part in ("query", "value")}
            names |= {f"{ours}.attend.output": f"{theirs}.self_attn.linear", f"{ours}.norm": f"{theirs}.feed_forward.layer_norm"}
            names |= {f"{ours}.inner": f"{theirs}.feed_forward.w_1", f"{ours}.outer": f"{theirs}.feed_forward.w_2"}
            found[f"{ours}.attend.key.weight"] = given[f"{theirs}.self_attn.linear_k.weight"]
            if learned:
                found[f"{ours}.gate.weight"] = given[f"{a[0]}_{b[0]}_gate.fc.weight"]
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


@pytest.mark.parametrize("part", TEMPERATURE)
def test_arrays_of_the_public_code(part: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("sdt").under(f"{part}/")
    given, heads = arrays.under("param/"), arrays.options(heads=2)["heads"]
    numbers = sorted(int(name.split("/")[2]) for name in arrays if name.startswith("in/label/"))
    features: dict[str, Any] = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in MODALITIES}
    batch = batch_of([arrays[f"in/speaker/{i}"] for i in numbers], [arrays[f"in/label/{i}"] for i in numbers], **features)
    speakers, classes = given["speaker_embeddings.weight"], len(given["all_output_layer.bias"])
    gates = [value for name, value in given.items() if name.endswith("_gate.fc.weight") and name != "last_gate.fc.weight"]
    learned = not all(torch.equal(gate, torch.eye(len(gate))) for gate in gates)
    config = SDTConfig(width=speakers.shape[1], heads=heads, gate="learned" if learned else "identity", dropout=0.0)
    model = build(SDT, {m: features[m].shape[1] for m in MODALITIES}, classes, config, dtype=torch.float32)
    model.speaker.embedding = nn.Embedding(*speakers.shape)
    put(model, renamed(given, learned))
    seen: dict[str, Tensor] = {}
    pair = model.pairs["text_to_text"]
    model.pairs["audio_to_text"].register_forward_hook(lambda _, x, y: seen.update({"a_t_gate": y}) if learned else None)
    pair.attend.register_forward_hook(lambda _, x, y: seen.update({"t_t.transformer_inter.0.self_attn": y.states[:, 0]}))
    for a in MODALITIES:
        model.pairs[f"{a}_to_text"].gate.register_forward_hook(lambda _, x, y, a=a: seen.update({f"{a[0]}_t": x[0]}))
    found = model(batch)
    u = model.streams(model.given(batch))
    seen |= {f"features_reduce_{m[0]}": u[:, k] for k, m in enumerate(MODALITIES)} | {"last_gate": found.states}
    for name, value in seen.items():
        torch.testing.assert_close(value, arrays[f"mid/{name}"][batch.mask], rtol=0, atol=1e-5, msg=name)
    z = found.states
    scores, temperature = model.classify(z), TEMPERATURE[part]
    own = {m: model.own[m](u[:, k]) for k, m in enumerate(MODALITIES)}
    weight = reference("sdt")["in/class_weight"] if part == "iemocap" else None
    arrays.same(scores.log_softmax(-1), "out/log_all")
    arrays.same((scores / temperature).softmax(-1), "out/kl_all")
    total = F.cross_entropy(scores, batch.target, weight)
    arrays.same(total, "out/loss_nll_all")
    for m in MODALITIES:
        arrays.same(own[m].log_softmax(-1), f"out/log_{m}")
        arrays.same((own[m] / temperature).log_softmax(-1), f"out/kl_{m}")
        losses = {"nll": F.cross_entropy(own[m], batch.target, weight), "kl": distilled(own[m], scores, temperature).mean()}
        for name, loss in losses.items():
            arrays.same(loss, f"out/loss_{name}_{m}")
            total = total + loss
    torch.testing.assert_close(total, arrays["out/loss"], rtol=1e-6, atol=1e-5)
    total.backward()
    arrays.same(model.classify.weight.grad, "grad_teacher_fixed/all_output_layer.weight")
    arrays.same(
        model.pairs["text_to_audio"].attend.query.weight.grad, "grad_teacher_fixed/t_a.transformer_inter.0.self_attn.linear_q.weight"
    )
    arrays.same(model.speaker.embedding.weight.grad, "grad_teacher_fixed/speaker_embeddings.weight")
    alone = torch.cat([model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))])
    arrays.same(alone.log_softmax(-1), "out/alone_log_all")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def attended(part: Any, query: Tensor, asked: list[Tensor]) -> Tensor:
    """Multi-head attention of one turn; nothing where nobody is asked."""
    if not asked:
        return torch.zeros_like(query)
    keys, values = torch.stack([part.key(one) for one in asked]), torch.stack([part.value(one) for one in asked])
    heads = []
    for q, k, v in zip(*(x.chunk(part.heads, -1) for x in (part.query(query), keys, values)), strict=True):
        heads.append((k @ q / len(q) ** 0.5).softmax(0) @ v)
    return part.output(torch.cat(heads))


def loop(model: Any, batch: Any) -> Tensor:
    """Eqs. (1)-(7), turn by turn."""
    rows, names = range(batch.utterances), list(batch.features)
    x = {
        (m, i): model.project[m](batch.features[m][i])
        + sines(batch.turn[i : i + 1], torch.zeros(1, model.config.width, dtype=torch.float64))[0]
        + model.speaker.weight(model.speaker.embedding(batch.speaker[i]))
        for m in names
        for i in rows
    }
    scores = []
    for i in rows:
        u = {}
        for b in names:
            gated = []
            for a in names:
                pair = model.pairs[f"{a}_to_{b}"]
                asked = [
                    j
                    for j in rows
                    if batch.present[a][j] and batch.dialogue[i] == batch.dialogue[j] and (j <= i or not model.config.causal)
                ]
                y = x[b, i] + attended(pair.attend, x[b, i], [x[a, j] for j in asked])
                state = y + pair.outer(F.gelu(pair.inner(pair.norm(y)), approximate="tanh"))
                gated.append(pair.gate(state).sigmoid() * state)
            if batch.present[b][i]:
                u[b] = model.reduce[b](torch.cat(gated))
        states = torch.stack(list(u.values())) if u else torch.zeros(1, model.config.width, dtype=torch.float64)
        scores.append(model.classify((model.gate(states).softmax(0) * states).sum(0)))
    return torch.stack(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3}])
def test_equations_by_loop(widths: dict[str, int], causal: bool) -> None:
    model = build(SDT, widths, 3, SDTConfig(width=4, heads=2, causal=causal, dropout=0.0))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)


def test_a_missing_modality_learns_nothing_from_the_others() -> None:
    widths = {"audio": 3, "text": 5}
    model = build(SDT, widths, 3, SDTConfig(width=4, heads=2, own=0.5, distil=2.0, temperature=3.0, dropout=0.0)).train()
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    found, total = model(batch), torch.zeros(()).double()
    for m in widths:
        for i in range(batch.utterances):
            p, q = ((one[i] / 3).softmax(-1) for one in (found.scores, found.auxiliary[m]))
            total = total + (p * (p / q).log()).sum() * batch.present[m][i]
    assert found.auxiliary_weight == 0.5
    torch.testing.assert_close(found.penalty, 2 * total / batch.utterances)
