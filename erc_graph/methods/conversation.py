"""The conversation around an utterance, for methods whose paper sees one utterance at a time.

The fused vector of an utterance, or its vector per modality, is the state of a node; the graph spreads what the neighbours say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.errors import expect
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.base import HeteroData

NONE = "none"
FUSED = "fused"  # the stream of an utterance's fused vector


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """The graph stage behind an utterance-level method.

    Attributes:
        width: Width of the node states.
        recurrent: A bidirectional GRU over the turns of each stream in front of the graph.
        conv: The convolution.
        speakers: Number of distinct speaker embeddings.
        dropout: In GRU and graph.
    """

    width: int = 128
    recurrent: bool = True
    conv: AngularConvConfig = field(default_factory=AngularConvConfig)
    speakers: int = 8
    dropout: float = 0.3

    def __post_init__(self) -> None:
        expect(
            "pipeline.context",
            self,
            width=(self.width >= 2 and self.width % 2 == 0, "an even number of 2 or more (half of it for each direction)"),
            speakers=(self.speakers >= 1, "1 or more"),
            dropout=(0 <= self.dropout < 1, "a number in [0, 1)"),
        )


class ConversationContext(nn.Module):
    """Utterance vectors to states that know the conversation: projection, GRU over the turns, speaker embedding, angular graph convolution.

    What went in stands beside what comes out, so that an utterance's own vector reaches the classifier untouched. With the recipe `none`
    nothing else does: the method is the paper's own, one utterance at a time.

    Args:
        streams: Stream → width of its vectors.
        graph: Recipe: a name, a TOML file, its content, or `none`.
        config: Width and depth.

    Attributes:
        recipe: `None` for `none`.
        output_width: Of the rows that come out.
    """

    def __init__(self, streams: Mapping[str, int], graph: str | GraphRecipe, config: ContextConfig) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.recipe = None if graph == NONE else load_recipe(graph)
        self.output_width = sum(streams.values())
        if self.recipe is None:
            return
        width = config.width
        self.project = nn.ModuleDict({name: nn.Sequential(nn.Linear(inputs, width), nn.ReLU()) for name, inputs in streams.items()})
        self.encode = nn.ModuleDict(
            {name: Recurrent("gru", width, width, bidirectional=True) for name in streams} if config.recurrent else {}
        )
        self.speaker = SpeakerEmbedding(width, speakers=config.speakers)
        self.conv = AngularConv(width, config.conv, dropout=config.dropout)
        self.dropout = Dropout(config.dropout)
        self.output_width += len(streams) * self.conv.output_width

    @property
    def alone(self) -> bool:
        """Whether nothing of another turn reaches a turn."""
        return self.recipe is None

    @property
    def causal(self) -> bool:
        """Whether nothing of a later turn reaches a turn: no edge from one, and no GRU that reads the turns backwards."""
        return self.recipe is None or (self.recipe.causal and not self.encode)

    def convolutions(self) -> dict[str, tuple[AngularConv, tuple[str, ...]]]:
        """The convolution and the streams that are its nodes, as `conversation`; nothing with the recipe `none`."""
        return {} if self.recipe is None else {"conversation": (self.conv, self.streams)}

    def nodes(self, vectors: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """States of the nodes: `(N, streams, width)`."""
        rows = [self.project[name](self.dropout(vectors[name])) for name in self.streams]
        if self.encode:
            rows = side_by_side([self.encode[name] for name in self.streams], [self.dropout(row) for row in rows], batch)  # type: ignore[misc]
        return torch.stack(rows, 1) + self.speaker(batch)[:, None]

    def forward(self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The conversation around every utterance.

        Args:
            vectors: Stream → `(N, its width)`.
            present: Stream → `(N,)` bool; an absent node has no edges and says nothing.
            batch: The dialogues.

        Returns:
            `(N, output_width)`.
        """
        own = [vectors[name] * present[name][:, None] for name in self.streams]
        if self.recipe is None:
            return torch.cat(own, -1)
        here = torch.stack([present[name] for name in self.streams], 1)
        return torch.cat([*own, self.conv(self.nodes(vectors, batch), here, batch, self.recipe).flatten(1)], -1)

    def graph(self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], batch: Batch, corpus: Corpus) -> HeteroData | None:
        """The graph of a conversation with the weights that its nodes have here; `None` with the recipe `none`.

        Args:
            vectors: As in `forward`.
            present: As in `forward`.
            batch: The conversation.
            corpus: Where the batch comes from, row for row; gives the graph its texts and names.
        """
        from erc_graph.graphs.build import build_from_states

        if self.recipe is None:
            return None
        states = dict(zip(self.streams, self.nodes(vectors, batch).unbind(1), strict=True))
        return build_from_states(batch, states, present, self.recipe, corpus)
