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
- (5), (10): the operator is MMGCN's deep spectral GCN (GCNII); its depth is not given and is an option. As there, what went in is
  concatenated with what comes out, so that (6) also weighs the states that went in.
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
- (13): l is not given. With one layer, or with attention off, h^(VA) is put behind it. `mal.residual` adds a path around each ATT, which a
  plain ATT lacks: without it a turn's own state reaches the classifier only as far as the turn attends to itself.
- "Without MAL" (Table 2) is taken as: no attention and neither skip. On IEMOCAP the paper's rows 15 and 41 are the same figures, as this
  reading wants; on MELD row 15 has the figures of row 42, which has attention. The paper contradicts itself there.
- Fewer modalities: pairs of what is there. One modality: its own graph is stage 1. h^(VA) is the pair without text; where there is
  none, the only pair. Without PMF a pair's stream is its two BiLSTM states side by side, without graph and loss, trained in stage 2.
- "Bt" is `inputs.second_text`; unset, the text has both roles.
- `stages = "joint"` trains everything in one loop with the PMF classifiers as auxiliary losses. With two stages the epoch of each stage is
  chosen on the development split, by the stage's own classifier.
- A missing modality: its node has no edges and no vote in E. A learned vector stands in the sequences that LSTM and GRU read; their states
  of that turn, which know its neighbours, still go through the skip connections.
- `causal`, for labelling while people speak: (1) reads forward alone, ATT and the Transformer encoder attend to earlier turns alone, as far
  back as the recipe's edges reach, and edges from later turns are left out. The paper reads whole conversations.
- `pmf.project` (a linear layer in front of each BiLSTM) and `mff.project` (one in front of GRU2) are not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Literal, cast

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.attention import SelfAttention, TransformerEncoder
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.turns import over_turns
from erc_graph.errors import ConfigError, expect
from erc_graph.graphs.recipe import GraphRecipe, list_recipes
from erc_graph.methods.base import NONE, Method, in_parts
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier
from erc_graph.methods.penalties import Reduction, density
from erc_graph.methods.stage import Prediction, Stage

Check = tuple[bool, str]


def _count(value: int) -> Check:
    return value >= 1, "1 or more"


def _share(value: float) -> Check:
    return 0 <= value < 1, "a number in [0, 1)"


def _weight(value: float) -> Check:
    return value >= 0, "a number of 0 or more"


def _even(width: int) -> dict[str, Check]:
    return {"width": (width >= 2 and width % 2 == 0, "an even number of 2 or more (half of it for each direction)")}


@dataclass(frozen=True, kw_only=True)
class PmfConfig:
    """Pairwise modalities fusion (stage 1).

    Attributes:
        enabled: Off: a pair's stream is its two BiLSTM states, no graph and no loss of its own.
        width: Width of node states.
        dropout: In encoders, graph and classifier.
        project: A linear layer with ReLU in front of each BiLSTM (not in the paper).
        density: λ_p1, weight of the density loss.
    """

    enabled: bool = True
    width: int = 128
    dropout: float = 0.2
    project: bool = False
    density: float = 2e-5

    def __post_init__(self) -> None:
        expect("pipeline.pmf", self, **_even(self.width), dropout=_share(self.dropout), density=_weight(self.density))


@dataclass(frozen=True, kw_only=True)
class MffConfig:
    """Multiple features fusion (stage 2).

    Attributes:
        width: Width of node states.
        dropout: In graph and Transformer encoder.
        bidirectional: GRU1 and GRU2 read in both directions.
        project: A linear layer with ReLU in front of GRU2 (not in the paper).
        gcn: The second graph; off: E^(VAT) is the GRU states side by side.
        speaker: Add the speaker embedding (s_t in Table 4).
        context_encoder: Use E^(Bt), the Transformer encoder's states.
        heads: Heads of the Transformer encoder.
        layers: Layers of the Transformer encoder.
    """

    width: int = 128
    dropout: float = 0.2
    bidirectional: bool = False
    project: bool = False
    gcn: bool = True
    speaker: bool = True
    context_encoder: bool = True
    heads: int = 1
    layers: int = 1

    def __post_init__(self) -> None:
        expect(
            "pipeline.mff", self, **_even(self.width), dropout=_share(self.dropout), heads=_count(self.heads), layers=_count(self.layers)
        )


@dataclass(frozen=True, kw_only=True)
class MalConfig:
    """Multimodal attention learning (stage 2).

    Attributes:
        attention: Use ATT; off: what goes in passes unchanged.
        layers: l, number of ATT layers.
        heads: Heads of each.
        width: Width of C_i.
        residual: Add a linear map of what goes into each ATT to what comes out (not in the paper).
        pair_skip: Concatenate h^(VA) in front of layers 2 to l.
        context_skip: Concatenate h^(Bt) behind the last layer.
        hidden: Width of the fully connected layer.
        dropout: In attention and classifier.
        density: λ_m1, weight of the density loss.
    """

    attention: bool = True
    layers: int = 2
    heads: int = 4
    width: int = 128
    residual: bool = False
    pair_skip: bool = True
    context_skip: bool = True
    hidden: int = 128
    dropout: float = 0.2
    density: float = 2e-5

    def __post_init__(self) -> None:
        expect(
            "pipeline.mal",
            self,
            layers=_count(self.layers),
            heads=_count(self.heads),
            width=_count(self.width),
            hidden=_count(self.hidden),
            dropout=_share(self.dropout),
            density=_weight(self.density),
        )


@dataclass(frozen=True, kw_only=True)
class PairwiseConfig:
    """The whole method.

    Attributes:
        graph: Recipe of both graphs: a name or a TOML file.
        causal: Nothing comes from later turns: recurrent nets read forward, attention looks back as far as the recipe, and edges from
            later turns are left out. Such a method can listen live (`stream`).
        gamma: γ, scale of edges across streams; unset: the recipe's.
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
    gamma: float | None = None
    stages: Literal["two", "joint"] = "two"
    auxiliary: float = 0.3
    density_reduction: Reduction = "mean"
    depth: int = 2
    pmf: PmfConfig = field(default_factory=PmfConfig)
    mff: MffConfig = field(default_factory=MffConfig)
    mal: MalConfig = field(default_factory=MalConfig)

    def __post_init__(self) -> None:
        if self.graph == NONE:
            raise ConfigError(f"pipeline.graph: expected a recipe ({', '.join(list_recipes())}), which pairwise needs, found 'none'")
        expect(
            "pipeline",
            self,
            gamma=(self.gamma is None or self.gamma > 0, "a number above 0"),
            auxiliary=_weight(self.auxiliary),
            causal=(not (self.causal and self.mff.bidirectional), "false where mff.bidirectional is set, which needs later turns"),
            depth=_count(self.depth),
        )


class PairFusion(nn.Module):
    """PMF of one pair of modalities, or of a single one."""

    def __init__(self, shapes: Shapes, modalities: tuple[str, ...], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        pmf = config.pmf
        self.modalities, self.enabled = modalities, pmf.enabled
        widths = {name: shapes.widths[name] for name in modalities}
        self.missing = Missing(widths)
        self.dropout = Dropout(pmf.dropout)
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(widths[name], pmf.width), nn.ReLU()) for name in modalities} if pmf.project else {}
        )
        widths = {name: pmf.width if pmf.project else widths[name] for name in modalities}
        both = not config.causal
        self.encode = nn.ModuleDict({name: Recurrent("lstm", widths[name], pmf.width, bidirectional=both) for name in modalities})
        self.width = pmf.width * len(modalities)
        if pmf.enabled:
            self.speaker = SpeakerEmbedding(pmf.width, given=shapes.speaker)
            self.conv = AngularConv(pmf.width, recipe, AngularConvConfig(depth=config.depth), dropout=pmf.dropout)
            self.width = self.conv.width * len(modalities)
            self.classify = Classifier(self.width, shapes.outputs, hidden=pmf.width, dropout=pmf.dropout)
            self.penalty = pmf.density
            self.reduction: Reduction = config.density_reduction

    def nodes(self, given: Given) -> Nodes:
        """n^m: `(utterances, modalities, width)`; without PMF the bare BiLSTM states."""
        features = self.missing(given.values, given.present)
        features = {m: self.project[m](value) if self.project else value for m, value in features.items()}
        read = [over_turns(self.encode[m], self.dropout(features[m]), given.batch) for m in self.modalities]  # Eq. (1)
        states = torch.stack(read, 1)
        states = states + self.speaker(given)[:, None] if self.enabled else states  # Eq. (2)
        return Nodes(states, given.here(self.modalities), self.modalities)

    def forward(self, given: Given) -> Tensor:
        """E^(m1m2): `(utterances, width)`."""
        nodes = self.nodes(given)
        return (self.conv(nodes, given.batch).states if self.enabled else nodes.masked()).flatten(1)  # Eqs. (3)-(5)

    def predict(self, given: Given) -> Prediction:
        """Stage 1: the pair's own classifier and density loss."""
        fused = self(given)
        penalty = self.penalty * density(fused, self.reduction)  # Eqs. (6), (7)
        return Prediction(scores=self.classify(fused), penalty=penalty, penalty_reduction=self.reduction, states=fused)


class MultipleFeaturesFusion(nn.Module):
    """MFF: the second graph, over the fused pairs, and the context of the second text feature."""

    def __init__(self, shapes: Shapes, widths: dict[str, int], config: PairwiseConfig, recipe: GraphRecipe) -> None:
        super().__init__()
        mff = config.mff

        def gru(inputs: int) -> Recurrent:
            return Recurrent("gru", inputs, mff.width, bidirectional=mff.bidirectional)

        self.encode = nn.ModuleDict({pair: gru(width) for pair, width in widths.items()})
        self.dropout = Dropout(mff.dropout)
        self.speaker = SpeakerEmbedding(mff.width, given=shapes.speaker) if mff.speaker else None
        self.conv = AngularConv(mff.width, recipe, AngularConvConfig(depth=config.depth), dropout=mff.dropout) if mff.gcn else None
        self.width = len(widths) * (self.conv.width if self.conv else mff.width)
        width = shapes.second_text or shapes.widths.get("text", 0)
        self.context = bool(width and (mff.context_encoder or config.mal.context_skip))
        self.missing = Missing({"Bt": width} if self.context else {})
        self.project = nn.Sequential(nn.Linear(width, mff.width), nn.ReLU()) if self.context and mff.project else None
        self.encode_context = gru(mff.width if self.project else width) if self.context else None
        self.transform = None
        if self.context and mff.context_encoder:
            self.transform = TransformerEncoder(
                mff.width, heads=mff.heads, layers=mff.layers, dropout=mff.dropout, causal=config.causal, past=recipe.past
            )
            self.width += mff.width

    def nodes(self, given: Given, pairs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """n^(p) `(utterances, pairs, width)`, and the GRU states h^(p) by pair."""
        nets = [cast(Recurrent, self.encode[pair]) for pair in pairs]
        read = side_by_side(nets, [self.dropout(e) for e in pairs.values()], given.batch)  # Eq. (8)
        nodes = torch.stack(read, 1)
        return (nodes if self.speaker is None else nodes + self.speaker(given)[:, None]), dict(zip(pairs, read, strict=True))  # Eq. (9)

    def forward(self, given: Given, pairs: dict[str, Tensor], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """E^(MF) `(utterances, width)`, and the GRU states by stream (`Bt` for the second text feature)."""
        states, hidden = self.nodes(given, pairs)
        nodes = Nodes(states, present, tuple(pairs))
        fused = (self.conv(nodes, given.batch).states if self.conv else nodes.masked()).flatten(1)  # Eq. (10)
        if self.encode_context is not None:
            value, here = given.second_text or (given.values["text"], given.present["text"])
            features = self.missing({"Bt": value}, {"Bt": here})["Bt"]
            features = self.project(features) if self.project else features
            hidden["Bt"] = over_turns(self.encode_context, self.dropout(features), given.batch)  # Eq. (11)
            if self.transform is not None:
                fused = torch.cat([fused, over_turns(self.transform, hidden["Bt"], given.batch)], -1)  # Eq. (12)
        return fused, hidden


class MultimodalAttention(nn.Module):
    """MAL: attention layers with skip connections, and the classifier."""

    def __init__(
        self,
        inputs: int,
        skip_pair: int,
        skip_context: int,
        outputs: int,
        config: MalConfig,
        *,
        causal: bool = False,
        past: int | None = None,
    ) -> None:
        super().__init__()
        self.pair_skip, self.context_skip = bool(config.pair_skip and skip_pair), bool(config.context_skip and skip_context)
        skip = skip_pair if self.pair_skip else 0
        self.attention, self.carry = nn.ModuleList(), nn.ModuleList()
        self.dropout = Dropout(config.dropout)
        width = inputs
        for layer in range(config.layers if config.attention else 0):
            joined = width + (skip if layer else 0)
            self.attention.append(SelfAttention(joined, config.width, heads=config.heads, dropout=config.dropout, causal=causal, past=past))
            if config.residual:
                self.carry.append(nn.Linear(joined, config.width, bias=False))
            width = config.width
        if not config.attention or config.layers == 1:  # no later layer that could take the skip
            width += skip
        self.width = width + (skip_context if self.context_skip else 0)
        self.classify = Classifier(self.width, outputs, hidden=config.hidden, dropout=config.dropout)

    def forward(self, fused: Tensor, pair: Tensor, context: Tensor | None, batch: Batch) -> Tensor:
        """E^(MM): `(utterances, width)`."""
        state = fused
        for layer, attention in enumerate(self.attention):
            joined = torch.cat([state, pair], -1) if layer and self.pair_skip else state
            state = over_turns(attention, self.dropout(joined), batch)  # Eq. (13)
            state = state + self.carry[layer](joined) if self.carry else state
        if len(self.attention) < 2 and self.pair_skip:
            state = torch.cat([state, pair], -1)
        return torch.cat([state, context], -1) if self.context_skip and context is not None else state  # of Eq. (14)


class Pairwise(Method):
    """Fusing pairwise modalities over conversation graphs, for one to three modalities and any second text feature."""

    Config = PairwiseConfig
    reads_second_text = True
    paper = Paper(
        title="Fusing Pairwise Modalities for Emotion Recognition in Conversations",
        authors="Fan et al.",
        venue="Information Fusion 106",
        year=2024,
    )

    def build(self, config: PairwiseConfig, shapes: Shapes) -> None:
        """PMF of every pair, MFF and MAL."""
        if config.stages == "two" and config.pmf.enabled and self.inputs.text_layers is not None:
            raise ConfigError(
                "inputs.text_layers: expected none with pipeline.stages 'two', whose first stage would be trained on other states than the "
                "second; set pipeline.stages to 'joint'"
            )
        assert self.recipe is not None
        if config.gamma is not None:
            for rule in self.recipe.edges:
                if rule.scope == "across":
                    self.recipe = self.recipe.with_scale(rule.relation, config.gamma)
        recipe, self.modalities = self.recipe, tuple(sorted(shapes.widths))
        if not self.modalities:
            raise ConfigError("modalities: the pairwise method needs text, audio or visual; found none beside the second text")
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
        """PMF by pair."""
        return cast("dict[str, PairFusion]", dict(self.fusion.items()))

    def stages(self) -> list[Stage]:
        """PMF of every pair, then MFF with MAL; or all at once."""
        if self.config.stages == "joint" or not self.config.pmf.enabled:
            return [self.stage("mff+mal", self)]
        pairs = [self.stage(f"pmf {name}", fusion, answer=fusion.predict) for name, fusion in self.fusions.items()]
        return [*pairs, self.stage("mff+mal", self.mff, self.mal)]

    @torch.no_grad()
    def keep(self, index: int, batch: Batch) -> Batch:
        """Before the last of two stages: keep what the trained and frozen pairs say, instead of asking them in every epoch.

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
        """E^(m1m2) of every pair, from the cache where it is there."""
        cache = given.batch.cache
        return {name: cache[name] if name in cache else fusion(given) for name, fusion in self.fusions.items()}

    def present(self, given: Given) -> Tensor:
        """`(utterances, pairs)` bool: a fused pair is present where any of its parts is."""
        return torch.stack([given.here(fusion.modalities).any(1) for fusion in self.fusions.values()], 1)

    def answer(self, given: Given) -> Prediction:
        """Scores of every utterance `(utterances, classes)`, and the density losses."""
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
