from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import ConfigError
from erc_graph.features.context import readings
from erc_graph.features.features_config import FeaturesConfig
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.of_text import text_extraction
from erc_graph.features.processes import Share
from erc_graph.features.tokens import Tokens, read_json
from erc_graph.features.tuned import TunedEncoder
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema
from tests.features.conftest import QUICK, causal

TALK = load_transcript(b"Ann: We won!\nBob: really?\nAnn:\nBob: you are joking\nAnn: hello")


def test_what_was_said_before_stands_behind_the_utterance_the_latest_first() -> None:
    assert readings(TALK, 0) == list(TALK.texts)
    assert readings(TALK, 2) == [
        "We won!",
        ("really?", "you: We won!"),
        ("", "you: really? I: We won!"),
        ("you are joking", "I: really? you: We won!"),  # the turn without words does not count
        ("hello", "you: you are joking you: really?"),
    ]


@given(turns=st.lists(st.integers(1, 5), min_size=1, max_size=4), context=st.integers(0, 7))
def test_nothing_of_another_dialogue_and_nothing_later_is_read(turns: list[int], context: int) -> None:
    ends = torch.tensor([0, *turns]).cumsum(0)
    names = tuple(f"d{i}" for i in range(len(turns)))
    count = int(ends[-1])
    corpus = replace(
        TALK, dialogue_ids=names, ptr=ends, utterance_ids=tuple(map(str, range(count))), speakers=("a",) * count,
        texts=tuple(f"t{row}." for row in range(count)), target=torch.full((count,), -1), annotations={}, splits={},
    )  # fmt: skip
    for row, (one, dialogue) in enumerate(zip(readings(corpus, context), corpus.dialogue_of.tolist(), strict=True)):
        first = int(ends[dialogue])
        expected = [f"I: t{other}." for other in range(row - 1, max(first, row - context) - 1, -1)]
        assert one == ((f"t{row}.", " ".join(expected)) if expected else f"t{row}.")


def test_the_utterances_own_tokens_are_told_from_those_of_its_context(tiny_encoder: Path) -> None:
    tokens = Tokens(tiny_encoder, read_json(tiny_encoder / "config.json"))
    (alone, both), _ = tokens(["we won !", ("we won !", "you: hello")])
    assert both[: len(alone)] == alone and len(both) > len(alone)
    ids, mask = tokens.pad([alone, both])
    assert tokens.own(ids, mask).sum(1).tolist() == [len(alone)] * 2
    tokens.closing = None  # a tokenizer that closes nothing
    torch.testing.assert_close(tokens.own(ids, mask), mask)


SETTINGS = TuningConfig(epochs=6, batch_size=8, learning_rate=3e-3, context=1)


@pytest.fixture(scope="module")
def echoes(talks: Corpus) -> Corpus:
    """Dialogues of two turns: the emotion of the second one stands in the words of the first alone; only the second is judged."""
    label = torch.arange(120) % 2
    texts = [text for i in label.tolist() for text in (("hello", "we won !")[i], "really ?")]
    names = tuple(f"d{i}" for i in range(120))
    return replace(
        talks, dialogue_ids=names, ptr=torch.arange(121) * 2, utterance_ids=tuple(f"{name}_{turn}" for name in names for turn in range(2)),
        speakers=("a", "b") * 120, texts=tuple(texts), target=torch.stack([torch.full_like(label, -1), label], 1).flatten(), annotations={},
        splits={"train": names[:80], "dev": names[80:100], "test": names[100:]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(echoes: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context") / "tuned"
    tune(echoes, str(tiny_encoder), folder, SETTINGS, quiet=True)
    return folder


def test_an_encoder_with_context_learns_what_the_turn_before_says(echoes: Corpus, tuned: Path) -> None:
    test = echoes.split("test")
    rows = test.labelled.nonzero()[:, 0].tolist()
    encoder = TunedEncoder(tuned, output="log-probabilities")
    read, right = readings(test, encoder.context), test.target[rows]
    assert (encoder([read[row] for row in rows]).argmax(-1) == right).all()
    assert (encoder([test.texts[row] for row in rows]).argmax(-1) == right).float().mean() == 0.5  # the same words everywhere


def test_features_and_prediction_read_the_same(echoes: Corpus, tuned: Path, tmp_path: Path) -> None:
    config = FeaturesConfig(
        data="unused", model=read_json(tuned / "tuned.json")["model"], out=str(tmp_path / "x.safetensors"), fine_tune=True,
        encoders=str(tuned), output="log-probabilities",
    )  # fmt: skip
    task = text_extraction(echoes, config, SETTINGS, Share(), quiet=True)
    extracted = torch.stack([value for value in task.compute(list(range(len(task.ids)))) if not isinstance(value, str)])
    extractors = {"text_logp": f"{tuned}:output=log-probabilities"}
    schema = Schema(widths={"text_logp": 2}, task=echoes.task, provenance={"extractors": extractors})
    ready = prepare(echoes, Pipeline(BiGRU(schema, BiGRUConfig(width=8)).eval()))
    torch.testing.assert_close(ready.features["text_logp"], extracted)


def test_a_negative_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="context: expected 0 or more, found -1"):
        TuningConfig(context=-1)


def test_a_tokenizer_that_does_not_say_where_the_utterance_ends(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    folder = causal("gpt2", tmp_path / "lm", tiny_encoder)
    with pytest.raises(ConfigError, match=r"tuning.context: expected 0 for .*lm, because its tokenizer adds no token after an utterance"):
        tune(talks, str(folder), tmp_path / "t", replace(QUICK, context=2), quiet=True)
