"""What a language model reads of a dialogue at once: as many whole turns as fit, or a turn with those around it."""

from __future__ import annotations

import torch

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.language_model import LanguageModel
from erc_graph.encoders.turns import OverTurns


class DialogueText(OverTurns):
    """State of the first token of every turn, in a language model that reads as many whole turns at once as fit.

    Args:
        model: The language model.
        causal: It reads every turn by itself.
    """

    def __init__(self, model: LanguageModel, *, causal: bool) -> None:
        super().__init__()
        self.model, self._causal, self.longest = model, causal, model.longest

    @property
    def causal(self) -> bool:
        """Whether turns are read one by one."""
        return self._causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Ids `(N, longest turn, 1)` → `(N, 1, width)`; zero for a turn without tokens."""
        here, spoken = nodes.present, nodes.present.any(1)
        turn = torch.where(spoken, batch.turn, -1)
        final = turn == batch.pad(turn + 1).amax(1)[batch.dialogue] - 1  # the closing token of other turns is left out
        count = (here.sum(1) - (0 if self.causal else (~final).long())).clamp(max=self.longest).clamp(min=1) * spoken
        kept = here & (torch.arange(here.shape[1], device=here.device) < count[:, None])
        sizes: list[int] = []
        for turns in count.cpu().split([1] * len(here) if self.causal else batch.sizes):
            sizes.append(0)
            for tokens in turns.tolist():  # on the host: where a chunk ends depends on where it began
                if sizes[-1] + tokens > self.longest:
                    sizes.append(0)
                sizes[-1] += tokens
        states = self.model(Ragged(nodes.states[kept], torch.tensor([0, *sizes]).cumsum(0))).values  # (all tokens, width)
        first, rows = count.cumsum(0) - count, spoken.nonzero().squeeze(1)
        found = states.new_zeros(len(here), self.model.width).index_copy(0, rows, states[first[rows]])
        return Nodes.of_turns(found, spoken)
