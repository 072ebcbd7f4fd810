"""The conversation around an utterance, for methods whose paper sees one utterance at a time.

The fused vector of an utterance, or its vector per modality, is the state of a node; the graph spreads what the neighbours say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.errors import expect
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.inputs import Given
from erc_graph.methods.ranges import Checked

FUSED = "fused"  # the stream of an utterance's fused vector
DROPOUT = 0.3  # in GRU and graph


@dataclass(frozen=True, kw_only=True)
class ConversationConfig:
    """The graph stage behind an utterance-level method.

    Attributes:
        width: Width of the node states.
        recurrent: A GRU over the turns of each stream in front of the graph.
    """

    width: int = 128
    recurrent: bool = True

    def __post_init__(self) -> None:
        expect(
            "pipeline.conversation",
            self,
            width=(self.width >= 2 and self.width % 2 == 0, "an even number of 2 or more (half of it for each direction)"),
        )


@dataclass(frozen=True, kw_only=True)
class InConversation(Checked):
    """Options that methods share whose paper sees one utterance at a time.

    Attributes:
        graph: Recipe of the conversation's graph; `none`: no stage behind the method's own net.
        causal: Nothing comes from later turns.
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class Conversation(nn.Module):
    """Utterance vectors to states that know the conversation: projection, GRU over the turns, speaker embedding, angular graph convolution.

    What goes in is concatenated with what comes out, so that an utterance's own vector reaches the classifier unchanged. Without a recipe
    nothing else does: the method is the paper's own, one utterance at a time.

    Args:
        streams: Stream → width of its vectors.
        recipe: The graph; `None`: no conversation.
        config: Width.
        causal: The GRU reads forward alone.
        speaker: Width of given speaker vectors; 0: learned ones.

    Attributes:
        width: Of the rows that come out.
    """

    def __init__(
        self, streams: Mapping[str, int], recipe: GraphRecipe | None, config: ConversationConfig, *, causal: bool = False, speaker: int = 0
    ) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.width = sum(streams.values())
        self.conv: AngularConv | None = None
        if recipe is None:
            return
        width = config.width
        self.project = nn.ModuleDict({name: nn.Sequential(nn.Linear(inputs, width), nn.ReLU()) for name, inputs in streams.items()})
        self.encode = nn.ModuleDict(
            {name: Recurrent("gru", width, width, bidirectional=not causal) for name in streams} if config.recurrent else {}
        )
        self.speaker = SpeakerEmbedding(width, given=speaker)
        self.conv = AngularConv(width, recipe, dropout=DROPOUT)
        self.conv.label = "conversation"
        self.dropout = Dropout(DROPOUT)
        self.width += len(streams) * self.conv.width

    def nodes(self, vectors: Mapping[str, Tensor], given: Given) -> Tensor:
        """States of the nodes: `(N, streams, width)`."""
        rows = [self.project[name](self.dropout(vectors[name])) for name in self.streams]
        if self.encode:
            nets = [self.encode[name] for name in self.streams]
            rows = side_by_side(nets, [self.dropout(row) for row in rows], given.batch)  # type: ignore[arg-type]
        return torch.stack(rows, 1) + self.speaker(given)[:, None]

    def forward(self, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor], given: Given) -> Tensor:
        """The conversation around every utterance.

        Args:
            vectors: Stream → `(N, its width)`.
            present: Stream → `(N,)` bool; an absent node has no edges and says nothing.
            given: The dialogues.

        Returns:
            `(N, width)`.
        """
        own = [torch.where(present[name][:, None], vectors[name], 0.0) for name in self.streams]
        if self.conv is None:
            return torch.cat(own, -1)
        here = torch.stack([present[name] for name in self.streams], 1)
        around = self.conv(Nodes(self.nodes(vectors, given), here, self.streams), given.batch).states
        return torch.cat([*own, around.flatten(1)], -1)
