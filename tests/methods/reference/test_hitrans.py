"""HiTrans: arrays of the public code with a tiny BERT, and what a language model reads at once in long dialogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.encoders import positions as module
from erc_graph.encoders.language_model import LanguageModelConfig
from erc_graph.methods.hitrans import HiTrans, HiTransConfig
from tests.methods.reference.conftest import Reference, batch_of, build

pytestmark = pytest.mark.reference
OPTIONS = {"bert_heads": 2, "heads": 3, "layers": 2, "chunk": 16, "cls_sep_pad": [1, 2, 0]}


def renamed(given: Mapping[str, Tensor], layers: int, sigma: Tensor) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    found = {"log_sigma": sigma.log(), "pairs": given["spk_output_layer.biaffine.weight"]}
    found |= {f"text.model.model.{k.removeprefix('bert.')}": v for k, v in given.items() if k.startswith("bert.") and "pooler" not in k}
    names = {"classify.1": "emo_output_layer.1", "first.1": "spk_output_layer.mpl1.1", "second.1": "spk_output_layer.mpl2.1"}
    for i in range(layers):
        theirs, ours = f"encoder.transformer_inter.{i}", f"layers.{i}"
        names |= {f"{ours}.attention.output": f"{theirs}.self_attn.linear", f"{ours}.feedforward.0": f"{theirs}.feed_forward.layer_norm"}
        names |= {f"{ours}.feedforward.{k}": f"{theirs}.feed_forward.w_{n}" for k, n in ((1, 1), (4, 2))}
        names |= {f"{ours}.norm": f"{theirs}.layer_norm"} if i else {}
        for end in ("weight", "bias"):
            parts = [given[f"{theirs}.self_attn.linear_{part}.{end}"] for part in "qkv"]
            found[f"{ours}.attention.query_key_value.{end}"] = torch.cat(parts)
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


@pytest.fixture
def case(reference: Callable[[str], Reference], put: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> tuple[Reference, Any, Batch]:
    """Arrays, our model with their parameters, and the dialogues: tokens of the turns, each with a closing one."""
    arrays = reference("hitrans")
    options, given = arrays.options(**OPTIONS), arrays.under("param/")
    (_, closing, padding), layers = options["cls_sep_pad"], options["layers"]
    words = given["bert.embeddings.word_embeddings.weight"]
    settings = {
        "model_type": "bert", "vocab_size": words.shape[0], "hidden_size": words.shape[1], "num_attention_heads": options["bert_heads"],
        "num_hidden_layers": len([name for name in given if name.startswith("bert.") and name.endswith("intermediate.dense.weight")]),
        "intermediate_size": len(given["bert.encoder.layer.0.intermediate.dense.bias"]), "pad_token_id": padding,
        "max_position_embeddings": len(given["bert.embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(given["bert.embeddings.token_type_embeddings.weight"]),
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    config = HiTransConfig(
        layers=layers, heads=options["heads"], feedforward=len(given["encoder.transformer_inter.0.feed_forward.w_1.bias"]), diagonal=True,
        dropout=0.0, head_dropout=0.0, language_model=LanguageModelConfig(settings=settings),
    )  # fmt: skip
    model = build(HiTrans, {}, len(given["emo_output_layer.1.bias"]), config, sequences={"text": (1,)})
    kept = {name: value for name, value in model.state_dict().items() if name.endswith("_ids")}  # of BERT, for its positions
    put(model, renamed(given, layers, arrays["param_loss/sigma"]) | kept)
    model.text.longest = options["chunk"]
    table = given["encoder.pos_emb.pe"][0]
    torch.testing.assert_close(module.sines(torch.arange(len(table)), table), table, rtol=0, atol=1e-4)  # single precision
    monkeypatch.setattr(module, "sines", lambda turn, like: table[turn])
    turns = []
    for ids, first, here in zip(arrays["in/input_ids"], arrays["in/cls_index"], arrays["in/mask"], strict=True):
        for part in ids.tensor_split(first[here][1:]):
            real = part[part != padding]
            real = real[:-1] if real[-1] == closing else real
            turns.append(torch.cat([real, torch.tensor([closing])])[:, None].float())
    speakers, labels = ([row[mask] for row, mask in zip(arrays[k], arrays["in/mask"], strict=True)] for k in ("in/speaker", "in/emotion"))
    return arrays, model, replace(batch_of(speakers, labels), sequences={"text": Ragged.of(turns)})


def test_states_scores_losses_and_gradients(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    given, here = model.given(batch), arrays["in/mask"]

    def same(found: Tensor, name: str, mask: Tensor) -> None:
        torch.testing.assert_close(found[mask], arrays[name][mask], rtol=0, atol=1e-8)

    same(batch.pad(model.contents(given)), "mid/cls_vectors", here)
    states = model.encode(given)
    same(batch.pad(states), "mid/context", here)
    scores = model.classify(states)
    same(batch.pad(scores), "out/emotion_logits", here)
    pairs, real = model.verify(states, batch)
    assert torch.equal(real, arrays["in/pair_mask"])
    same(pairs, "out/speaker_logits", real)
    emotion, speaker = model.losses(scores, states, batch)
    arrays.same(emotion, "out/emotion_loss")
    arrays.same(speaker, "out/speaker_loss")
    loss = torch.nn.functional.cross_entropy(scores, batch.target) + model.train().answer(given).penalty
    arrays.same(loss, "out/loss")
    loss.backward()
    arrays.same(model.pairs.grad, "grad/spk_output_layer.biaffine.weight")
    query = model.layers[0].attention.query_key_value.weight.grad.chunk(3)[0]
    arrays.same(query, "grad/encoder.transformer_inter.0.self_attn.linear_q.weight")
    arrays.same(model.log_sigma.grad / arrays["param_loss/sigma"], "grad_loss/sigma")


def test_a_dialogue_alone(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    alone = batch.select(torch.tensor([1]))
    arrays.same(model(alone).scores[None], "alone1/emotion_logits")


def test_no_turn_is_divided_between_chunks_and_none_is_left_out() -> None:
    """Eleven turns of different lengths, one of them without a word, in a model that takes few tokens: many cuts."""
    settings = {"model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = LanguageModelConfig(settings={**settings, "intermediate_size": 8, "max_position_embeddings": 13})
    model = build(HiTrans, {}, 3, HiTransConfig(heads=2, language_model=language), sequences={"text": (1,)})
    tokens = [torch.arange(n)[:, None] % 20 + 3.0 for n in (3, 5, 2, 0, 9, 7, 3, 3, 14, 2, 6)]
    speakers = torch.zeros(len(tokens), dtype=torch.long)
    batch, found = replace(batch_of([speakers], [speakers]), sequences={"text": Ragged.of(tokens)}), []
    model.text.model.register_forward_hook(lambda _, given, __: found.extend(given[0].sizes))
    states = model.contents(model.given(batch))
    assert found == [2 + 4 + 1, 8, 6 + 2 + 2, 13, 1 + 6] and not states[3].any() and states.isfinite().all()


def test_causal_reads_one_turn_at_a_time(case: tuple[Reference, Any, Batch]) -> None:
    _, model, batch = case
    causal = build(HiTrans, {}, model.schema.outputs, replace(model.config, causal=True), sequences={"text": (1,)})
    causal.load_state_dict(model.state_dict())
    rows = causal.contents(causal.given(batch))
    one = replace(batch_of([torch.zeros(1, dtype=torch.long)], [torch.zeros(1, dtype=torch.long)]), sequences={
        "text": batch.sequences["text"].take([1])})  # fmt: skip
    torch.testing.assert_close(rows[1:2], causal.contents(causal.given(one)))
    assert causal.causal and not model.causal
