"""What other classifiers said of each utterance, as the scores that the conversation then corrects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch


def prior_names(joined: str | None) -> tuple[str, ...]:
    """The feature sets that an option `prior` names.

    >>> prior_names("text_logp+context_logp"), prior_names(None)
    (('text_logp', 'context_logp'), ())
    """
    return () if joined is None else tuple(joined.split("+"))


class Prior(nn.Module):
    r"""Scores with log-probabilities behind them.

    .. math:: s_i = f_i + \sum_k w_k \log p_i^k + v \log \bar p_{d(i)}

    A product of experts (Hinton, Neural Computation 14, 2002) all but one of which are fixed: the model :math:`f` need not learn again what
    they know, and starts from it. :math:`w` is learned: how far each is to be trusted; it begins with their mean. The features must not be
    fitted to the labels of the training utterances (`erc-graph features --cross-fit`), or :math:`w` is learned on what the model never
    meets again.

    With `around` the conversation is an expert, too: :math:`\bar p_d` is the plain mean of the probabilities that all experts give to all
    turns of dialogue `d` (at least 1e-6): how frequent every class is there as far as they see, as frequencies are a prior in Bayes' rule.

    Args:
        names: The feature sets: log-probabilities in label order (for a score task the score), as wide as the model's own scores.
        around: Add the conversation's own; its weight `v` begins with zero.
    """

    def __init__(self, *names: str, around: bool = False) -> None:
        super().__init__()
        self.names = names
        self.weight = nn.Parameter(torch.full((len(names),), 1 / len(names)))
        self.around = nn.Parameter(torch.zeros(())) if around else None

    def forward(self, scores: Tensor, batch: Batch) -> Tensor:
        """`(N, C)` → `(N, C)`; what is missing adds nothing of its own."""
        said = [torch.where(batch.present[name][:, None], batch.features[name], 0.0) for name in self.names]
        for weight, one in zip(self.weight, said, strict=True):
            scores = scores + weight * one
        return scores if self.around is None else scores + self.around * self.frequencies(said, batch)

    def frequencies(self, said: list[Tensor], batch: Batch) -> Tensor:
        r""":math:`\log \bar p` of every utterance's dialogue: `(N, C)`; for a score task the mean score; zero where nothing is there."""
        here = torch.stack([batch.present[name] for name in self.names], 1).to(said[0].dtype)  # (N, experts)
        values = torch.stack(said, 1)
        values = values.exp() if values.shape[-1] > 1 else values
        votes = torch.cat([(values * here[..., None]).sum(1), here.sum(1, keepdim=True)], 1)
        sums = votes.new_zeros(len(batch), votes.shape[1]).index_add(0, batch.dialogue, votes)
        mean = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        if values.shape[-1] > 1:
            mean = torch.where(sums[:, -1:] > 0, mean.clamp(min=1e-6).log(), 0.0)
        return mean[batch.dialogue]
