r"""Fusing Pairwise Modalities for Emotion Recognition in Conversations (Fan et al., Information Fusion 106, 2024).

Stage 1 is pairwise modalities fusion (PMF), once per pair of modalities (m1, m2):

.. math::
    l^m &= \mathrm{BiLSTM}_m(u^m) \tag{1} \\
    n^m_i &= w_{ps} s_i + l^m_i \tag{2} \\
    W^a_{ij} &= 1 - \arccos(\mathrm{sim}(n^m_i, n^m_j)) / \pi \tag{3} \\
    W^e_i &= \gamma (1 - \arccos(\mathrm{sim}(n^{m1}_i, n^{m2}_i)) / \pi) \tag{4} \\
    E^{(m1 m2)} &= \mathrm{GCN}_p(V_p, W_p) \tag{5} \\
    L_{pd} &= \|E^{(m1 m2)}\|_1 \tag{6} \\
    L_{PMF} &= L_{pc} + \lambda_{p1} L_{pd} + \lambda_{p2} \|\theta_p\|_2 \tag{7}

Stage 2 is multiple features fusion (MFF) and multimodal attention learning (MAL):

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

- Eqs. (2), (9): speakers are numbered by first appearance in the dialogue, and a learned embedding of this number is added. The paper also
  mentions concatenated vectors of a speaker recognition model. Speaker vectors of the corpus (`inputs.given_speakers`) are added like
  learned embeddings.
- The printed Eq. (3) has m1 and m2 for an edge within a modality. These indices are a misprint, because both nodes belong to one modality.
- Eqs. (5), (10): the operator is MMGCN's deep spectral GCN (GCNII). The paper does not state its depth, so the depth is an option. As in
  MMGCN, the output is concatenated with the input; the density loss (6) therefore includes the input.
- Eqs. (6), (14): by default, the L1 norm is a mean over the entries of E; λ then does not depend on batch size and width. The paper
  chose λ for a sum. The mean is this sum divided by the number of entries, some hundred thousand, so with the paper's λ the loss has almost
  no effect. The option `density_reduction = "sum"` gives the printed norm of each batch.
- Eqs. (7), (15): the L2 term is the weight decay of the optimiser. By default, the optimiser is Adam: `weight_decay = w` adds `w θ` to the
  gradient, like a loss term `(w / 2) ‖θ‖²`. Decoupled weight decay (AdamW) is a training option. Gradients are clipped before the weight
  decay is added; the paper does not mention clipping.
- Eqs. (3), (4): the gradient of arccos is infinite at ±1. Cosines are therefore first multiplied by 1 − 10⁻⁵, and the result is scaled back
  to [0, 1] (`erc_graph.graphs.weights`). The scaling changes an edge weight by at most 0.0015.
- The printed Eq. (8) has VA twice; the third line should be AT. In the printed equations, all pairs share one GRU1; here every pair has its
  own GRU.
- Eqs. (8), (11): by default, the GRUs read only forward, as printed. The option `mff.bidirectional` lets them read in both directions.
- Between (11) and (12): the Transformer encoder has no position encodings, because the GRU before it encodes the order. The feed-forward
  layer of the encoder is twice as wide as its states. The paper states neither choice.
- Eq. (13): the paper does not give the number l of layers. With a single layer, h^(VA) is concatenated with its output; without attention,
  h^(VA) is concatenated with E^(MF). The option `mal.residual` adds a residual connection around each ATT. Without a residual connection,
  the state of an utterance reaches the classifier only through its attention to itself.
- We implement "without MAL" (Table 2) as no attention and no skip connection. On IEMOCAP, rows 15 and 41 of the paper's tables are equal,
  which supports this reading. On MELD, row 15 equals row 42, which has attention, so the paper contradicts itself.
- With two modalities, there is one pair. A single modality has its own graph in stage 1. If every pair contains text, h^(VA) denotes the
  GRU states of the only pair. Without PMF, a pair is represented by its two concatenated BiLSTM states, and stage 2 trains the BiLSTMs.
- The second text feature "Bt" is the option `inputs.second_text`. Without this option, the text features of the corpus are also used as
  "Bt".
- The option `stages = "joint"` trains everything in one loop, with the PMF classifiers as auxiliary losses. With two stages, each stage
  selects its epoch by its own classifier on the development split.
- A missing modality has a node without edges, which does not contribute to E. LSTM and GRU read a learned vector in place of a missing
  modality. At such an utterance, the states of LSTM and GRU depend on its neighbours and still pass through the skip connections.
- With the option `causal`, the method can label live conversations. The recurrent networks read only forward. ATT and the Transformer
  encoder attend to no later utterances, and to earlier utterances only as far back as the edges of the recipe. Edges from later utterances
  are left out. The paper reads whole conversations.
- The options `pmf.project` (a linear layer before each BiLSTM) and `mff.project` (a linear layer before GRU2) are not in the paper.
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
    """Options of pairwise fusion.

    Attributes:
        graph: Graph recipe of the graphs in stages 1 and 2: a name or a TOML file.
        causal: Read no later utterances. Recurrent networks read forward, attention reaches back as far as the edges of the recipe, and
            edges from later utterances are left out. A causal method can label live conversations (`stream`).
        gamma: Scale γ of the edges between nodes of the same utterance; default: the scale in the recipe.
        stages: Training stages: `two`, as in the paper, or `joint`, a single stage with the losses of stage 1 as auxiliary losses.
        auxiliary: Weight of these auxiliary losses if `stages` is `joint`.
        density_reduction: Reduction of the density loss: `mean` over the fused features, or `sum`, as printed in the paper.
        depth: Number of graph convolution layers in both stages.
        pmf: Options of pairwise modalities fusion (stage 1).
        mff: Options of multiple features fusion (first half of stage 2).
        mal: Options of multimodal attention learning (second half of stage 2).
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
    """Pairwise fusion over conversation graphs, for one to three modalities and an optional second text feature."""

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
        """Build the modules of stage 1 (PMF) for every pair of modalities, and those of stage 2 (MFF and MAL)."""
        if config.stages == "two" and config.pmf.enabled and self.inputs.text_layers is not None:
            raise ConfigError(
                "inputs.text_layers: expected none with pipeline.stages 'two', because the second stage would read other states than the "
                "first; set pipeline.stages to 'joint'"
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
        """Return the networks of stage 1 (PMF), one per pair of modalities."""
        return cast("dict[str, PairFusion]", dict(self.fusion.items()))

    def stages(self) -> list[Stage]:
        """Return the training stages: stage 1 (PMF) of every pair, then stage 2 (MFF and MAL); or one stage that trains all modules."""
        if self.config.stages == "joint" or not self.config.pmf.enabled:
            return [self.stage("mff+mal", self)]
        pairs = [self.stage(f"pmf {name}", fusion, answer=fusion.predict) for name, fusion in self.fusions.items()]
        return [*pairs, self.stage("mff+mal", self.mff, self.mal)]

    @torch.no_grad()
    def keep(self, index: int, batch: Batch) -> Batch:
        """Store the outputs of the frozen networks of stage 1 before the last stage, instead of computing them in every epoch.

        With swap noise or modality dropout, nothing is stored, because the features then differ in every epoch.
        """
        noisy = self.inputs_config.swap_noise or self.inputs_config.modality_dropout
        if index == 0 or index < len(self.stages()) - 1 or noisy:
            return batch
        self.eval()

        def ask(fusion: PairFusion, part: Batch) -> Tensor:
            return fusion(self.given(part))

        return batch.with_cache({name: in_parts(partial(ask, fusion), batch) for name, fusion in self.fusions.items()})

    def pairs(self, given: Given) -> dict[str, Tensor]:
        """Compute the fused features E^(m1m2) of every pair of modalities, or read them from the cache."""
        cache = given.batch.cache
        return {name: cache[name] if name in cache else fusion(given) for name, fusion in self.fusions.items()}

    def present(self, given: Given) -> Tensor:
        """Return the mask of present pairs, `(utterances, pairs)`: the utterance has at least one modality of the pair."""
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
