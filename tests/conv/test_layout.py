from __future__ import annotations

import pytest
import torch

from erc_graph.conv.layout import Layout, in_buckets, in_one_string

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
    assert [(bucket.dialogues, bucket.turns) for bucket in layout.buckets] == [(2, 9), (2, 3)]
    for bucket in layout.buckets:
        for rows in (bucket.sequences(layout.arrange(nodes)), bucket.sequences(layout.arrange(stream))):
            for sequence in rows:
                real = sequence[sequence[:, 0] > 0]
                assert len(real) and torch.equal(sequence[: len(real)], real)  # padding at the end
                assert len(set(real[:, 0].tolist())) == 1
                if real.shape[1] == 2:
                    assert real[:, 1].tolist() == list(range(1, len(real) + 1))
        for turns in bucket.streams_of(layout.arrange(stream)):
            assert turns.flatten().tolist() in ([1, 2], [0, 0])


def test_little_is_padding() -> None:
    for sizes in (tuple(range(1, 100)), (90, 30) * 10, (7,) * 50):
        layout = in_buckets(sizes, 3, CPU)
        assert layout.rows <= 1.1 * 3 * sum(sizes)
    assert len(in_buckets((7,) * 50, 3, CPU).buckets) == 1


def test_no_window_sees_two_dialogues() -> None:
    layout = in_one_string((4, 1, 6), 2, 3, 1, 4, CPU)
    place = layout.place.view(11, 2)
    assert int(place[4, 0] - place[3, 0]) > 3 and int(place[5, 0] - place[4, 0]) > 3
    assert int(place[0, 1] - place[10, 0]) > 3
    assert int(place.min()) >= 3 and int(place.max()) + 1 < layout.rows
    assert (layout.rows - 3 - 1) % 4 == 0


def test_a_layout_is_made_once_per_lengths() -> None:
    assert in_buckets((5, 6), 2, CPU) is in_buckets((5, 6), 2, CPU)
