r"""GraphCFC: A Directed Graph Based Cross-Modal Feature Complementation Approach for ERC (Li et al., IEEE TMM 26, 2024).

A stream has one node per utterance; every modality is a stream. Two streams are combined at a time. Their nodes attend to each other in a
graph, and the two nodes of each utterance are then mapped to one node. The resulting stream is combined with the next stream.

.. math::
    x_a &= \tanh(W_a u_a + b_a), \quad x_v = \tanh(W_v u_v + b_v), \quad x_l = W_l\, \mathrm{BiLSTM}(U u_l + b) + b_l, \quad
    x_m \leftarrow x_m + S \tag{1} \\
    f(x) &= \mathrm{LN}(F_2\, \mathrm{gelu}(F_1 x)), \qquad s_m = f_m(x_m) \tag{2} \\
    c &= W_c [f(x_a) ; f(x_v) ; f(x_l)] + b_c \quad \text{one } f \text{ for all} \tag{3} \\
    y &= \mathrm{LN}(x + \mathrm{GATv2}(x)), \qquad z = \mathrm{LN}(y + M_2\, \mathrm{gelu}(M_1 y)) \tag{4} \\
    m_1 &= W_1 [a ; v], \qquad m_2 = W_2 [m_1 ; l], \qquad m_3 = W_3 [m_2 ; c] \tag{5} \\
    s &= W_o m_3 + b_o, \qquad \text{and one such map of each } s_m \text{ and of } c \tag{6}

The indices `a`, `v` and `l` denote audio, visual and text; `c` is the stream computed from all modalities. `S` is the speaker embedding.
Equation (4) is applied `n` times to two streams before each map of (5). The maps of (5) have biases. The equations follow the public code;
the equation numbers are ours.

| symbol | attribute | shape |
|---|---|---|
| `W_a`, `W_v` | `project[m]` | `(width, features)` |
| `U`, BiLSTM, `W_l` | `project.text`, `text`, `joined` | `(context, features)`, `2 width` wide, `(width, 2 width)` |
| `f_m`, shared `f`, `W_c` | `extract[m]`, `extract.shared`, `common` | `W_c`: `(width, modalities · width)` |
| GATv2, LN, `M` | `blocks[k][i]` | one block for all `n` steps (`tied`), or `n` blocks |
| `W_1`, … | `fuse[k]` | `(width, 2 width)` |
| `W_o`, other maps of (6) | `classify`, `auxiliary[·]` | `(classes, width)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. In the public code, one block is used for all `n` steps, because a list repeats the same object. The
  option `tied` uses one block, too. Two options of the code have no effect and are left out: a recurrent aggregation, and learned weights
  of the losses.
- The loss of the public code is half the sum of the five cross entropies of (6). Here the loss is their sum.
- The graph recipe defines how many past and future utterances send messages to an utterance. The public code exchanges past and future.
  This changes nothing for a window of 18 past and 18 future utterances.
- GATv2 has a learned vector for every type of edge. The vector of a self-loop is the mean of the vectors of the other edges into the node.
  PyTorch Geometric, which the public code uses, computes the same mean.
- The public code uses the speaker numbers of the corpus. Here speakers are numbered by first appearance in the dialogue. If a dialogue has
  more speakers than the recipe distinguishes, all further speakers count as the last of these speakers.
- The public code trains on 108 of 120 dialogues, which include its 12 development dialogues. It prints the best test results of all epochs.
  It repeats the order of the dialogues and the dropout masks in every epoch.
- A missing modality has no node, and is zero in (3) and (5). All modalities other than `text` are processed like audio. With a single
  modality, there is no shared stream, and (4) is applied to one stream.
- With the option `causal`, the LSTM has only the forward direction, and edges from later utterances are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, cast

import torch
from torch import nn

from erc_graph.conv.gatv2 import GATv2, kinds_of
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.turns import over_turns
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Causal, Graph, Range, Share, Size
from erc_graph.methods.stage import Prediction

Depths = Annotated[list[int], Range(lambda value: bool(value) and min(value) >= 1, "numbers of 1 or more")]


@dataclass(frozen=True, kw_only=True)
class GraphCFCConfig(Causal):
    """Options of GraphCFC; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe, which defines the edges and their types.
        width: Width of all states.
        context: Width of text before the LSTM.
        heads: Number of attention heads, each of width `width`.
        layers: Numbers `n` of attention layers (4), one number for each map of (5); the last number is repeated for further maps.
        tied: Use one block of weights for all `n` layers.
        dropout: Dropout between the LSTM layers, and after the GELU and the second linear map of (2) and (4).
    """

    graph: Graph = "graphcfc"
    width: Size = 64
    context: Size = 128
    heads: Size = 2
    layers: Depths = field(default_factory=lambda: [5, 5, 5])
    tied: bool = True
    dropout: Share = 0.1


def feedforward(width: int, dropout: float) -> nn.Sequential:
    """Return a module of two linear maps with a GELU between them. The hidden width is `2 width`."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width), Dropout(dropout))


class Block(nn.Module):
    """Graph attention and a feed-forward network, equation (4), each with a residual connection and a layer norm."""

    def __init__(self, width: int, recipe: GraphRecipe, vectors: nn.Embedding, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend, self.feedforward = GATv2(width, recipe, vectors, heads=heads), feedforward(width, dropout)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map node states `(N, S, width)` of `N` utterances and `S` streams to new states of equal shape."""
        y = self.first(nodes.states + self.attend(nodes, batch).states)
        return nodes.with_states(self.second(y + self.feedforward(y)))


class GraphCFC(Method):
    """Graph attention between the nodes of two streams at a time. The two streams are then mapped to one stream."""

    Config = GraphCFCConfig
    paper = Paper(
        title="GraphCFC: A Directed Graph Based Cross-Modal Feature Complementation Approach for Multimodal Conversational Emotion "
        "Recognition",
        authors="Li et al.",
        venue="IEEE Transactions on Multimedia 26",
        year=2024,
        url="https://arxiv.org/abs/2207.12261",
        code="https://github.com/lijfrank-open/GraphCFC",
    )

    def build(self, c: GraphCFCConfig, shapes: Shapes) -> None:
        """Build the encoders, the maps of equations (2) and (3), the graph layers and the classifiers."""
        self.names, width = tuple(sorted(shapes.widths, key=lambda name: name == "text")), c.width
        self.project = nn.ModuleDict({m: nn.Linear(shapes.widths[m], c.context if m == "text" else width) for m in self.names})
        if "text" in self.names:
            self.text = Recurrent("lstm", c.context, 2 * width, bidirectional=not c.causal, layers=2, dropout=c.dropout)
            self.joined = nn.Linear(2 * width, width)
        self.speaker = SpeakerEmbedding(width, given=shapes.speaker)
        spaces = (*self.names, "shared") if len(self.names) > 1 else self.names
        self.extract = nn.ModuleDict({m: nn.Sequential(feedforward(width, c.dropout), nn.LayerNorm(width)) for m in spaces})
        self.common = nn.Linear(len(self.names) * width, width) if "shared" in spaces else None
        self.vectors = nn.Embedding(max(kinds_of(self.recipe)) + 1, width)
        self.fuse = nn.ModuleList(nn.Linear(2 * width, width) for _ in spaces[1:])
        self.depths = [c.layers[min(k, len(c.layers) - 1)] for k in range(max(len(self.fuse), 1))]
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(width, self.recipe, self.vectors, c.heads, c.dropout) for _ in range(1 if c.tied else n))
            for n in self.depths
        )
        self.auxiliary = nn.ModuleDict({m: nn.Linear(width, shapes.outputs) for m in spaces})
        self.classify = nn.Linear(width, shapes.outputs)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance, and auxiliary scores from each stream, equation (6)."""
        spoken, shared, streams = self.speaker(given), [], {}
        for m in self.names:
            here, x = given.present[m][:, None], self.project[m](given.values[m])
            if m == "text":
                x = self.joined(over_turns(self.text, torch.where(here, x, 0.0), given.batch))
            x = (x if m == "text" else x.tanh()) + spoken  # Eq. (1)
            streams[m] = Nodes(self.extract[m](x)[:, None], here, (m,))  # Eq. (2)
            if self.common is not None:
                shared.append(torch.where(here, self.extract["shared"](x), 0.0))
        if self.common is not None:
            there = given.here(self.names).any(1, keepdim=True)
            streams["shared"] = Nodes(self.common(torch.cat(shared, -1))[:, None], there, ("shared",))  # Eq. (3)
        states = self.complemented(list(streams.values()), given.batch).masked()[:, 0]
        own = {m: self.auxiliary[m](nodes.masked()[:, 0]) for m, nodes in streams.items()}
        return Prediction(scores=self.classify(states), states=states, auxiliary=own)  # Eq. (6)

    def complemented(self, streams: list[Nodes], batch: Batch) -> Nodes:
        """Combine all streams of modalities, one after the other, and return the resulting stream."""
        nodes = streams[0]
        for k, (depth, blocks) in enumerate(zip(self.depths, cast("list[nn.ModuleList]", self.blocks), strict=True)):
            if self.fuse:
                two = nodes, streams[k + 1]
                states, present = (torch.cat([getattr(one, part) for one in two], 1) for part in ("states", "present"))
                nodes = Nodes(states, present, (*nodes.streams, *two[1].streams))
            for i in range(depth):
                nodes = blocks[i % len(blocks)](nodes, batch)  # Eq. (4)
            if self.fuse:
                state = self.fuse[k](nodes.masked().flatten(1))  # Eq. (5)
                nodes = Nodes(state[:, None], nodes.present.any(1, keepdim=True), ("+".join(nodes.streams),))
        return nodes
