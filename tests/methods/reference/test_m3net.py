"""M3NET against a tiny run of the public code, and against loops over its equations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.methods.m3net import M3NET, M3NETConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.losses import legacy_focal

pytestmark = pytest.mark.reference

OPTIONS = {"N_L": None, "N_K": None, "focal_gamma": 2.5}
STREAMS = ("text", "audio", "visual")  # in the order of the public code
LINEAR = {"audio": "linear_a", "visual": "linear_v", "text": "linear_l"}


def layers_of(param: Mapping[str, Tensor], name: str) -> int:
    """How many layers a kind has: `hyperconv` or `conv`."""
    found = [key.removeprefix(f"graph_model.{name}").split(".")[0] for key in param if key.startswith(f"graph_model.{name}")]
    return max(int(number) for number in found if number.isdigit())


def text_map(param: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """The linear map in front of the text's GRU; the code has none where widths agree."""
    if "linear_l.weight" in param:
        return {"weight": param["linear_l.weight"], "bias": param["linear_l.bias"]}
    return {"weight": torch.eye(width), "bias": torch.zeros(width)}


def gru(param: Mapping[str, Tensor], name: str, layers: int) -> dict[str, Tensor]:
    """Parameters of a bidirectional net of PyTorch → those of `Recurrent`."""
    return {
        f"layers.{layer}.{direction}.{kind}_l0": param[f"{name}.{kind}_l{layer}{suffix}"]
        for layer in range(layers)
        for direction, suffix in enumerate(("", "_reverse"))
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


def ours(put, arrays) -> M3NET:
    """Our method at the sizes of the arrays, with their parameters."""
    param, options = arrays.under("param/"), arrays.options(**OPTIONS)
    width, hidden = param["gru_l.weight_ih_l0"].shape[1], len(param["graph_model.fc1.bias"])
    features = {
        name.split("/")[1]: rows.shape[1]
        for name, rows in arrays.items()
        if name.startswith("in/") and name.endswith("/0") and rows.ndim == 2
    }
    config = M3NETConfig(
        width=width,
        hidden=hidden,
        hyper_layers=options["N_L"] or layers_of(param, "hyperconv"),
        layers=options["N_K"] or layers_of(param, "conv"),
        dropout=0.0,
    )
    task = Task(name="reference", labels=tuple(map(str, range(len(param["smax_fc.bias"])))))
    built = M3NET(Schema(widths=dict(sorted(features.items())), task=task), config)
    speakers = param["graph_model.speaker_embeddings.weight"]
    built.speaker.embedding = nn.Embedding(*speakers.shape)
    matrix = param["smax_fc.weight"].chunk(len(STREAMS), 1)
    norms = zip(built.texts.norm, ("normBNa", "normBNb", "normBNc", "normBNd"), strict=True)
    put(
        built,
        {
            **{
                f"texts.norm.{text}.{kind}": param[f"{name}.{kind}"]
                for text, name in norms
                for kind in ("weight", "bias", "running_mean", "running_var")
            },
            **{
                f"streams.project.{name}.{kind}": param[f"{LINEAR[name]}.{kind}"]
                for name in ("audio", "visual")
                for kind in ("weight", "bias")
            },
            **{f"streams.project.text.{kind}": value for kind, value in text_map(param, width).items()},
            **{f"streams.read.text.{name}": value for name, value in gru(param, "gru_l", 2).items()},
            "speaker.embedding.weight": speakers,
            "speaker.weight.weight": torch.eye(width),
            "node.weight": param["graph_model.fc1.weight"],
            "node.bias": param["graph_model.fc1.bias"],
            "hypergraph.bias": torch.stack([param[f"graph_model.hyperconv{k + 1}.bias"] for k in range(config.hyper_layers)]),
            "frequencies.gate": torch.stack([param[f"graph_model.conv{k + 1}.gate.weight"].view(2, hidden) for k in range(config.layers)]),
            "frequencies.bias": torch.cat([param[f"graph_model.conv{k + 1}.gate.bias"] for k in range(config.layers)]),
            "classify.2.weight": torch.cat([matrix[STREAMS.index(name)] for name in sorted(STREAMS)], 1),
            "classify.2.bias": param["smax_fc.bias"],
        },
    )
    return built.eval()


def dialogues_of(arrays) -> list[int]:
    """Numbers of the dialogues."""
    return sorted(int(name.split("/")[-1]) for name in arrays if name.startswith("in/label/"))


def batch_of(arrays, dialogues) -> Batch:
    """Some dialogues of the arrays."""
    sizes = [len(arrays[f"in/label/{i}"]) for i in dialogues]
    rows = sum(sizes)
    names = [name.split("/")[1] for name, value in arrays.items() if name.startswith("in/") and name.endswith("/0") and value.ndim == 2]

    def joined(name: str) -> Tensor:
        return torch.cat([arrays[f"in/{name}/{i}"] for i in dialogues])

    return Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=joined("speaker"),
        target=joined("label"),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features={name: joined(name) for name in names},
        present={name: torch.ones(rows, dtype=torch.bool) for name in names},
    )


def in_their_order(nodes: Tensor, batch: Batch) -> Tensor:
    """`(N, S, k)` in our order → `(S N, k)`: dialogue by dialogue all text, all audio, all visual."""
    places = [sorted(STREAMS).index(name) for name in STREAMS]
    return torch.cat([part[:, place] for part in nodes.split(list(batch.sizes)) for place in places])


class PaddedGRU(nn.Module):
    """The text's net as the code has it: it reads the padding of shorter dialogues, zeros that went through norm and linear map."""

    def __init__(self, net: nn.Module, fill: Tensor) -> None:
        super().__init__()
        self.net, self.fill, self.states = net, fill, None

    def forward(self, nodes, batch):
        states = batch.pad(nodes.states[:, 0] - self.fill) + self.fill
        for index in range(len(self.net.layers)):
            ahead, back = self.net.nets(index)
            states = torch.cat([ahead(states)[0], back(states.flip(1))[0].flip(1)], -1)
        self.states = states
        return nodes.with_states(batch.unpad(states)[:, None])


class Hypergraph(nn.Module):
    """The hypergraph as the code has it, with weights by place: `z ← LeakyReLU(P z + b)` over all nodes of the batch."""

    def __init__(self, biases: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.biases, self.matrix, self.layers = biases, matrix, []

    def forward(self, nodes, batch):
        z = in_their_order(nodes.states, batch)
        for bias in self.biases:
            z = F.leaky_relu(self.matrix @ z + bias)
            self.layers.append(z)
        parts = z.split([len(STREAMS) * size for size in batch.sizes])
        rows = [part.unflatten(0, (len(STREAMS), -1))[[STREAMS.index(name) for name in sorted(STREAMS)]].transpose(0, 1) for part in parts]
        return nodes.with_states(torch.cat(rows))


def by_place(arrays, batch: Batch) -> Tensor:
    """P from ω and γ by place: they count in the degrees alone, γ by the number of the node."""
    omega, gamma = arrays["param/graph_model.hyperedge_weight"], arrays["param/graph_model.EW_weight"]
    node, edge = incidence_of(batch)
    h = torch.zeros(int(node.max()) + 1, int(edge.max()) + 1)
    h[node, edge] = 1
    of_edges, of_nodes = h.T @ gamma[: len(h)], h @ omega[: h.shape[1]]
    return h / of_nodes[:, None] / of_edges @ h.T


def told(arrays, batch: Batch) -> Tensor:
    """P from the first layer of the run, where ω and γ in the file are others than those that ran: two factors for every node."""
    x, z = arrays["mid/graph_model.fc1"].double(), arrays["mid/graph_model.hyperconv1"].double()
    node, edge = incidence_of(batch)
    h = torch.zeros(len(x), int(edge.max()) + 1, dtype=torch.float64)
    h[node, edge] = 1
    sums = h.T @ x
    before = torch.where(z > 0, z, z / 0.01) - arrays["param/graph_model.hyperconv1.bias"]
    rows = []
    for of_node, value in zip(h, before, strict=True):
        into = of_node.nonzero().squeeze(1)
        rows.append(torch.linalg.lstsq(sums[into].T, value[:, None]).solution.T @ h[:, into].T)
    return torch.cat(rows).float()


def incidence_of(batch: Batch) -> Tensor:
    """Node and hyperedge numbers in the order of the code: a hyperedge per stream of a dialogue, then one per turn."""
    found, node, edge = [], 0, 0
    for size in batch.sizes:
        found += [(node + s * size + i, edge + s) for s in range(len(STREAMS)) for i in range(size)]
        found += [(node + s * size + i, edge + len(STREAMS) + i) for i in range(size) for s in range(len(STREAMS))]
        node, edge = node + len(STREAMS) * size, edge + len(STREAMS) + size
    return torch.tensor(found).T


def as_released(built: M3NET, arrays, matrix: Tensor) -> tuple[PaddedGRU, Hypergraph]:
    """Put the code's padding and weights by place into our method."""
    param = arrays.under("param/")
    names = ("normBNa", "normBNb", "normBNc", "normBNd")
    fill = sum(
        F.batch_norm(
            torch.zeros_like(param[f"{n}.bias"])[None], *(param[f"{n}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        )
        for n in names
    )
    linear = built.streams.project["text"]
    net = built.streams.read["text"] = PaddedGRU(built.streams.read["text"], linear(fill / len(names)).squeeze(0))
    built.hypergraph = Hypergraph(built.hypergraph.bias, matrix)
    return net, built.hypergraph


@pytest.mark.parametrize("layout", ["auto", "list"])
def test_each_dialogue_alone_with_uniform_weights(reference, put, layout):
    arrays = reference("m3net")
    built = ours(put, arrays)
    built.frequencies.layout = built.hypergraph.layout = layout
    with torch.no_grad():
        found = [built(batch_of(arrays, [i])).scores.log_softmax(-1) for i in dialogues_of(arrays)]
        together = built(batch_of(arrays, dialogues_of(arrays))).scores.log_softmax(-1)
    arrays.same(torch.cat(found), "out/uniform_alone_log_prob")
    arrays.same(together, "out/uniform_alone_log_prob")


def test_a_batch_of_the_public_code(reference, put):
    arrays = reference("m3net")
    built = ours(put, arrays)
    batch, seen = batch_of(arrays, dialogues_of(arrays)), {}
    assert torch.equal(incidence_of(batch), arrays["edge/hyper_incidence"])
    net, hyper = as_released(built, arrays, told(arrays, batch))
    built.node.register_forward_hook(lambda part, given, out: seen.update(node=out))
    built.frequencies.register_forward_hook(lambda part, given, out: seen.update(y=out.states))
    answer = built(batch)
    arrays.same(net.states.transpose(0, 1), "mid/gru_l")
    arrays.same(in_their_order(seen["node"], batch), "mid/graph_model.fc1")
    for k, z in enumerate(hyper.layers, 1):
        arrays.same(z, f"mid/graph_model.hyperconv{k}")
    messages = sum(arrays[f"mid/graph_model.conv{k + 1}"] for k in range(built.config.layers))
    difference = in_their_order(seen["y"] - seen["node"], batch) - messages
    assert float(difference.detach().abs().max()) <= 1e-5
    states = answer.states.unflatten(1, (len(STREAMS), -1))
    arrays.same(torch.cat([states[:, sorted(STREAMS).index(name)] for name in STREAMS], 1), "mid/graph_model")
    arrays.same(answer.scores.log_softmax(-1), "out/log_prob")
    loss = F.cross_entropy(answer.scores, batch.target, arrays["in/class_weight"])
    arrays.same(loss, "out/loss_nll")
    arrays.same(legacy_focal(answer.scores, batch.target, arrays.options(**OPTIONS)["focal_gamma"]).mean(), "out/loss_focal_as_written")
    loss.backward()
    arrays.same(built.frequencies.gate.grad[0].view(1, -1), "grad/graph_model.conv1.gate.weight")
    arrays.same(built.speaker.embedding.weight.grad, "grad/graph_model.speaker_embeddings.weight")
    arrays.same(built.streams.project["text"].weight.grad, "grad/linear_l.weight")


def test_scores_of_the_public_code_without_a_map_of_the_text(reference, put):
    arrays = reference("m3net").under("meld/")
    built, dialogues = ours(put, arrays), dialogues_of(arrays)
    batch, first = batch_of(arrays, dialogues), 0
    _, hyper = as_released(built, arrays, by_place(arrays, batch))
    with torch.no_grad():
        answer = built(batch)
        arrays.same(answer.scores.log_softmax(-1), "out/log_prob")
        arrays.same(legacy_focal(answer.scores, batch.target, arrays.options(**OPTIONS)["focal_gamma"]).mean(), "out/loss_focal_as_written")
        for i in dialogues:
            alone = batch_of(arrays, [i])
            hyper.matrix = by_place(arrays, alone)
            wanted = arrays["out/alone_log_prob"][first : first + alone.utterances]
            assert float((built(alone).scores.log_softmax(-1) - wanted).abs().max()) <= 1e-5
            first += alone.utterances


def by_loops(built: M3NET, batch: Batch, texts: list[str]) -> Tensor:
    """The equations of the page, one dialogue, one node at a time; the GRU alone is PyTorch's."""
    state, streams, answers = built.state_dict(), list(built.streams.names), []
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        x, size = {}, last - first
        for name in streams:
            if name == "text" and len(texts) > 1:
                normed = []
                for t in texts:
                    mean, variance, scale, shift = (
                        state[f"texts.norm.{t}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")
                    )
                    normed.append((batch.features[t][first:last] - mean) / (variance + 1e-5).sqrt() * scale + shift)
                rows = sum(normed) / len(texts)
            else:
                rows = batch.features[texts[0] if name == "text" else name][first:last]
            rows = rows @ state[f"streams.project.{name}.weight"].T + state[f"streams.project.{name}.bias"]
            if name == "text":
                for index in range(2):
                    ahead, back = built.streams.read["text"].nets(index)
                    rows = torch.cat([ahead(rows[None])[0], back(rows.flip(0)[None])[0].flip(1)], -1)[0]
            for i in range(size):
                spoken = (
                    state["speaker.weight.weight"] @ state["speaker.embedding.weight"][batch.speaker[first + i]] if name == "text" else 0
                )
                x[name, i] = state["node.weight"] @ (rows[i] + spoken) + state["node.bias"]
        z = dict(x)
        for bias in state["hypergraph.bias"]:
            modality = {s: sum(z[s, i] for i in range(size)) / size for s in streams}
            turn = {i: sum(z[s, i] for s in streams) / len(streams) for i in range(size)}
            z = {(s, i): F.leaky_relu((modality[s] + turn[i]) / 2 + bias, 0.01) for s, i in z}
        y, degree = dict(x), size - 1 + len(streams) - 1
        for gate, bias in zip(state["frequencies.gate"], state["frequencies.bias"], strict=True):
            y = {
                (s, i): y[s, i]
                + sum(
                    torch.tanh(gate[0] @ y[s, i] + gate[1] @ y[o, j] + bias) * y[o, j] / math.sqrt(degree * degree)
                    for o, j in y
                    if (o == s) != (i == j)
                )
                for s, i in y
            }
        for i in range(size):
            e = torch.cat([part for s in streams for part in (z[s, i], y[s, i])])
            answers.append(state["classify.2.weight"] @ torch.relu(e) + state["classify.2.bias"])
    return torch.stack(answers)


@pytest.mark.parametrize("streams", [("audio", "text", "visual"), ("audio", "text1", "text2", "text3"), ("audio", "visual"), ("text",)])
def test_loops_over_the_equations(streams):
    torch.manual_seed(len(streams))
    sizes, rows = [4, 1, 6], 11
    widths = {name: 5 if name.startswith("text") else 3 + i for i, name in enumerate(streams)}
    task = Task(name="reference", labels=("a", "b", "c"))
    built = M3NET(Schema(widths=widths, task=task), M3NETConfig(width=6, hidden=4, hyper_layers=2, layers=3)).double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
        for norm in built.texts.norm.values():
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    batch = Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=torch.tensor([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0]),  # the last dialogue has one speaker
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features={name: torch.randn(rows, width, dtype=torch.float64) for name, width in widths.items()},
        present={name: torch.ones(rows, dtype=torch.bool) for name in streams},
    )
    texts = [name for name in streams if name.startswith("text")]
    with torch.no_grad():
        assert torch.allclose(built(batch).scores, by_loops(built, batch, texts), atol=1e-10, rtol=0)
