from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from erc_graph.encoders.inputs import Inputs, hidden, swapped

WIDTHS = {"text": 5, "audio": 3}


def test_scaling_is_fitted_on_present_rows_alone(batches):
    train = batches(7, 5, 9)
    features = {name: value.clone() for name, value in train.features.items()}
    for name, value in features.items():
        value[~train.present[name]] = 1e9
    inputs = Inputs(WIDTHS).double()
    inputs.fit(replace(train, features=features))
    states = inputs(train)
    for name in WIDTHS:
        rows = [row for row in range(train.utterances) if train.present[name][row]]
        for column in range(WIDTHS[name]):
            values = [float(train.features[name][row, column]) for row in rows]
            mean = sum(values) / len(values)
            deviation = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
            expected = [(v - mean) / deviation for v in values]
            assert states[name][rows, column].tolist() == pytest.approx(expected, abs=1e-9)


def test_scaling_of_training_data_is_used_for_other_data(batches):
    inputs = Inputs(WIDTHS).double()
    inputs.fit(batches(20))
    stored = {name: value.clone() for name, value in inputs.state_dict().items()}
    assert {"mean_text", "deviation_text", "mean_audio", "deviation_audio"} <= set(stored)  # saved with the model
    inputs(batches(9))
    assert all(torch.equal(value, stored[name]) for name, value in inputs.state_dict().items())
    other = Inputs(WIDTHS).double()
    other.load_state_dict(stored)
    data = batches(6)
    assert all(torch.equal(one, two) for one, two in zip(inputs(data).values(), other(data).values(), strict=True))


def test_a_missing_row_is_the_learned_vector_whatever_stands_there(batches):
    batch = batches(9)
    inputs = Inputs(WIDTHS).double()
    inputs.fit(batch)
    with torch.no_grad():
        inputs.missing["text"].copy_(torch.arange(5))
    features = {name: value.masked_fill(~batch.present[name][:, None], float("nan")) for name, value in batch.features.items()}
    states = inputs(replace(batch, features=features))
    assert (states["text"][~batch.present["text"]] == torch.arange(5)).all()
    assert states["text"][batch.present["text"]].isfinite().all()
    states["text"].sum().backward()
    assert inputs.missing["text"].grad.tolist() == [float((~batch.present["text"]).sum())] * 5


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e6, 1e-9])
def test_a_constant_column_is_zero_and_not_divided_by_nothing(value, batches):
    batch = batches(9)
    batch.features["text"][:, 2] = value
    inputs = Inputs(WIDTHS)
    inputs.fit(batch)
    states = inputs(replace(batch, features={name: x.float() for name, x in batch.features.items()}))
    assert float(inputs.deviation_text[2]) == 1.0
    assert states["text"].isfinite().all()
    assert states["text"][batch.present["text"]][:, 2].abs().max() <= 0.5 * max(1.0, abs(value)) * 2**-22


@pytest.mark.parametrize("rows", [0, 1])
def test_without_enough_rows_nothing_is_scaled(rows, batches):
    batch = batches(4)
    present = {name: torch.arange(4) < rows for name in WIDTHS}
    inputs = Inputs(WIDTHS).double()
    inputs.fit(replace(batch, present=present))
    states = inputs(batch)
    there = batch.present["text"]
    assert torch.equal(states["text"][there], batch.features["text"][there])


def test_swap_noise_trades_rows_of_one_modality(batches):
    batch = batches(20, 20)
    noisy = swapped(batch, {"text": 0.5})
    same = (noisy.features["text"] == batch.features["text"]).all(1)
    assert 0.2 < same.double().mean() < 0.9
    home = {tuple(row): here for row, here in zip(batch.features["text"].tolist(), batch.present["text"].tolist(), strict=True)}
    for row, here in zip(noisy.features["text"].tolist(), noisy.present["text"].tolist(), strict=True):
        assert home[tuple(row)] == here
    assert torch.equal(noisy.features["audio"], batch.features["audio"]) and torch.equal(noisy.present["audio"], batch.present["audio"])
    assert torch.equal(swapped(batch, {"text": 0.0}).features["text"], batch.features["text"])


def test_relative_to_the_speaker_equals_a_loop(batches):
    batch = batches(9, 1, 14)
    inputs = Inputs(WIDTHS, speaker_relative=["audio"]).double()
    inputs.fit(batch)
    plain, states = Inputs(WIDTHS).double(), inputs(batch)
    plain.fit(batch)
    scaled = plain(batch)["audio"].detach()
    assert inputs.output_widths == {"text": 5, "audio": 6}
    assert torch.equal(states["text"], plain(batch)["text"])
    states = {name: value.detach() for name, value in states.items()}
    turns: dict[tuple[int, int], list[int]] = {}
    for row in range(batch.utterances):
        if batch.present["audio"][row]:
            turns.setdefault((int(batch.dialogue[row]), int(batch.speaker[row])), []).append(row)
    assert max(len(rows) for rows in turns.values()) > 1
    for rows in turns.values():
        for column in range(WIDTHS["audio"]):
            values = [float(scaled[row, column]) for row in rows]
            mean = sum(values) / len(values)
            deviation = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
            assert states["audio"][rows, 3 + column].tolist() == pytest.approx([(v - mean) / (deviation + 0.1) for v in values], abs=1e-5)
    assert (states["audio"][~batch.present["audio"]] == 0).all()  # the learned vector, as wide as both


def test_relative_to_the_speaker_is_the_same_alone_and_in_a_batch(batches):
    batch = batches(9, 4, 14)
    inputs = Inputs(WIDTHS, speaker_relative=["audio", "text"]).double()
    alone = torch.cat([inputs(batch.select(torch.tensor([i])))["text"] for i in range(3)])
    assert torch.allclose(inputs(batch)["text"], alone, atol=1e-12)


def test_hidden_modalities_are_a_share_and_never_the_last():
    here = {"text": torch.arange(3000) % 3 > 0, "audio": torch.arange(3000) % 5 > 0}
    kept = hidden(here, 0.4)
    assert all(not (kept[name] & ~here[name]).any() for name in here)
    some = here["text"] | here["audio"]
    assert torch.equal(kept["text"] | kept["audio"], some)
    both = here["text"] & here["audio"]
    for name in here:  # gone: hidden while the other is not, 0.4 * 0.6
        assert float((~kept[name])[both].float().mean()) == pytest.approx(0.24, abs=0.04)
        assert torch.equal(hidden(here, 0.0)[name], here[name])
