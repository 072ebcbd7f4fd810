"""MFM: arrays of the public code, its losses with the draws that were used, and what is missing left out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.methods.mfm import MFM, MFMConfig
from erc_graph.methods.penalties import discrepancy
from tests.methods.reference.conftest import SPEAKERS, Reference, build, random_batch, stir
from tests.methods.reference.test_mfn import NAMES, renamed, sizes, spoken

pytestmark = pytest.mark.reference
LETTERS = {"label": "y", **NAMES}


def parameters(given: Reference) -> dict[str, Tensor]:
    """The parameters of the public code under our names; its output layer of MFN is not read."""
    names = {"latent.label": "last_to_zy_fc1", "classify.0": "fy_to_y_fc1", "classify.3": "fy_to_y_fc2"}
    found = renamed(given.under("mfn_encoder."), "memory")
    for m, letter in LETTERS.items():
        names |= {f"factor.{m}.{3 * i}": f"z{letter}_to_f{letter}_fc{i + 1}" for i in range(2)}
        if m != "label":
            names |= {f"latent.{m}": f"encoder_{letter}.fc1", f"columns.{m}": f"decoder_{letter}.fc1"}
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                found |= {f"encoders.{m}.{part}_l0": given[f"encoder_{letter}.lstm.{part}"]}
                found |= {f"decoders.{m}.{part}": given[f"decoder_{letter}.lstm.{part}"]}
    return found | {f"{mine}.{end}": given[f"{theirs}.{end}"] for mine, theirs in names.items() for end in ("weight", "bias")}


def test_a_score(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mfm")
    given, batch = arrays.under("param/"), spoken(arrays)
    config = MFMConfig(
        graph="none",
        latents={m: len(given[f"z{letter}_to_f{letter}_fc1.weight"].T) for m, letter in LETTERS.items()},
        factors={m: len(given[f"z{letter}_to_f{letter}_fc1.weight"]) for m, letter in LETTERS.items()},
        dropout=0.0,
        **sizes(given.under("mfn_encoder.")),
    )
    items = {m: (arrays[f"in/{m}"].shape[-1],) for m in NAMES}
    model = build(MFM, {}, 0, config, sequences=items, dtype=arrays["in/text"].dtype).train()
    put(model, parameters(given))

    seen: dict[str, Tensor] = {}
    for m in NAMES:
        model.columns[m].register_forward_hook(lambda _, x, y, m=m: seen.update({m: y}))
    model.latent["label"].register_forward_hook(lambda _, x, y: seen.update(last=x[0]))
    told = model.given(batch)
    rows = model.steps.encode(model.read, told.values, told.sequences, told.present, sum(model.sizes))
    *latents, errors = rows.split(model.sizes, 1)
    arrays.same(seen["last"], "mid/mfn_last")
    discrepancies = []
    for z, letter in zip(latents, LETTERS.values(), strict=True):
        arrays.same(z, f"mid/z{letter}")
        discrepancies.append(discrepancy(z, arrays[f"mid/gauss_{letter}"]))
        arrays.same(discrepancies[-1], f"mid/mmd_{letter}")
    for m, letter in NAMES.items():
        arrays.same(seen[m].transpose(0, 1), f"out/x_{letter}_hat")
    scores = model(batch).scores[:, 0]
    arrays.same(scores, "out/y_hat")
    weights = arrays.options(reconstruction_weights={"text": 1.0, "audio": 0.01, "video": 0.5})["reconstruction_weights"]
    parts = {
        "loss_disc": (scores - batch.target).abs().mean(),
        "loss_gen": sum(weights[m] * error.mean() for m, error in zip(NAMES, errors.unbind(1), strict=True)),
        "loss_mmd": sum(discrepancies),
    }
    for name, loss in parts.items():
        arrays.same(torch.as_tensor(loss), name)
    total = torch.as_tensor(sum(parts.values()))
    arrays.same(total, "loss_total")
    total.backward()
    arrays.same(model.encoders["audio"].weight_ih_l0.grad, "grad/encoder_a.lstm.weight_ih")
    arrays.same(model.latent["label"].weight.grad, "grad/last_to_zy_fc1.weight")
    arrays.same(model.columns["video"].weight.grad, "grad/decoder_v.fc1.weight")


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3}])
def test_what_is_missing_is_in_no_loss(widths: Mapping[str, int]) -> None:
    """The penalty of vectors, utterance by utterance; a modality that a single utterance has, and a batch too small for (6)."""
    factors = dict.fromkeys(("label", *widths), 4)
    config = MFMConfig(graph="none", width=3, widths={}, memory=4, hidden=5, latent=3, factors=factors, dropout=0.0, discrepancy_weight=2.0)
    model: Any = build(MFM, widths, 3, config).train()
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    for part in (batch, batch.select(torch.tensor([1, 3])), replace(batch, present=dict.fromkeys(widths, batch.row == 3))):
        torch.manual_seed(5)
        found = model(part)
        loss, rows = torch.zeros(()).double(), {m: [] for m in ("label", *model.names)}  # type: ignore[var-annotated]
        errors: dict[str, list[Tensor]] = {m: [] for m in model.names}
        for i in range(part.utterances):
            there = [m for m in model.names if part.present[m][i]]
            if not there:
                continue
            on = torch.tensor([[[m in there for m in model.names]]])
            x = {m: part.features[m][i] if m in there else torch.zeros(widths[m]).double() for m in model.names}
            states, _ = model.memory(model.memory.gates({m: value[None, None] for m, value in x.items()}), on)
            rows["label"].append(model.latent["label"](states[0, 0]))
            for m in there:
                rows[m].append(model.latent[m](model.encoders[m](x[m][None])[0][0]))
                state = torch.cat([model.factor["label"](rows["label"][-1]), model.factor[m](rows[m][-1])])
                errors[m].append((model.columns[m](model.decoders[m](state)[0]) - x[m]).square().mean())
        for m, found_errors in errors.items():
            if found_errors:
                loss = loss + config.reconstruction_weights.get(m, 1.0) * torch.stack(found_errors).mean()
        torch.manual_seed(5)
        for z in rows.values():
            if len(z) >= 8:
                z = torch.stack(z)
                g = torch.randn_like(z)
                for one, other, sign in ((g, g, 1), (z, z, 1), (g, z, -2)):
                    pairs = [(-(a - b).square().sum() / len(a) ** 2).exp() for a in one for b in other]
                    loss = loss + sign * config.discrepancy_weight * torch.stack(pairs).mean()
        torch.testing.assert_close(torch.as_tensor(found.penalty), loss, rtol=0, atol=1e-10)
        assert model.eval()(part).penalty == 0.0
        torch.testing.assert_close(model(part).scores, found.scores, rtol=0, atol=1e-12)
        model.train()
