"""Input of a language model: as many consecutive utterances as its maximum input length allows, or an utterance with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.language_model import TOKENS, LanguageModel, packed, token_nodes
from erc_graph.encoders.sequences import encode_sequences, map_sequences, masked_mean
from erc_graph.encoders.turns import OverTurns


class DialogueText(OverTurns):
    """Encoder of utterances by a language model; the output for an utterance is the state of its first token.

    The language model processes several consecutive utterances at once: as many whole utterances as its maximum length allows.

    Args:
        model: The language model.
        causal: Whether the language model encodes every utterance separately instead.
    """

    def __init__(self, model: LanguageModel, *, causal: bool) -> None:
        super().__init__()
        self.model, self.causal, self.longest = model, causal, model.longest

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Encode token ids: `(N, longest utterance, 1)` → `(N, 1, width)`, zero for an utterance without tokens."""
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


class Around(OverTurns):
    """The tokens of every utterance together with the tokens of its neighbours, the preceding and following utterances.

    If the tokens of the utterance and its neighbours exceed `longest`, the neighbours are left out.

    Args:
        past: Number of preceding utterances to add.
        future: Number of following utterances to add.
        longest: Largest number of tokens, including the tokens of the neighbours.
    """

    def __init__(self, *, past: int, future: int, longest: int) -> None:
        super().__init__()
        self.causal, self.past, self.before, self.future, self.longest = not future, past, past, future, longest

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Add the tokens of the neighbours: `(N, S, item)` → `(N, (past + 1 + future) × S, item + 1)`.

        `S` is the largest number of tokens of an utterance, and `item` the number of channels of a token. The new last channel is 1 for
        tokens of the utterance itself, and 0 for tokens of its neighbours.
        """
        offset = torch.arange(-self.before, self.future + 1, device=batch.device)
        turn, own = batch.turn[:, None] + offset, offset == 0
        rows = (torch.arange(batch.utterances, device=batch.device)[:, None] + offset).clamp(0, batch.utterances - 1)
        there = (turn >= 0) & (turn < batch.lengths[batch.dialogue][:, None])
        here = nodes.present[rows] & there[..., None]  # (N, turns, S)
        fits = here.sum((1, 2)) <= self.longest
        here = here & (fits[:, None] | own)[..., None]
        mark = own[:, None, None].expand(*here.shape, 1).to(nodes.states)
        states = torch.cat([nodes.masked()[rows], mark], -1).flatten(1, 2)
        return Nodes(states, here.flatten(1), tuple(map(str, range(states.shape[1]))))


class TextInContext(nn.Module):
    """A language model with adapters after the last layers; it encodes every utterance together with neighbouring utterances.

    Args:
        model: The language model.
        adapters: Modules after the last layers; each computes new states from the states of its layer and a second input.
        past: Number of preceding utterances to add.
        future: Number of following utterances to add.
    """

    def __init__(self, model: LanguageModel, adapters: Sequence[nn.Module], *, past: int, future: int) -> None:
        super().__init__()
        self.model, self.adapters = model, nn.ModuleList(adapters)
        self.around = Around(past=past, future=future, longest=model.longest)

    def forward(self, ids: Ragged, beside: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode all utterances.

        Args:
            ids: Token ids of every utterance.
            beside: `(N, any width)`, second input of the adapters.
            batch: The dialogues.

        Returns:
            The state of the first token of every utterance, `(N, width)`, and the mean state over all tokens of the utterance and of its
                neighbours, `(N, width)`. Both are zero for an utterance without text.
        """
        nodes = self.around(token_nodes(ids), batch)
        tokens = packed(nodes)  # items: the id, and whether it is of the turn itself
        row = torch.repeat_interleave(torch.arange(len(tokens), device=beside.device), tokens.lengths.to(beside.device))

        def read(padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            with self.model.adapted(list(self.adapters), padded[..., 2:]):
                return self.model.states(padded[..., :1], mask)

        items = Ragged(torch.cat([tokens.values.to(beside), beside[row]], -1), tokens.ptr)
        states = map_sequences(read, items, self.model.width, TOKENS)
        own = nodes.present & (nodes.states[..., -1] > 0)
        first = tokens.ptr[:-1].to(beside.device) + (nodes.present & (own.cumsum(1) == 0)).sum(1)  # behind the turns before
        spoken = ids.present.nonzero().squeeze(1)
        nothing = states.values.new_zeros(len(ids), self.model.width)
        mean = encode_sequences(masked_mean, states, self.model.width, TOKENS) * ids.present[:, None]
        return nothing.index_copy(0, spoken, states.values[first[spoken]]), mean
