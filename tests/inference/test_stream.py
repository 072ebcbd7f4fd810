"""A stream says what the method says of the whole conversation, at a bounded cost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.tasks import Task
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverTurns, over_turns
from erc_graph.errors import ConfigError, CorpusError, ErcGraphError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.stream import Stream, Turn
from erc_graph.methods.base import Method
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.conversation import ConversationConfig
from erc_graph.methods.hff import HFF, HFFConfig
from erc_graph.methods.inputs import Given, Inputs, InputsConfig
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.parts import Turn as SideBySide
from erc_graph.methods.schema import Schema

WIDTHS = {"text": 5, "audio": 3, "visual": 4, "bert": 6, "speaker": 2}
THREE = Task(name="three", labels=("sad", "angry", "happy"))
SCORE = Task(name="score", kind="score", column="score")


def schema(*names: str, task: Task = THREE) -> Schema:
    return Schema(widths={name: WIDTHS[name] for name in names or ("text", "audio", "visual")}, task=task)


def small(graph: str = "causal_window", **changes: Any) -> PairwiseConfig:
    values = {"pmf": PmfConfig(width=6), "mff": MffConfig(width=4), "mal": MalConfig(width=5, heads=2, hidden=6)}
    return PairwiseConfig(**{**values, "graph": graph, "causal": True, **changes})


SMALL_HFF: dict[str, Any] = {"graph": "none", "width": 8, "layers": 2, "heads": 2, "head_width": 4, "feedforward": 6, "hidden": 6}
CASES: dict[str, Callable[[], Method]] = {
    "window": lambda: Pairwise(schema(), small()),
    "all earlier turns": lambda: Pairwise(schema(), small("causal")),
    "one modality": lambda: Pairwise(schema("audio"), small()),
    "all earlier turns of one modality": lambda: Pairwise(schema("audio"), small("causal")),
    "deep": lambda: Pairwise(schema(), small(depth=3, mff=MffConfig(width=4, heads=2, layers=2))),
    "residual, one layer": lambda: Pairwise(schema("text", "audio"), small(mal=MalConfig(width=5, heads=1, layers=1, residual=True))),
    "without pmf": lambda: Pairwise(schema(), small(pmf=PmfConfig(width=6, enabled=False, project=True))),
    "without mal": lambda: Pairwise(schema(), small(mal=MalConfig(width=5, attention=False, pair_skip=False, context_skip=False))),
    "bert, given speakers": lambda: Pairwise(
        schema("text", "audio", "bert", "speaker"), small(stages="joint"), inputs=InputsConfig(second_text="bert", given_speakers=True)
    ),
    "score": lambda: Pairwise(schema(task=SCORE), small()),
    "hff": lambda: HFF(schema(), HFFConfig(**SMALL_HFF)),
    "hff with a graph": lambda: HFF(
        schema(), HFFConfig(**{**SMALL_HFF, "graph": "causal_window", "causal": True, "conversation": ConversationConfig(width=4)})
    ),
    "bigru": lambda: BiGRU(schema(), BiGRUConfig(width=6, causal=True)),
}


def build(name: str) -> Pipeline:
    """In float64, scaled on data of another mean and deviation, in training mode (a stream must not care)."""
    torch.manual_seed(4)
    method = CASES[name]().double()
    method.fit_inputs(conversation(30, 1, 0.1)[0])
    return Pipeline(method.train())


def conversation(length: int, seed: int, missing: float = 0.3) -> tuple[Batch, list[str]]:
    """A batch of one dialogue and the names of its speakers."""
    random = torch.Generator().manual_seed(seed)
    who = torch.randint(0, 12, (length,), generator=random).tolist()
    seen = list(dict.fromkeys(who))
    batch = Batch(
        ptr=torch.tensor([0, length]),
        speaker=torch.tensor([seen.index(one) for one in who]),
        target=torch.zeros(length, dtype=torch.long),
        judged=torch.ones(length, dtype=torch.bool),
        row=torch.arange(length),
        features={name: 3 + 2 * torch.randn(length, width, generator=random, dtype=torch.float64) for name, width in WIDTHS.items()},
        present={name: torch.rand(length, generator=random) >= missing for name in WIDTHS},
    )
    return batch, [f"speaker {one}" for one in who]


def heard(pipeline: Pipeline, batch: Batch, row: int) -> dict[str, Tensor]:
    return {name: batch.features[name][row] for name in pipeline.schema.widths if batch.present[name][row]}


def offline(pipeline: Pipeline, batch: Batch) -> Tensor:
    pipeline.method.eval()
    with torch.no_grad():
        return pipeline(batch).scores


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=4, deadline=None)
@given(length=st.integers(1, 40), missing=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 99))
def test_a_stream_equals_the_whole_conversation(name: str, length: int, missing: float, seed: int) -> None:
    pipeline = build(name)
    batch, speakers = conversation(length, seed, missing)
    stream = pipeline.stream()
    turns = [stream.push(speaker, heard(pipeline, batch, row)) for row, speaker in enumerate(speakers)]
    assert all(module.training for module in pipeline.method.modules())
    scores = offline(pipeline, batch)
    torch.testing.assert_close(torch.tensor([turn.scores for turn in turns], dtype=torch.float64), scores, rtol=1e-5, atol=1e-6)
    assert [(turn.turn, turn.speaker) for turn in turns] == list(enumerate(speakers))
    if pipeline.task is THREE:
        shares = torch.tensor([list(turn.probabilities.values()) for turn in turns], dtype=torch.float64)
        torch.testing.assert_close(shares, scores.softmax(-1), rtol=1e-5, atol=1e-6)
        assert all(list(turn.probabilities) == list(THREE.labels) for turn in turns)
        assert all(turn.probabilities[turn.emotion or ""] == max(turn.probabilities.values()) for turn in turns)
    else:
        assert all(turn.emotion is None and turn.probabilities == {} and len(turn.scores) == 1 for turn in turns)


@pytest.mark.parametrize("name", ["window", "bigru"])
def test_conversations_at_the_same_time_know_nothing_of_each_other(name: str) -> None:
    pipeline = build(name)
    both = [(*conversation(20, seed), pipeline.stream()) for seed in (1, 2)]
    found: list[list[Turn]] = [[], []]
    for row in range(20):
        for turns, (batch, speakers, stream) in zip(found, both, strict=True):
            turns.append(stream.push(speakers[row], heard(pipeline, batch, row)))
    for turns, (batch, _, _) in zip(found, both, strict=True):
        expected = offline(pipeline, batch)
        torch.testing.assert_close(torch.tensor([turn.scores for turn in turns], dtype=torch.float64), expected, rtol=1e-5, atol=1e-6)


def test_memory_is_bounded_with_a_window_and_grows_without() -> None:
    held = {}
    for name in ("one modality", "all earlier turns of one modality", "bigru"):
        pipeline = build(name)
        stream, (batch, speakers) = pipeline.stream(), conversation(50, 3)
        assert stream.nbytes == 0
        sizes = []
        for turn in range(500):
            stream.push(speakers[turn % 50], heard(pipeline, batch, turn % 50))
            sizes.append(stream.nbytes)
        held[name] = sizes[49], sizes[499]
    for name in ("one modality", "bigru"):
        assert held[name][0] == held[name][1] > 0
    assert held["all earlier turns of one modality"][1] > 5 * held["all earlier turns of one modality"][0]


def test_only_parts_within_reach_are_computed() -> None:
    """At turn 50 as many numbers are computed as at turn 20, over all operations."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Shapes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, ...]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            answer = func(*args, **(kwargs or {}))
            if isinstance(answer, Tensor):
                self.seen.append(tuple(answer.shape))
            return answer

    pipeline = build("one modality")
    stream, (batch, speakers) = pipeline.stream(), conversation(52, 3, missing=0.0)
    numbers = {}
    for turn in range(52):
        with Shapes() if turn in (5, 20, 21, 50, 51) else nullcontext(Shapes()) as shapes:
            stream.push(speakers[turn], heard(pipeline, batch, turn))
        numbers[turn] = sum(int(np.prod(shape)) for shape in shapes.seen)
    # Of two turns in a row at most one moves the windows to the front of their memory.
    assert 0 < numbers[5] < min(numbers[20], numbers[21]) == min(numbers[50], numbers[51])


def test_a_stream_sees_the_methods_weights_and_changes_nothing() -> None:
    pipeline = build("window")
    before = {name: value.clone() for name, value in pipeline.method.state_dict().items()}
    modules = list(pipeline.method.modules())
    batch, speakers = conversation(3, 5)
    first = pipeline.stream().push(speakers[0], heard(pipeline, batch, 0))
    assert list(pipeline.method.modules()) == modules
    assert all(torch.equal(value, before[name]) for name, value in pipeline.method.state_dict().items())
    with torch.no_grad():
        for parameter in pipeline.method.parameters():
            parameter.mul_(0.5)
    assert pipeline.stream().push(speakers[0], heard(pipeline, batch, 0)).scores != first.scores


def test_features_may_be_lists_arrays_tensors_or_nothing() -> None:
    pipeline = build("window")
    pipeline.method.float()
    text = [0.5, 1.0, -1.0, 2.0, 0.0]
    arrays = np.array(text), np.array(text[::-1])[::-1], np.array(text, dtype=np.float32)
    answers = [
        pipeline.stream().push("Ross", {"text": value, **more})
        for value in (text, *arrays, torch.tensor(text, dtype=torch.float64))
        for more in ({}, {"audio": None})
    ]
    assert len({answer.scores for answer in answers}) == 1
    nothing = pipeline.stream().push("Ross", {})
    assert nothing.emotion in THREE.labels


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"txt": [0.0] * 5}, "utterance 1: expected features of text, audio, visual, found 'txt'"),
        ({"text": [0.0] * 4}, r"utterance 1: text: expected 5 numbers, found shape \(4,\)"),
        ({"text": [[0.0] * 5]}, r"utterance 1: text: expected 5 numbers, found shape \(1, 5\)"),
        ({"text": ["a"] * 5}, "utterance 1: text: expected 5 numbers, found other values"),
        ({"text": [10**400] * 5}, "utterance 1: text: expected 5 numbers, found other values"),
        (None, "utterance 1: features: expected a mapping from modality to numbers, found a NoneType"),
        (
            {"audio": [0.0, float("nan"), 0.0]},
            "utterance 1: audio: expected finite numbers, found NaN, inf or numbers beyond 1e15; leave out a missing modality",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_conversation_goes_on(features: dict[str, Any], message: str) -> None:
    pipeline = build("window")
    batch, speakers = conversation(3, 5)
    stream = pipeline.stream()
    stream.push(speakers[0], heard(pipeline, batch, 0))
    with pytest.raises(CorpusError, match=message):
        stream.push("somebody new", features)
    with pytest.raises(CorpusError, match=r"utterance 1: speaker: expected a name as text, found a list"):
        stream.push([1], {})  # type: ignore[arg-type]
    turns = [stream.push(speakers[row], heard(pipeline, batch, row)) for row in (1, 2)]
    assert [turn.turn for turn in turns] == [1, 2]
    torch.testing.assert_close(torch.tensor(turns[-1].scores).double(), offline(pipeline, batch)[2], rtol=1e-5, atol=1e-6)


def overflow(_: object, given: tuple[Batch], out: Given) -> Given:
    return replace(out, values={name: value + 0 * (1e300 * given[0].features[name]).sum() for name, value in out.values.items()})


@pytest.mark.parametrize("name", ["window", "all earlier turns", "deep", "bigru", "score"])
def test_a_turn_whose_scores_are_no_numbers_leaves_no_trace(name: str) -> None:
    pipeline = build(name)
    for module in pipeline.method.modules():
        if isinstance(module, Inputs):  # as where a deviation is small: what is large becomes inf, and inf - inf is NaN
            module.register_forward_hook(overflow)
    batch, speakers = conversation(40, 6)
    stream, turns = pipeline.stream(), []
    for row, speaker in enumerate(speakers):
        if row != 1:  # at the first turn, too, and where the windows move their rows
            with pytest.raises(CorpusError, match=rf"utterance {row}: expected finite scores, .* \(largest feature: 1e\+15\)"):
                stream.push("somebody new", {"text": [1e15, 0, 0, 0, 0]})
        turns.append(stream.push(speaker, heard(pipeline, batch, row)))
    scores = torch.tensor([turn.scores for turn in turns], dtype=torch.float64)
    torch.testing.assert_close(scores, offline(pipeline, batch), rtol=1e-5, atol=1e-6)


def test_an_interrupted_turn_ends_the_stream() -> None:
    pipeline = build("window")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = pipeline.method.mal.classify.layers[1].register_forward_pre_hook(stop)
    stream = pipeline.stream()
    with pytest.raises(KeyboardInterrupt):
        stream.push("Ross", {})
    handle.remove()
    with pytest.raises(ErcGraphError, match=r"was interrupted; start again with pipeline\.stream\(\)"):
        stream.push("Ross", {})
    assert pipeline.stream().push("Ross", {}).turn == 0


def test_a_model_that_reads_later_turns_is_refused_by_the_name_of_its_part() -> None:
    ahead = "found one whose modules .* use them; train a model with pipeline.causal true"
    methods: dict[Method, str] = {
        Pairwise(schema(), small("pairwise", causal=False)): "fusion.audio.text.encode.audio, .*fusion.audio.text.conv, ",
        Pairwise(schema(), small("causal", causal=False)): "fusion.audio.text.encode.audio, ",
        BiGRU(schema()): "read",
        BiGRU(
            schema(), BiGRUConfig(width=6, causal=False), inputs=InputsConfig(speaker_relative=["audio"])
        ): "inputs.speaker_relative, read",
    }
    for method, parts in methods.items():
        with pytest.raises(ConfigError, match="expected a model that uses no later utterances, " + ahead.replace(".*", parts + ".*")):
            Pipeline(method).stream()
        with pytest.raises(ConfigError, match="uses no later utterances"):
            Stream(method)


def test_a_model_of_sequences_is_refused() -> None:
    words = Schema(widths={}, sequences={"text": (4,)}, task=THREE)
    with pytest.raises(ConfigError, match=r"expected a model that uses one vector per utterance, found one that uses sequences \(text\)"):
        Pipeline(BiGRU(words, BiGRUConfig(width=6, causal=True))).stream()


class Recent(OverTurns):
    """Mean of the turns in reach, without a fast form of its own."""

    width = 5

    def __init__(self, reach: int | None) -> None:
        super().__init__()
        self.reach = reach

    @property
    def causal(self) -> bool:
        return True

    @property
    def past(self) -> int | None:
        return self.reach

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        rows: list[Tensor] = []
        for part in nodes.masked().split(batch.sizes):
            rows += [part[0 if self.reach is None else max(0, i - self.reach) : i + 1].mean(0) for i in range(len(part))]
        return nodes.with_states(torch.stack(rows))


@pytest.mark.parametrize("reach", [0, 2, None])
def test_parts_that_the_stream_does_not_know_are_streamed_too(reach: int | None) -> None:
    class Own(Method):
        Config = BiGRUConfig

        def parts(self, config: Any, shapes: Any) -> Any:
            yield SideBySide(shapes.widths)
            yield Recent(reach)

    pipeline = Pipeline(Own(schema("text")).double())
    batch, speakers = conversation(12, 7)
    stream = pipeline.stream()
    turns = [stream.push(speaker, heard(pipeline, batch, row)) for row, speaker in enumerate(speakers)]
    torch.testing.assert_close(torch.tensor([turn.scores for turn in turns]).double(), offline(pipeline, batch), rtol=1e-5, atol=1e-6)


def test_a_part_that_is_asked_twice_of_a_turn_has_two_memories() -> None:
    class Twice(Method):
        Config = BiGRUConfig

        def build(self, config: Any, shapes: Any) -> None:
            self.read = Recurrent("gru", 5, 4, bidirectional=False)
            self.classify = nn.Linear(8, shapes.outputs)

        def encode(self, given: Given) -> Tensor:
            row = given.values["text"]
            return torch.cat([over_turns(self.read, row, given.batch), over_turns(self.read, row.flip(-1), given.batch)], -1)

    pipeline = Pipeline(Twice(schema("text")).double())
    batch, speakers = conversation(9, 8)
    stream = pipeline.stream()
    turns = [stream.push(speaker, heard(pipeline, batch, row)) for row, speaker in enumerate(speakers)]
    torch.testing.assert_close(torch.tensor([turn.scores for turn in turns]).double(), offline(pipeline, batch), rtol=1e-5, atol=1e-6)
