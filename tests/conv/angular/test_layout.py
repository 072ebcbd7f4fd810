from __future__ import annotations

import pytest
import torch

from erc_graph.conv.angular.layout import Layout, in_buckets, in_one_string

CPU = torch.device("cpu")


def layouts(sizes: tuple[int, ...], streams: int) -> list[Layout]:
    return [in_buckets(sizes, streams, CPU), in_one_string(sizes, streams, 3, 1, 4, CPU)]


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1), (3, 40, 41, 2, 38), tuple(range(1, 60))])
@pytest.mark.parametrize("streams", [1, 3])
def test_every_node_has_a_place_of_its_own_and_comes_back(sizes: tuple[int, ...], streams: int) -> None:
    x = torch.randn(sum(sizes), streams, 2, dtype=torch.float64, requires_grad=True)
    for layout in layouts(sizes, streams):
        assert len(set(layout.place.tolist())) == sum(sizes) * streams
        rows = layout.arrange(x)
        assert rows.shape == (layout.rows, 2)
        assert torch.equal(layout.restore(rows, streams), x)
        weight = torch.randn_like(x)
        (layout.restore(layout.arrange(x) * 2, streams) * weight).sum().backward()
        assert torch.equal(x.grad, 2 * weight)  # type: ignore[arg-type]
        x.grad = None


def test_turns_of_a_dialogue_stand_side_by_side() -> None:
    sizes, streams = (3, 9, 2, 8), 2
    turn = torch.cat([torch.arange(n) for n in sizes])
    dialogue = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    nodes = torch.stack([dialogue, turn], 1)[:, None].expand(-1, streams, 2) + 1
    stream = torch.arange(streams)[None, :, None].expand(len(turn), streams, 1) + 1
    layout = in_buckets(sizes, streams, CPU)
    assert shapes(layout) == [[(2, 9), (2, 3)]]
    for piece in layout.pieces:
        for bucket in piece.buckets:
            for rows in (bucket.sequences(piece.take(nodes)), bucket.sequences(piece.take(stream))):
                for sequence in rows:
                    real = sequence[sequence[:, 0] > 0]
                    assert len(real) and torch.equal(sequence[: len(real)], real)  # padding at the end
                    assert len(set(real[:, 0].tolist())) == 1
                    if real.shape[1] == 2:
                        assert real[:, 1].tolist() == list(range(1, len(real) + 1))
            for turns in bucket.streams_of(piece.take(stream)):
                assert turns.flatten().tolist() in ([1, 2], [0, 0])


def shapes(layout: Layout) -> list[list[tuple[int, int]]]:
    """(dialogues, turns) of every bucket, piece by piece."""
    return [[(bucket.dialogues, bucket.turns) for bucket in piece.buckets] for piece in layout.pieces]


def test_little_is_padding() -> None:
    for sizes in (tuple(range(1, 100)), (90, 30) * 10, (7,) * 50):
        assert in_buckets(sizes, 3, CPU).rows <= 1.1 * 3 * sum(sizes)
    assert shapes(in_buckets((7,) * 20, 3, CPU)) == [[(20, 7)]]


@pytest.mark.parametrize("most", [1, 6, 30, 10**6])
def test_pieces_are_all_rows_once_and_no_larger_than_asked(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.conv.angular.layout.PIECE", most)
    sizes, streams = (3, 9, 2, 8, 9, 1, 1), 2
    layout, nodes = in_buckets(sizes, streams, CPU), torch.arange(1, 67).view(33, 2, 1)
    assert [row for piece in layout.pieces for row in range(piece.rows.start, piece.rows.stop)] == list(range(layout.rows))
    assert layout.pieces[-1].turns.stop == layout.turns and layout.pieces[-1].weights.stop == layout.weights
    assert torch.equal(torch.cat([piece.take(nodes) for piece in layout.pieces]), layout.arrange(nodes))
    found = torch.zeros_like(nodes)
    for piece in layout.pieces:
        piece.put(piece.take(nodes), found)
        longest = max(bucket.turns for bucket in piece.buckets)
        assert piece.rows.stop - piece.rows.start <= max(most, longest * streams)
        assert sum(b.weights for b in piece.buckets) == piece.weights.stop - piece.weights.start
    assert torch.equal(found, nodes)
    assert len(layout.pieces) == {1: 7, 6: 6, 30: 4, 10**6: 1}[most]


def test_no_window_sees_two_dialogues() -> None:
    layout = in_one_string((4, 1, 6), 2, 3, 1, 4, CPU)
    place = layout.place.view(11, 2)
    assert int(place[4, 0] - place[3, 0]) > 3 and int(place[5, 0] - place[4, 0]) > 3
    assert int(place[0, 1] - place[10, 0]) > 3
    assert int(place.min()) >= 3 and int(place.max()) + 1 < layout.rows
    assert (layout.rows - 3 - 1) % 4 == 0


def test_a_layout_is_made_once_per_lengths() -> None:
    assert in_buckets((5, 6), 2, CPU) is in_buckets((5, 6), 2, CPU)
