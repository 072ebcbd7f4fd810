from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.batch import Batch, ranges

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=8)


def batch_of(lengths: list[int], width: int = 3) -> Batch:
    rows = sum(lengths)
    generator = torch.Generator().manual_seed(rows)
    return Batch(
        ptr=torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()]),
        speaker=torch.arange(rows) % 2,
        target=torch.arange(rows) % 5 - 1,
        judged=torch.arange(rows) % 5 > 0,
        row=torch.arange(rows) + 100,
        features={"text": torch.randn(rows, width, generator=generator)},
        present={"text": torch.arange(rows) % 3 > 0},
    )


def by_dialogue(batch: Batch, rows: torch.Tensor) -> list[torch.Tensor]:
    return [rows[a:b] for a, b in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_ranges_by_loop(pairs):
    start = torch.tensor([a for a, _ in pairs], dtype=torch.long)
    count = torch.tensor([b for _, b in pairs], dtype=torch.long)
    assert ranges(start, count).tolist() == [i for a, b in pairs for i in range(a, a + b)]


@settings(deadline=None)
@given(LENGTHS)
def test_index_arithmetic_by_loop(lengths):
    batch = batch_of(lengths)
    assert len(batch) == len(lengths)
    assert batch.utterances == sum(lengths)
    assert batch.lengths.tolist() == lengths
    assert batch.longest == max(lengths)
    assert batch.dialogue.tolist() == [d for d, n in enumerate(lengths) for _ in range(n)]
    assert batch.turn.tolist() == [t for n in lengths for t in range(n)]
    assert batch.mask.tolist() == [[t < n for t in range(max(lengths))] for n in lengths]


@settings(deadline=None)
@given(LENGTHS)
def test_pad_and_unpad(lengths):
    batch = batch_of(lengths)
    rows = batch.features["text"]
    padded = batch.pad(rows)
    for d, own in enumerate(by_dialogue(batch, rows)):
        assert torch.equal(padded[d, : len(own)], own)
        assert (padded[d, len(own) :] == 0).all()
    assert torch.equal(batch.unpad(padded), rows)
    assert torch.equal(batch.unpad(batch.pad(batch.speaker)), batch.speaker)


@settings(deadline=None)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_select_by_loop(lengths, random):
    batch = batch_of(lengths).with_cache({"deep": torch.arange(sum(lengths)).float()[:, None]})
    chosen = [random.randrange(len(lengths)) for _ in range(random.randint(1, 5))]
    part = batch.select(torch.tensor(chosen))
    for name in ("speaker", "target", "judged", "row"):
        expected = torch.cat([by_dialogue(batch, getattr(batch, name))[d] for d in chosen])
        assert torch.equal(getattr(part, name), expected)
    for whole, taken in ((batch.features, part.features), (batch.present, part.present), (batch.cache, part.cache)):
        for name in whole:
            assert torch.equal(taken[name], torch.cat([by_dialogue(batch, whole[name])[d] for d in chosen]))
    assert part.lengths.tolist() == [lengths[d] for d in chosen]


@settings(deadline=None)
@given(LENGTHS)
def test_padding_backwards_starts_at_each_dialogues_own_end(lengths):
    batch = batch_of(lengths)
    rows = batch.features["text"]
    padded = batch.pad(rows, backwards=True)
    for own, row in zip(by_dialogue(batch, rows), padded, strict=True):
        assert torch.equal(row[: len(own)], own.flip(0))
        assert not row[len(own) :].any()
    assert torch.equal(batch.unpad(padded, backwards=True), rows)


def test_to_moves_everything():
    moved = batch_of([2, 1]).with_cache({"deep": torch.zeros(3, 1)}).to("meta")
    assert moved.device.type == "meta"
    tensors = [
        moved.ptr,
        moved.target,
        moved.judged,
        moved.row,
        *moved.features.values(),
        *moved.present.values(),
        *moved.cache.values(),
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_batch_of_nothing():
    empty = batch_of([2, 1]).select(torch.tensor([], dtype=torch.long))
    assert len(empty) == 0 and empty.utterances == 0 and empty.longest == 0
    assert empty.pad(empty.features["text"]).shape == (0, 0, 3)


def test_frozen():
    with pytest.raises(AttributeError):
        batch_of([1]).row = torch.zeros(1)  # type: ignore[misc]


@settings(deadline=None)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_splitting_is_selecting(lengths, random):
    batch = batch_of(lengths)
    groups = [torch.tensor([random.randrange(len(lengths)) for _ in range(random.randint(0, 3))], dtype=torch.long) for _ in range(4)]
    for part, group in zip(batch.split(groups), groups, strict=True):
        other = batch.select(group)
        assert torch.equal(part.row, other.row) and torch.equal(part.ptr, other.ptr)
        assert part.sizes == other.sizes == tuple(lengths[i] for i in group.tolist())


def test_lengths_on_the_host_follow_the_batch():
    batch = batch_of([2, 5, 1])
    assert batch.sizes == (2, 5, 1)
    assert batch.to("meta").sizes == (2, 5, 1) and batch.to("meta").longest == 5  # no number could be asked of this device
    assert batch.with_cache({}).sizes == (2, 5, 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_slopes_of_padding(backwards):
    batch = batch_of([2, 5, 1])
    rows = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    padded = torch.randn(3, 5, 3, dtype=torch.float64, requires_grad=True)
    for function, value in ((batch.pad, rows), (batch.unpad, padded)):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, backwards=backwards), value)
        assert torch.autograd.gradgradcheck(lambda x, f=function: f(x, backwards=backwards), value)


def test_sizes_that_are_those_of_another_batch():
    batch = batch_of([2, 3])
    with pytest.raises(
        ValueError, match="expected 5 numbers in `sizes`, one per dialogue of `ptr`, found 2; replace `sizes` together with `ptr`"
    ):
        replace(batch, ptr=torch.arange(6))
