r"""Dialog-aware attention with utterance recurrence (DialogXL, Shen et al., AAAI 2021), over the tokens of a dialogue.

A token attends to all tokens of its own utterance. Each attention head belongs to one of four groups, which attend to different earlier
utterances. Local heads attend to the last `window` utterances, and global heads to all earlier utterances. Speaker heads attend to earlier
utterances of the same speaker, and listener heads to earlier utterances of other speakers. The scores :math:`e_{ij}` of query `i` and key
`j` use the relative positions of XLNet (Yang et al., 2019):

.. math:: e_{ij} = \frac{(q_i + b_w)^\top k_j + (q_i + b_r)^\top W_r R_{i - j}}{\sqrt{d}}, \qquad R_n = [\sin(n f) ; \cos(n f)]

The biases :math:`b_w` and :math:`b_r` and the matrix :math:`W_r` are learned; `d` is the width of a head, and `f` are the frequencies. The
first token of an utterance is `<cls>`. Only tokens of the same utterance attend to `<cls>`, and distances to tokens of earlier utterances
do not count `<cls>`. The keys and values of earlier utterances are computed from the input of the same layer. Therefore, all utterances of
a dialogue are computed in parallel. The model is causal: no utterance attends to later utterances.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.turns import OverTurns

GROUPS = ("local", "global", "speaker", "listener")


class RelativeLayer(nn.Module):
    """A layer of XLNet with a separate attention mask for each head.

    Args:
        width: Width of the states.
        heads: Number of attention heads.
        feedforward: Hidden width of the feed-forward network.
        dropout: Dropout rate after attention, after the feed-forward network and in its hidden layer.
        head_width: Width of each head; default: `width / heads`, rounded up.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, head_width: int | None = None) -> None:
        super().__init__()
        self.heads, inner = heads, heads * (head_width or -(-width // heads))
        self.query, self.key, self.value, self.relative = (nn.Linear(width, inner, bias=False) for _ in range(4))
        self.output = nn.Linear(inner, width, bias=False)
        self.content_bias, self.position_bias = (nn.Parameter(torch.zeros(heads, inner // heads)) for _ in range(2))
        self.norm, self.last_norm = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.dropout = Dropout(dropout)
        self.feedforward = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), Dropout(dropout), nn.Linear(feedforward, width))

    def forward(self, states: Tensor, heard: Tensor, distance: Tensor, table: Tensor, keys: Tensor | None = None) -> Tensor:
        """Compute one layer.

        Args:
            states: `(D, L, width)` states of the tokens of every dialogue.
            heard: `(D, heads, L, K)` bool, true if the query attends to the key.
            distance: `(D, L, K)` relative position of each pair of query and key, as the index of a row of `table`.
            table: `(distances, width)` encodings of the relative positions.
            keys: `(D, K, width)` states from which keys and values are computed; default: `states`.
        """

        def split(values: Tensor) -> Tensor:  # (..., heads, L, head width)
            return values.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

        keys = states if keys is None else keys
        query, key, value = split(self.query(states)), split(self.key(keys)), split(self.value(keys))
        content = (query + self.content_bias[:, None]) @ key.transpose(-1, -2)
        position = (query + self.position_bias[:, None]) @ split(self.relative(table)).transpose(-1, -2)  # (D, heads, L, distances)
        scores = content + position.gather(-1, distance[:, None].expand(-1, self.heads, -1, -1))
        scores = (scores / query.shape[-1] ** 0.5).masked_fill(~heard, torch.finfo(scores.dtype).min)
        states = self.norm(states + self.dropout(self.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))))
        return self.last_norm(states + self.dropout(self.feedforward(states)))


class DialogAttention(OverTurns):
    """Transformer layers over the tokens of a dialogue; the nodes of an utterance are `<cls>` and its tokens.

    Args:
        layers: The layers; each has as many heads as all groups together.
        heads: Number of heads in each of the groups `local`, `global`, `speaker` and `listener`.
        window: Number of preceding utterances that the local heads attend to.
        memory: Largest number of tokens of earlier utterances that a head attends to.
    """

    causal = True

    def __init__(self, layers: Sequence[RelativeLayer], heads: Sequence[int], *, window: int, memory: int) -> None:
        super().__init__()
        self.layers, self.heads, self.window, self.memory = nn.ModuleList(layers), tuple(heads), window, memory

    def remembered(self, nodes: Nodes) -> Tensor:
        """Return the tokens that later utterances attend to, `(N, S)` bool: all tokens except `<cls>` and padding."""
        return nodes.present & (torch.arange(nodes.present.shape[1], device=nodes.present.device) > 0)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Encode the tokens of all utterances, `<cls>` first: `(N, S, width)` → `(N, 1, width)`, the output state of `<cls>`."""
        here, kept = nodes.present, self.remembered(nodes)
        before = kept.sum(1).cumsum(0) - kept.sum(1)  # tokens before each turn
        row, place = here.nonzero(as_tuple=True)
        own = (before[:, None] + here.cumsum(1) - 1)[row, place]  # where a node stands for its own turn
        past = (before[:, None] + kept.cumsum(1) - 1)[row, place]  # and for later turns
        facts = torch.stack([row, batch.speaker[row], own, past, kept[row, place].long(), before[row], place], -1)
        sizes = torch.zeros(len(batch), dtype=torch.long, device=row.device).index_add(0, batch.dialogue, here.sum(1)).cpu()
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        padded, real = Ragged(facts, ptr).pad()
        states = Ragged(nodes.states[row, place], ptr).pad()[0]
        heard, distance = self.attended(padded, real)
        least, most = -here.shape[1], min(real.shape[1], self.memory + here.shape[1])
        rate = 10000.0 ** (-torch.arange(0, states.shape[-1], 2, device=row.device, dtype=torch.double) / states.shape[-1])
        angle = torch.arange(least, most + 1, device=row.device)[:, None] * rate
        table = torch.cat([angle.sin(), angle.cos()], -1).to(states)
        distance = distance.clamp(least, most) - least
        for layer in self.layers:
            states = layer(states, heard, distance, table)
        return Nodes.of_turns(states[real][place == 0])

    def attended(self, facts: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention mask `(D, heads, L, L)` bool, and the distances between tokens, `(D, L, L)`.

        Args:
            facts: `(D, L, 7)`: seven integers per token that `forward` computes, such as the indices of its utterance and speaker.
            real: `(D, L)` bool, false for padding.
        """
        turn, speaker, own, past, kept, before, _ = facts.unbind(-1)
        apart = turn[:, :, None] - turn[:, None]
        near = (apart == 0) & real[:, None]  # the same turn
        memory = real[:, None] & kept[:, None].bool() & (apart > 0) & (past[:, None] >= before[:, :, None] - self.memory)
        same = speaker[:, :, None] == speaker[:, None]
        groups = (memory & (apart <= self.window), memory, memory & same, memory & ~same)
        heard = torch.stack([near | group for group, heads in zip(groups, self.heads, strict=True) for _ in range(heads)], 1)
        return heard, own[:, :, None] - torch.where(near, own[:, None], past[:, None])
