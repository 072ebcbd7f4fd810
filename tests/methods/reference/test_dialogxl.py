"""DialogXL: arrays of the public code with a tiny XLNet, each dialogue alone, and all together with the padding that it hears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.dialog_attention import RelativeLayer
from erc_graph.encoders.language_model import LanguageModelConfig
from erc_graph.errors import ConfigError
from erc_graph.methods import dialogxl as module
from erc_graph.methods.dialogxl import DialogXL, DialogXLConfig
from tests.methods.reference.conftest import Reference, batch_of, build

pytestmark = pytest.mark.reference
OPTIONS = {"local_global_speaker_listener": [1, 1, 1, 1], "head_width": 3, "mem_len": 10, "windowp": 1}


def turns_of(arrays: Reference) -> int:
    return len({name.split("/")[0] for name in arrays if name.startswith("turn")})


@pytest.fixture
def case(reference: Callable[[str], Reference], monkeypatch: pytest.MonkeyPatch) -> tuple[Reference, Any, Batch]:
    """Arrays, our model with their parameters, and the dialogues; token ids without the first, which is `<cls>`."""
    arrays = reference("dialogxl")
    options, given = arrays.options(**OPTIONS), arrays.under("param/")
    words, heads = given["xlnet.word_embedding.weight"], options["local_global_speaker_listener"]
    monkeypatch.setattr(module, "CLS", int(arrays["turn0/in/content_ids"][0, 0]))
    monkeypatch.setattr(module, "CLOSING", ())
    _, width = words.shape
    settings = {
        "model_type": "xlnet", "vocab_size": len(words), "d_model": width, "n_head": sum(heads), "d_head": options["head_width"],
        "n_layer": sum(name.endswith("rel_attn.q") for name in given), "d_inner": len(given["xlnet.layer.0.ff.layer_1.bias"]),
    }  # fmt: skip
    groups = dict(zip(("local_heads", "global_heads", "speaker_heads", "listener_heads"), heads, strict=True))
    config = DialogXLConfig(
        hidden=len(given["pool_fc.0.bias"]), window=options["windowp"], memory=options["mem_len"], dropout=0.0, **groups,
        language_model=LanguageModelConfig(settings=settings),
    )  # fmt: skip
    model = build(DialogXL, {}, len(given["out_mlp.4.bias"]), config, sequences={"text": (1,)})
    unseen = set(model.state_dict())
    model.take({name.removeprefix("xlnet."): value for name, value in given.items() if name.startswith("xlnet.")})
    names = {"0.0": "pool_fc.0", "2.0": "out_mlp.0", "3.0": "out_mlp.2", "4": "out_mlp.4"}
    last = {f"classify.{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    model.load_state_dict(last, strict=False)
    assert {name for name in unseen if not name.startswith(("context.layers", "words", "begin", "inputs"))} == set(last)
    tokens: list[Tensor] = []
    speakers, labels = [], []
    for d in range(len(arrays["turn0/in/label"])):
        own = [arrays.under(f"turn{t}/in/") for t in range(turns_of(arrays))]
        own = [one for one in own if one["label"][d] >= 0]
        tokens += [one["content_ids"][d, 1 : one["content_lengths"][d], None].float() for one in own]
        speakers.append(torch.stack([one["speaker_ids"][d] for one in own]).long())
        labels.append(torch.stack([one["label"][d] for one in own]))
    return arrays, model, replace(batch_of(speakers, labels), sequences={"text": Ragged.of(tokens)})


def near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-7)  # the positions of the code are of single precision


def test_each_dialogue_is_what_the_code_gives_it_alone(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    scores = model(batch).scores
    for d, own in enumerate(scores.split(batch.sizes)):
        for turn, row in enumerate(own):
            near(row, arrays[f"alone{d}/turn{turn}/logits"][0])
    assert model.causal


def test_with_the_padding_that_the_code_hears(case: tuple[Reference, Any, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, losses and gradients; as in the code, no gradient reaches earlier turns."""
    arrays, model, batch = case
    turns, plain = turns_of(arrays), RelativeLayer.forward
    shapes = [arrays[f"turn{t}/in/content_ids"].shape for t in range(turns)]
    size = batch.utterances, max(length for _, length in shapes)
    ids, mask, present = torch.zeros(size, dtype=torch.long), torch.zeros(size) > 0, torch.zeros(size) > 0
    for row, (d, t) in enumerate(zip(batch.dialogue.tolist(), batch.turn.tolist(), strict=True)):
        one, length = arrays.under(f"turn{t}/in/"), shapes[t][1]
        ids[row, :length], mask[row, :length], present[row, :length] = one["content_ids"][d], one["content_mask"][d] > 0, True
    model.context.remembered = lambda nodes: mask & (torch.arange(mask.shape[1]) > 0)
    together: list[Tensor] = []
    attended = model.context.attended

    def watched(facts: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        together.append((facts[:, :, None, 0] == facts[:, None, :, 0])[:, None])
        return attended(facts, real)

    def forward(layer: RelativeLayer, states: Tensor, heard: Tensor, distance: Tensor, table: Tensor) -> Tensor:
        keys = torch.cat([states, states.detach()], 1)
        heard = torch.cat([heard & together[0], heard & ~together[0]], -1)
        return plain(layer, states, heard, torch.cat([distance, distance], -1), table, keys)

    model.context.attended = watched
    monkeypatch.setattr(RelativeLayer, "forward", forward)
    nodes = Nodes(model.words(ids), present, ())
    scores = model.classify(model.context(nodes, batch).states[:, 0])
    losses = []
    for t in range(turns):
        here = batch.turn == t
        near(scores[here], arrays[f"turn{t}/out/logits"][arrays[f"turn{t}/in/label"] >= 0])
        losses.append(F.cross_entropy(scores[here], batch.target[here]))
        near(losses[-1], arrays[f"turn{t}/out/loss"])
    near(torch.stack(losses).sum(), arrays["out/loss_sum_over_turns"])
    torch.stack(losses).sum().backward()
    for part, name in (("relative", "layer.0.rel_attn.r"), ("value", "layer.1.rel_attn.v")):
        layer = model.context.layers[int(name.split(".")[1])]
        near(getattr(layer, part).weight.grad, arrays[f"grad/xlnet.{name}"].flatten(1).T)


def test_a_first_turn_is_what_xlnet_gives(tmp_path: Path) -> None:
    """The layers of a folder, in which `<cls>` stands first and the closing tokens are left out."""
    transformers = pytest.importorskip("transformers")
    config = transformers.XLNetConfig(vocab_size=11, d_model=12, n_layer=2, n_head=4, d_inner=10, dropout=0.0)
    theirs = transformers.XLNetModel(config).eval()
    for value in theirs.parameters():
        value.data.normal_(0, 0.3)
    theirs.save_pretrained(tmp_path)
    options = DialogXLConfig(language_model=LanguageModelConfig(folder=str(tmp_path)))
    model = build(DialogXL, {}, 3, options, sequences={"text": (1,)}, dtype=torch.float32)
    one = torch.zeros(1, dtype=torch.long)
    words = Ragged.of([torch.tensor([[7.0], [9.0], [8.0], [module.CLOSING[0]], [module.CLOSING[1]]])])
    found = model.encode(model.given(replace(batch_of([one], [one]), sequences={"text": words})))
    torch.testing.assert_close(found, theirs(torch.tensor([[module.CLS, 7, 9, 8]])).last_hidden_state[:, 0], atol=1e-5, rtol=0)
    again = build(DialogXL, {}, 3, model.config, sequences={"text": (1,)}, dtype=torch.float32)
    assert not model.config.language_model.folder and again.state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ConfigError, match="expected 4 attention heads in all groups, as in XLNet, found 5; change local_heads"):
        build(DialogXL, {}, 3, replace(options, local_heads=2), sequences={"text": (1,)})
    with pytest.raises(ConfigError, match=r"language_model.lora: expected 0 for an XLNet, because DialogXL computes XLNet with"):
        build(DialogXL, {}, 3, replace(options, language_model=LanguageModelConfig(folder=str(tmp_path), lora=2)), sequences={"text": (1,)})
