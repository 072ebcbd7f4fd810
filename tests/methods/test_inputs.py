"""What is done with the features before any method reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import Task
from erc_graph.encoders.pooled import statistics
from erc_graph.encoders.text_layers import TextLayersConfig
from erc_graph.errors import ConfigError
from erc_graph.methods.inputs import Inputs, InputsConfig, hidden, silent, swapped
from erc_graph.methods.schema import Schema
from tests.encoders.conftest import make_batch

WIDTHS = {"text": 5, "audio": 3}
TASK = Task(name="two", labels=("no", "yes"))
ITEMS: dict[str, tuple[int, ...]] = {"text": (4,)}


def make(widths: dict[str, int] | None = None, *, options: dict[str, Any] | None = None, **changes: Any) -> Inputs:
    schema = Schema(widths=WIDTHS if widths is None else widths, task=TASK)
    return Inputs(schema, InputsConfig(**changes), **options or {}).double()


def values(inputs: Inputs, batch: Batch) -> dict[str, Tensor]:
    return dict(inputs(inputs.vectors(batch)).values)


def more(batch: Batch, **widths: int) -> Batch:
    """The batch with further feature sets; every fifth row of them is missing."""
    rows = batch.utterances
    features = {name: torch.randn(rows, width, dtype=torch.float64) for name, width in widths.items()}
    return replace(
        batch,
        features={**batch.features, **features},
        present={**batch.present, **dict.fromkeys(widths, torch.arange(rows) % 5 > 0)},
    )


def spoken(*lengths: int) -> Batch:
    """Words in the place of the text's vectors; every third utterance has none."""
    batch = make_batch(*lengths)
    count = torch.arange(batch.utterances) % 3
    words = Ragged(torch.randn(int(count.sum()), 4, dtype=torch.float64), torch.cat([count.new_zeros(1), count.cumsum(0)]))
    return replace(batch, features={"audio": batch.features["audio"]}, present={"audio": batch.present["audio"]}, sequences={"text": words})


# -- scaling -------------------------------------------------------------------------------------------------------------------------


def test_scaling_is_fitted_on_present_rows_alone() -> None:
    train = make_batch(7, 5, 9)
    features = {name: value.clone() for name, value in train.features.items()}
    for name, value in features.items():
        value[~train.present[name]] = 1e9
    inputs = make()
    inputs.fit(replace(train, features=features))
    states = values(inputs, train)
    for name in WIDTHS:
        rows = [row for row in range(train.utterances) if train.present[name][row]]
        for column in range(WIDTHS[name]):
            own = [float(train.features[name][row, column]) for row in rows]
            mean = sum(own) / len(own)
            deviation = (sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5
            expected = [(v - mean) / deviation for v in own]
            assert states[name][rows, column].tolist() == pytest.approx(expected, abs=1e-9)


def test_scaling_of_training_data_is_used_for_other_data() -> None:
    inputs = make()
    inputs.fit(make_batch(20))
    stored = {name: value.clone() for name, value in inputs.state_dict().items()}
    assert set(stored) == {"mean_text", "deviation_text", "mean_audio", "deviation_audio"}  # saved with the model
    values(inputs, make_batch(9))
    assert all(torch.equal(value, stored[name]) for name, value in inputs.state_dict().items())
    other = make()
    other.load_state_dict(stored)
    data = make_batch(6)
    assert all(torch.equal(one, two) for one, two in zip(values(inputs, data).values(), values(other, data).values(), strict=True))


def test_a_missing_row_is_zero_whatever_stands_there() -> None:
    batch = make_batch(9)
    inputs = make()
    inputs.fit(batch)
    features = {
        name: value.masked_fill(~batch.present[name][:, None], float("nan")).requires_grad_() for name, value in batch.features.items()
    }
    given = inputs(replace(batch, features=features))
    for name, value in given.values.items():
        assert not value[~batch.present[name]].any() and value[batch.present[name]].isfinite().all()
        assert torch.equal(given.present[name], batch.present[name])
        value.sum().backward()
        grad = features[name].grad
        assert grad is not None and not grad[~batch.present[name]].any() and grad[batch.present[name]].all()
    assert torch.equal(given.here(("audio", "text")), torch.stack([batch.present["audio"], batch.present["text"]], 1))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e6, 1e-9])
def test_a_constant_column_is_zero_and_not_divided_by_nothing(value: float) -> None:
    batch = make_batch(9)
    batch.features["text"][:, 2] = value
    inputs = make().float()
    inputs.fit(batch)
    states = values(inputs, replace(batch, features={name: x.float() for name, x in batch.features.items()}))
    assert float(inputs.get_buffer("deviation_text")[2]) == 1.0
    assert states["text"].isfinite().all()
    assert states["text"][batch.present["text"]][:, 2].abs().max() <= 0.5 * max(1.0, abs(value)) * 2**-22


@pytest.mark.parametrize("rows", [0, 1])
def test_without_enough_rows_nothing_is_scaled(rows: int) -> None:
    batch = make_batch(4)
    inputs = make()
    inputs.fit(replace(batch, present={name: torch.arange(4) < rows for name in WIDTHS}))
    there = batch.present["text"]
    assert torch.equal(values(inputs, batch)["text"][there], batch.features["text"][there])


# -- noise ---------------------------------------------------------------------------------------------------------------------------


def test_swap_noise_trades_rows_of_one_modality() -> None:
    batch = make_batch(20, 20)
    noisy = swapped(batch, {"text": 0.5})
    same = (noisy.features["text"] == batch.features["text"]).all(1)
    assert 0.2 < same.double().mean() < 0.9
    home = {tuple(row): here for row, here in zip(batch.features["text"].tolist(), batch.present["text"].tolist(), strict=True)}
    for row, here in zip(noisy.features["text"].tolist(), noisy.present["text"].tolist(), strict=True):
        assert home[tuple(row)] == here
    assert torch.equal(noisy.features["audio"], batch.features["audio"]) and torch.equal(noisy.present["audio"], batch.present["audio"])
    assert torch.equal(swapped(batch, {"text": 0.0}).features["text"], batch.features["text"])


def test_hidden_modalities_are_a_share_and_never_the_last() -> None:
    here = {"text": torch.arange(3000) % 3 > 0, "audio": torch.arange(3000) % 5 > 0}
    kept = hidden(here, 0.4)
    assert all(not (kept[name] & ~here[name]).any() for name in here)
    some = here["text"] | here["audio"]
    assert torch.equal(kept["text"] | kept["audio"], some)
    both = here["text"] & here["audio"]
    for name in here:  # gone: hidden while the other is not, 0.4 * 0.6
        assert float((~kept[name])[both].float().mean()) == pytest.approx(0.24, abs=0.04)
        assert torch.equal(hidden(here, 0.0)[name], here[name])


def test_sequences_that_are_hidden_have_no_items() -> None:
    sequences = Ragged.of([torch.randn(length, 3) for length in (2, 0, 3, 1)])
    kept = silent(sequences, torch.tensor([True, True, False, True]))
    assert kept.lengths.tolist() == [2, 0, 0, 1]
    assert torch.equal(kept[0], sequences[0]) and torch.equal(kept[3], sequences[3])


@pytest.mark.parametrize("changes", [{"modality_dropout": 0.5}, {"swap_noise": {"text": 0.5}}])
def test_noise_is_for_training_alone(changes: dict[str, Any]) -> None:
    batch = make_batch(20)
    inputs = make(**changes)
    assert inputs.eval().noisy(batch) is batch
    noisy = inputs.train().noisy(batch)
    assert any(not torch.equal(noisy.present[name], batch.present[name]) for name in WIDTHS)
    assert make().train().noisy(batch) is batch


def test_modality_dropout_hides_sequences_as_well_as_vectors() -> None:
    batch = spoken(200)
    schema = Schema(widths={"audio": 3}, sequences=ITEMS, task=TASK)
    inputs = Inputs(schema, InputsConfig(modality_dropout=0.4), sequences=tuple(ITEMS)).double().train()
    noisy = inputs.noisy(batch)
    given = inputs(noisy)
    before = {"audio": batch.present["audio"], "text": batch.sequences["text"].present}
    for name, here in before.items():
        assert not (given.present[name] & ~here).any() and 0.05 < float((here & ~given.present[name]).double().mean()) < 0.5
    assert torch.equal(given.here(("audio", "text")).any(1), before["audio"] | before["text"])
    for row in range(batch.utterances):
        kept = bool(given.present["text"][row])
        assert torch.equal(given.sequences["text"][row], batch.sequences["text"][row][: None if kept else 0])


# -- relative to the speaker ---------------------------------------------------------------------------------------------------------


def test_relative_to_the_speaker_equals_a_loop() -> None:
    batch = make_batch(9, 1, 14)
    inputs, plain = make(speaker_relative=["audio"]), make()
    inputs.fit(batch)
    plain.fit(batch)
    states, scaled = values(inputs, batch), values(plain, batch)
    assert inputs.shapes.widths == {"text": 5, "audio": 6} and plain.shapes.widths == WIDTHS
    assert torch.equal(states["text"], scaled["text"])
    turns: dict[tuple[int, int], list[int]] = {}
    for row in range(batch.utterances):
        if batch.present["audio"][row]:
            turns.setdefault((int(batch.dialogue[row]), int(batch.speaker[row])), []).append(row)
    assert max(len(rows) for rows in turns.values()) > 1
    for rows in turns.values():
        for column in range(WIDTHS["audio"]):
            own = [float(scaled["audio"][row, column]) for row in rows]
            mean = sum(own) / len(own)
            deviation = (sum((v - mean) ** 2 for v in own) / len(own)) ** 0.5
            assert states["audio"][rows, 3 + column].tolist() == pytest.approx([(v - mean) / (deviation + 0.1) for v in own], abs=1e-5)
    assert not states["audio"][~batch.present["audio"]].any()


def test_relative_to_the_speaker_is_the_same_alone_and_in_a_batch() -> None:
    batch = make_batch(9, 4, 14)
    inputs = make(speaker_relative=["audio", "text"])
    alone = torch.cat([values(inputs, batch.select(torch.tensor([i])))["text"] for i in range(3)])
    torch.testing.assert_close(values(inputs, batch)["text"], alone, rtol=0, atol=1e-12)


def test_relative_to_the_speaker_needs_later_turns() -> None:
    inputs = make(speaker_relative=["audio"])
    assert inputs.speaker_relative is not None and not inputs.speaker_relative.causal
    assert make().speaker_relative is None


# -- other feature sets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [(), ("said",)])
def test_a_second_text_and_given_speakers_are_no_modalities(prior: tuple[str, ...]) -> None:
    batch = more(make_batch(8), bert=4, speaker=2, said=2)
    widths = {**WIDTHS, "bert": 4, "speaker": 2, "said": 2}
    inputs = make(widths, second_text="bert", given_speakers=True, options={"second_text": True, "prior": prior})
    inputs.fit(batch)
    assert set(inputs.shapes.widths) == {"text", "audio", *({"said"} - set(prior))}
    assert (inputs.shapes.second_text, inputs.shapes.speaker) == (4, 2)
    given = inputs(batch)
    assert set(given.values) == set(inputs.shapes.widths) and given.second_text is not None and given.speaker is not None
    for (value, here), name in ((given.second_text, "bert"), (given.speaker, "speaker")):
        rows = batch.features[name][batch.present[name]]
        expected = (rows - rows.mean(0)) / rows.std(0, correction=0)
        torch.testing.assert_close(value[here], expected)
        assert torch.equal(here, batch.present[name]) and not value[~here].any()


def test_speaker_vectors_that_nobody_asked_for_are_not_read() -> None:
    inputs = make({**WIDTHS, "speaker": 2})
    assert inputs.shapes.widths == WIDTHS and inputs.shapes.speaker == 0
    assert inputs(make_batch(4)).speaker is None  # the batch need not have them


# -- sequences -----------------------------------------------------------------------------------------------------------------------


def test_sequences_are_their_statistics_for_a_method_of_vectors() -> None:
    batch = spoken(7, 4)
    inputs = Inputs(Schema(widths={"audio": 3}, sequences=ITEMS, task=TASK), InputsConfig()).double()
    assert inputs.shapes.widths == {"audio": 3, "text": 8} and inputs.shapes.items == {}
    once = inputs.prepared(batch)
    assert torch.equal(once.features["text"], statistics(batch.sequences["text"])) and not once.sequences
    assert inputs.prepared(once) is once
    torch.testing.assert_close(values(inputs, once), values(inputs, batch))
    inputs.fit(batch)
    assert not torch.equal(inputs.get_buffer("mean_text"), torch.zeros(8))


def test_a_method_of_sequences_reads_them_itself() -> None:
    batch = spoken(7, 4)
    inputs = Inputs(Schema(widths={"audio": 3}, sequences=ITEMS, task=TASK), InputsConfig(), sequences=tuple(ITEMS)).double()
    assert inputs.shapes.widths == {"audio": 3} and inputs.shapes.items == ITEMS and inputs.shapes.modalities == ("audio", "text")
    assert inputs.vectors(batch) is batch
    given = inputs(batch)
    assert given.sequences["text"] is batch.sequences["text"] and torch.equal(given.present["text"], batch.sequences["text"].present)


# -- refused -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "changes", "options", "message"),
    [
        (
            {}, {"second_text": "bert"}, {},
            "inputs.second_text: expected no feature set, because this method reads no second text, found 'bert'",
        ),
        (
            {}, {"second_text": "bert"}, {"second_text": True},
            r"inputs.second_text: expected a feature set `bert`; the corpus has text, audio",
        ),
        ({}, {"given_speakers": True}, {}, r"inputs.given_speakers: expected a feature set `speaker`; the corpus has text, audio"),
        ({}, {"speaker_relative": ["smell"]}, {}, r"inputs.speaker_relative: expected modalities of the corpus \(audio, text\), found"),
        (
            {"said": 2}, {"speaker_relative": ["said"]}, {"prior": ("said",)},
            r"inputs.speaker_relative: expected modalities that are vectors \(text, audio\), found 'said'",
        ),
        (
            {},
            {"text_layers": TextLayersConfig(layers=1)},
            {},
            "inputs.text_layers.layers: expected text as sequences of hidden states, one per token, as `erc-graph features "
            "--pooling words` makes them, found text that is no seq",
        ),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_the_corpus(widths: dict[str, int], changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make({**WIDTHS, **widths}, options=options, **changes)


def test_nothing_to_read() -> None:
    with pytest.raises(ConfigError, match="modalities: expected one or more, such as text, audio or visual; found speaker"):
        make({"speaker": 3})
    with pytest.raises(ConfigError, match=r"inputs.text_layers.layers: .*, found items of shape \(3, 4\)"):
        schema = Schema(widths={}, sequences={"text": (3, 4)}, task=TASK)
        Inputs(schema, InputsConfig(text_layers=TextLayersConfig(layers=1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality_dropout": 1.0}, r"inputs\.modality_dropout: expected a number in \[0, 1\), found 1\.0"),
        ({"swap_noise": {"text": 2.0}}, r"inputs\.swap_noise: expected numbers from 0 to 1, found"),
    ],
)
def test_impossible_numbers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputsConfig(**changes)
