r"""Fusing Pairwise Modalities for Emotion Recognition in Conversations (Fan et al., Information Fusion 106, 2024).

Stage 1, pairwise modalities fusion (PMF), once per pair of modalities (m1, m2):

.. math::
    l^m &= \mathrm{BiLSTM}_m(u^m) \tag{1} \\
    n^m_i &= w_{ps} s_i + l^m_i \tag{2} \\
    W^a_{ij} &= 1 - \arccos(\mathrm{sim}(n^m_i, n^m_j)) / \pi \tag{3} \\
    W^e_i &= \gamma (1 - \arccos(\mathrm{sim}(n^{m1}_i, n^{m2}_i)) / \pi) \tag{4} \\
    E^{(m1 m2)} &= \mathrm{GCN}_p(V_p, W_p) \tag{5} \\
    L_{pd} &= \|E^{(m1 m2)}\|_1 \tag{6} \\
    L_{PMF} &= L_{pc} + \lambda_{p1} L_{pd} + \lambda_{p2} \|\theta_p\|_2 \tag{7}

Stage 2, multiple features fusion (MFF) and multimodal attention learning (MAL):

.. math::
    h^{(p)}_t &= \mathrm{GRU}_1(h^{(p)}_{t-1}, E^{(p)}_t) \tag{8} \\
    n^{(p)}_t &= w_{ms} s_t + h^{(p)}_t \tag{9} \\
    E^{(VAT)} &= \mathrm{GCN}_f(V_f, W_f) \tag{10} \\
    h^{(Bt)}_t &= \mathrm{GRU}_2(h^{(Bt)}_{t-1}, u^{(Bt)}_t) \tag{11} \\
    E^{(MF)} &= [E^{(VAT)}, E^{(Bt)}] \tag{12} \\
    C_1 &= \mathrm{ATT}_1(E^{(MF)}), \quad C_i = \mathrm{ATT}_i([C_{i-1}, h^{(VA)}]) \tag{13} \\
    L_{md} &= \|E^{(MM)}\|_1, \quad E^{(MM)} = [C_l, h^{(Bt)}] \tag{14} \\
    L_{MAL} &= L_{mc} + \lambda_{m1} L_{md} + \lambda_{m2} \|\theta_m\|_2 \tag{15}

| paper | here | shape |
|---|---|---|
| u^m | `Given.values[m]` | (utterances, features of m) |
| l^m | `PairFusion.encode[m]` | (utterances, pmf.width) |
| w_ps s, w_ms s | `PairFusion.speaker`, `MultipleFeaturesFusion.speaker` | (utterances, width) |
| GCN_p, GCN_f | `PairFusion.conv`, `MultipleFeaturesFusion.conv` | (utterances, streams, 2 × width) |
| W^a, W^e, γ | recipe `pairwise`: `context`, `cross` and its scale | edges |
| E^(m1m2) | output of `PairFusion` | (utterances, streams × 2 × pmf.width) |
| h^(p), h^(Bt) | `MultipleFeaturesFusion.encode`, `.encode_context` | (utterances, mff.width) |
| E^(Bt) | `MultipleFeaturesFusion.transform` | (utterances, mff.width) |
| ATT_i, l | `MultimodalAttention.attention`, `mal.layers` | (utterances, mal.width) |
| λ_p1, λ_m1 | `pmf.density`, `mal.density` | |
| λ_p2, λ_m2 | `training.weight_decay` | |

Differences from the paper:

- (2), (9): the speaker embedding is learned, of the speaker's order in the dialogue, and added. The text also speaks of vectors of a
  recognition model, concatenated: given vectors (`inputs.given_speakers`) are added like the learned.
- (3) prints m1 and m2 for an intra-modal edge, a slip: both nodes are of one modality.
- (5), (10): the operator is MMGCN's deep spectral GCN (GCNII); the paper does not state the depth, so it is an option. As in MMGCN, the
  output is concatenated with the input; the density loss (6) therefore covers both.
- (6), (14): the L1 norm is a mean over entries by default, so that λ does not depend on batch and width. The paper's λ belongs to a sum:
  under the mean it is weaker by the number of entries, some hundred thousand, and does next to nothing. `density_reduction = "sum"` is the
  printed norm, per batch.
- (7), (15): the L2 term is the optimiser's weight decay: coupled (Adam) by default, where `weight_decay = w` adds `w θ` to the gradient, as
  `(w / 2) ‖θ‖²` would; decoupled (AdamW) is an option of the training. Gradients are clipped before that, which the paper does not say.
- (3), (4): arccos has no gradient at ±1; cosines are multiplied by 1 − 10⁻⁵ first and the outcome scaled back to [0, 1]
  (`erc_graph.graphs.weights`), which moves a weight by 0.0015 at most.
- (8) prints VA twice, the third line is AT. "GRU1" is shared by the letter; here every pair has its own weights.
- (8), (11): GRUs read forward by the letter; reading in both directions is an option (`mff.bidirectional`).
- Between (11) and (12): the Transformer encoder has no positions (the GRU before it knows the order) and a feed-forward layer of twice the
  width, neither of which the paper gives.
- (13): l is not given. With one layer, or with attention off, h^(VA) is put after it. `mal.residual` adds a path around each ATT, which a
  plain ATT lacks: without it an utterance's own state reaches the classifier only as far as the utterance attends to itself.
- "Without MAL" (Table 2) is taken as: no attention and neither skip. On IEMOCAP the paper's rows 15 and 41 are the same figures, as this
  reading wants; on MELD row 15 has the figures of row 42, which has attention. The paper contradicts itself there.
- Fewer modalities: pairs of what is there. One modality: its own graph is stage 1. h^(VA) is the pair without text; where there is
  none, the only pair. Without PMF a pair's stream is its two BiLSTM states side by side, without graph and loss, trained in stage 2.
- "Bt" is `inputs.second_text`; unset, the text has both roles.
- `stages = "joint"` trains everything in one loop with the PMF classifiers as auxiliary losses. With two stages the epoch of each stage is
  chosen on the development split, by the stage's own classifier.
- A missing modality: its node has no edges and no vote in E. A learned vector stands in the sequences that LSTM and GRU read; their states
  of that utterance, which know its neighbours, still go through the skip connections.
- `causal`, for labelling while people speak: (1) reads only forward. ATT and the Transformer encoder attend only to earlier utterances, as
  far back as the recipe's edges reach. Edges from later utterances are left out. The paper reads whole conversations.
- `pmf.project` (a linear layer before each BiLSTM) and `mff.project` (one before GRU2) are not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Literal, cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method, in_parts
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.pairwise.multimodal_attention import MalConfig, MultimodalAttention
from erc_graph.methods.pairwise.multiple_fusion import MffConfig, MultipleFeaturesFusion
from erc_graph.methods.pairwise.pair_fusion import PairFusion, PmfConfig
from erc_graph.methods.paper import Paper
from erc_graph.methods.penalties import Reduction, density
from erc_graph.methods.ranges import Checked, Positive, Size, Weight
from erc_graph.methods.stage import Prediction, Stage


@dataclass(frozen=True, kw_only=True)
class PairwiseConfig(Checked):
    """The whole method.

    Attributes:
        graph: Recipe of both graphs: a name or a TOML file.
        causal: Read no later utterance: recurrent networks read forward, attention goes back as far as the recipe, and edges from later
            utterances are left out. Such a method can label live conversations (`stream`).
        gamma: γ, scale of edges across streams; default: the recipe's.
        stages: `two` (the paper) or `joint` (one loop, PMF classifiers as auxiliary losses).
        auxiliary: Weight of the PMF losses when joint.
        density_reduction: `mean` over entries or `sum`, the printed norm.
        depth: Layers of the graph convolution, in both stages.
        pmf: Stage 1.
        mff: First half of stage 2.
        mal: Second half of stage 2.
    """

    graph: str = "pairwise"
    causal: bool = False
    gamma: Positive | None = None
    stages: Literal["two", "joint"] = "two"
    auxiliary: Weight = 0.3
    density_reduction: Reduction = "mean"
    depth: Size = 2
    pmf: PmfConfig = field(default_factory=PmfConfig)
    mff: MffConfig = field(default_factory=MffConfig)
    mal: MalConfig = field(default_factory=MalConfig)


class Pairwise(Method):
    """Fusing pairwise modalities over conversation graphs, for one to three modalities and any second text feature."""

    Config = PairwiseConfig
    reads_second_text = True
    paper = Paper(
        title="Fusing Pairwise Modalities for Emotion Recognition in Conversations",
        authors="Fan et al.",
        venue="Information Fusion 106",
        year=2024,
        url="https://doi.org/10.1016/j.inffus.2024.102306",
    )

    def build(self, config: PairwiseConfig, shapes: Shapes) -> None:
        """Build PMF of every pair, MFF and MAL."""
        if config.stages == "two" and config.pmf.enabled and self.inputs.text_layers is not None:
            raise ConfigError(
                "inputs.text_layers: expected none with pipeline.stages 'two', whose first stage would be trained on other states than the "
                "second; set pipeline.stages to 'joint'"
            )
        recipe = self.recipe
        if config.gamma is not None:
            for rule in recipe.edges:
                if rule.scope == "across":
                    recipe = recipe.with_scale(rule.relation, config.gamma)
        self.graph, self.modalities = recipe, tuple(sorted(shapes.widths))
        groups = list(combinations(self.modalities, min(2, len(self.modalities))))
        self.fusion = nn.ModuleDict({"+".join(group): PairFusion(shapes, group, config, recipe) for group in groups})
        widths = {name: fusion.width for name, fusion in self.fusions.items()}
        self.mff = MultipleFeaturesFusion(shapes, widths, config, recipe)
        for name, fusion in self.fusions.items():
            if fusion.enabled:
                fusion.conv.label = name
        if self.mff.conv is not None:
            self.mff.conv.label = "fused"
        without_text = [name for name in self.fusion if "text" not in name.split("+")]
        self.skip = (without_text or list(self.fusion))[0]
        width = config.mff.width
        self.mal = MultimodalAttention(
            self.mff.width,
            width,
            width if self.mff.context else 0,
            shapes.outputs,
            config.mal,
            causal=config.causal,
            past=recipe.past,
        )

    @property
    def fusions(self) -> dict[str, PairFusion]:
        """Return the PMF by pair."""
        return cast("dict[str, PairFusion]", dict(self.fusion.items()))

    def stages(self) -> list[Stage]:
        """Return the stages: PMF of every pair, then MFF with MAL; or one stage for all."""
        if self.config.stages == "joint" or not self.config.pmf.enabled:
            return [self.stage("mff+mal", self)]
        pairs = [self.stage(f"pmf {name}", fusion, answer=fusion.predict) for name, fusion in self.fusions.items()]
        return [*pairs, self.stage("mff+mal", self.mff, self.mal)]

    @torch.no_grad()
    def keep(self, index: int, batch: Batch) -> Batch:
        """Store, before the last of two stages, what the trained and frozen pairs compute, instead of computing it in every epoch.

        Not with swap noise or modality dropout, in which they see other features in every epoch.
        """
        noisy = self.inputs_config.swap_noise or self.inputs_config.modality_dropout
        if index == 0 or index < len(self.stages()) - 1 or noisy:
            return batch
        self.eval()

        def ask(fusion: PairFusion, part: Batch) -> Tensor:
            return fusion(self.given(part))

        return batch.with_cache({name: in_parts(partial(ask, fusion), batch) for name, fusion in self.fusions.items()})

    def pairs(self, given: Given) -> dict[str, Tensor]:
        """Compute E^(m1m2) of every pair, from the cache where it is there."""
        cache = given.batch.cache
        return {name: cache[name] if name in cache else fusion(given) for name, fusion in self.fusions.items()}

    def present(self, given: Given) -> Tensor:
        """Return `(utterances, pairs)` bool: a fused pair is present where any of its parts is."""
        return torch.stack([given.here(fusion.modalities).any(1) for fusion in self.fusions.values()], 1)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance `(utterances, classes)`, and the density losses."""
        reduction = self.config.density_reduction
        pairs = self.pairs(given)
        fused, hidden = self.mff(given, pairs, self.present(given))  # Eqs. (8)-(12)
        states = self.mal(fused, hidden[self.skip], hidden.get("Bt"), given.batch)  # Eq. (13)
        penalty = self.config.mal.density * density(states, reduction)  # Eqs. (14), (15)
        auxiliary = {}
        if self.config.stages == "joint" and self.config.pmf.enabled:
            auxiliary = {name: fusion.classify(pairs[name]) for name, fusion in self.fusions.items()}
            for name in pairs:
                penalty = penalty + self.config.auxiliary * self.config.pmf.density * density(pairs[name], reduction)
        return Prediction(
            scores=self.mal.classify(states),
            penalty=penalty,
            penalty_reduction=reduction,
            auxiliary=auxiliary,
            auxiliary_weight=self.config.auxiliary,
            states=states,
        )
