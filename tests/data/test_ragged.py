"""Sequences of different lengths in one row order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.ragged import LONG, Ragged
from erc_graph.errors import CorpusError


def example(lengths: list[int], item: tuple[int, ...] = (2,)) -> tuple[Ragged, list[torch.Tensor]]:
    parts = [torch.randn(length, *item) for length in lengths]
    return Ragged.of(parts), parts


@pytest.fixture(autouse=True, params=[LONG, 1, 3])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All laws hold whether pieces are copied item by item or as a whole."""
    monkeypatch.setattr("erc_graph.data.ragged.LONG", request.param)


LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LENGTHS, st.sampled_from([(), (2,), (3, 2, 2)]), st.randoms())
def test_slices_taking_and_padding(lengths: list[int], item: tuple[int, ...], random: object) -> None:
    ragged, parts = example(lengths, item)
    assert ragged.item == item and ragged.sizes == tuple(lengths) and ragged.present.tolist() == [n > 0 for n in lengths]
    assert all(torch.equal(ragged[i], part) for i, part in enumerate(parts)) and torch.equal(ragged[-1], parts[-1])
    rows = [random.randrange(len(lengths)) for _ in range(5)]  # type: ignore[attr-defined]
    taken = ragged.take(rows)
    assert len(taken) == 5 and all(torch.equal(taken[i], parts[row]) for i, row in enumerate(rows))
    padded, mask = ragged.pad()
    assert padded.shape == (len(lengths), max(lengths), *item)
    for i, part in enumerate(parts):
        assert torch.equal(padded[i, : len(part)], part) and not padded[i, len(part) :].any()
        assert mask[i].tolist() == [t < len(part) for t in range(max(lengths))]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LENGTHS, st.integers(1, 12))
def test_chunks_hold_each_present_utterance_once_within_the_budget(lengths: list[int], tokens: int) -> None:
    ragged, parts = example(lengths)
    seen: list[int] = []
    for rows, part in ragged.chunks(tokens):
        seen += rows.tolist()
        assert len(part) == 1 or len(part) * max(part.sizes) <= tokens
        assert all(torch.equal(part[i], parts[row]) for i, row in enumerate(rows.tolist()))
    assert sorted(seen) == [i for i, length in enumerate(lengths) if length]


def test_taking_has_a_gradient() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    Ragged(values, torch.tensor([0, 1, 3])).take([1, 1]).values.sum().backward()
    assert values.grad is not None and values.grad[:, 0].tolist() == [0, 2, 2]


@pytest.mark.parametrize("ptr", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_slices_that_do_not_cover_are_refused(ptr: list[int]) -> None:
    with pytest.raises(CorpusError, match="increase from 0 to 3"):
        Ragged(torch.zeros(3, 1), torch.tensor(ptr, dtype=torch.long))
    with pytest.raises(CorpusError, match="offsets as a 1-D int64 tensor"):
        Ragged(torch.zeros(3, 1), torch.tensor([0.0, 3.0]))
    with pytest.raises(IndexError, match="no sequence at position 2; expected a position below 2"):
        example([1, 1])[0][2]
