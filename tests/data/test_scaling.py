from __future__ import annotations

from types import SimpleNamespace

import torch

from erc_graph.data.sample import sample_corpus
from erc_graph.data.scaling import Scaling, scale


def test_statistics_of_present_rows_by_loop():
    train = sample_corpus(dialogues=20).split("train")
    scaling = Scaling.fit(train)
    for name in train.modalities:
        rows = [train.features[name][i].tolist() for i in range(train.utterances) if train.present[name][i]]
        for column in range(train.features[name].shape[1]):
            values = [row[column] for row in rows]
            mean = sum(values) / len(values)
            std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
            assert abs(scaling.mean[name][column].item() - mean) < 1e-5
            assert abs(scaling.std[name][column].item() - std) < 1e-5


def test_applied_to_its_own_rows_gives_mean_zero_and_deviation_one():
    batch = sample_corpus(dialogues=20).split("train").batch()
    scaled = Scaling.fit(batch, ["audio"]).apply(batch.features, batch.present)
    assert list(scaled) == ["audio"]
    there = scaled["audio"][batch.present["audio"]]
    torch.testing.assert_close(there.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(there.std(0, correction=0), torch.ones(8), atol=1e-5, rtol=0)
    assert (scaled["audio"][~batch.present["audio"]] == 0).all()


def test_constant_columns_and_modalities_without_a_row():
    values = torch.tensor([[1e6 + 0.1, 1.0], [1e6 + 0.1, 3.0]])

    rows = SimpleNamespace(
        features={"a": values, "b": values}, present={"a": torch.tensor([True, True]), "b": torch.tensor([False, False])}
    )
    scaling = Scaling.fit(rows)
    assert scaling.std["a"].tolist() == [1.0, 1.0]
    assert scaling.mean["b"].tolist() == [0.0, 0.0] and scaling.std["b"].tolist() == [1.0, 1.0]
    assert scaling.apply(rows.features, rows.present)["a"].tolist() == [[0.0, -1.0], [0.0, 1.0]]


def test_a_large_offset_keeps_its_digits():
    values = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)) + 1000
    scaling = Scaling.fit(SimpleNamespace(features={"a": values}, present={"a": torch.ones(20_000, dtype=torch.bool)}))
    torch.testing.assert_close(scaling.std["a"], values.double().std(0, correction=0).float(), atol=1e-6, rtol=1e-6)


def test_nan_in_an_absent_row_stays_out():
    values = torch.tensor([[1.0], [float("nan")]])
    assert scale(values, torch.tensor([True, False]), torch.zeros(1), torch.ones(1)).tolist() == [[1.0], [0.0]]
