"""Models that were saved in version 1 give the scores that they gave then.

`version_1/` was written by the last commit that saved in version 1: 53 small pipelines with random weights, the conversations that they
were asked about, and their scores.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from erc_graph.data.batch import Batch
from erc_graph.data.files.storage import load_tensors
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CheckpointError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.version_1 import FIXED, moved_options, upgraded

FOLDER = Path(__file__).parent / "version_1"
MODELS = json.loads((FOLDER / "models.json").read_text(encoding="utf-8"))


def test_there_are_models() -> None:
    assert len(MODELS) == 53
    assert {model["config"]["pipeline"] for model in MODELS.values()} == {"BiGRU", "HFF", "MFDR", "Pairwise", "WavFusion"}


@pytest.fixture(scope="module")
def tensors() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return load_tensors(FOLDER / "models.safetensors")[0], load_tensors(FOLDER / "scores.safetensors")[0]


# What cannot be said any more, and the words in which it is refused.
GONE = {
    "hff-nodes": "config.nodes: expected 'fused', found 'modalities', because this option was removed",
    "shared-gru": "config.mff.shared_gru: expected False, found True, because this option was removed",
    "forward-speaker-relative": "pipeline.causal: expected only modules that read no later utterances, found inputs.speaker_relative",
}


@pytest.mark.parametrize("name", GONE)
def test_options_that_are_gone_are_named(name: str, tensors: tuple[dict[str, torch.Tensor], ...], tmp_path: Path) -> None:
    write(name, tensors[0], tmp_path)
    with pytest.raises(CheckpointError, match=re.escape(GONE[name])):
        Pipeline.from_pretrained(tmp_path)


def write(name: str, weights: dict[str, torch.Tensor], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(MODELS[name]["config"]))
    own = {key.removeprefix(f"{name}/"): value for key, value in weights.items() if key.startswith(f"{name}/")}
    save_file(own, folder / "model.safetensors", {"format": "pt", "kind": "erc_graph weights"})


@pytest.mark.parametrize("name", [name for name in MODELS if name not in GONE])
def test_scores_are_those_of_version_1(name: str, tensors: tuple[dict[str, torch.Tensor], ...], tmp_path: Path) -> None:
    weights, recorded = tensors
    write(name, weights, tmp_path)
    pipeline = Pipeline.from_pretrained(tmp_path)
    given = {key.removeprefix("inputs/"): value for key, value in recorded.items() if key.startswith("inputs/")}
    batch = Batch(
        **{key: given[key] for key in ("ptr", "speaker", "target", "judged")},
        row=torch.arange(len(given["speaker"])),
        features={key.removeprefix("features."): value for key, value in given.items() if key.startswith("features.")},
        present={key.removeprefix("present."): value for key, value in given.items() if key.startswith("present.")},
        sequences={to: Ragged(given[f"{kind}.values"], given[f"{kind}.ptr"]) for to, kind in MODELS[name]["sequences"].items()},
    )
    with torch.no_grad():
        scores = pipeline(batch).scores
    torch.testing.assert_close(scores, recorded[f"scores/{name}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, fixed in FIXED.items() for path in fixed])
def test_an_option_that_is_gone_is_taken_with_its_value_of_today_and_with_no_other(kind: str, path: str) -> None:
    def description(value: object) -> dict[str, object]:
        *above, name = path.split(".")
        config: dict[str, object] = {name: value}
        for key in reversed(above):
            config = {key: config}
        return {"version": 1, "pipeline": kind, "config": config}

    found, _ = upgraded(description(FIXED[kind][path]), {}, "model")
    assert found["version"] == 2 and found["method"] == kind and path.split(".")[-1] not in json.dumps(found["config"]).replace("depth", "")
    with pytest.raises(
        CheckpointError, match=rf"model: config\.{re.escape(path)}: expected .*, found 'other', because this option was removed; train"
    ):
        upgraded(description("other"), {}, "model")


LAYERS = {"layers": 1, "heads": 2, "hidden": 3, "rate": 0.1}


@pytest.mark.parametrize(
    ("kind", "old", "own", "inputs", "prior"),
    [
        ("BiGRU", {"width": 8, "bidirectional": False}, {"width": 8, "causal": True}, {}, {}),
        ("BiGRU", {"bidirectional": True}, {"causal": False}, {}, {}),
        (
            "BiGRU",
            {"prior": "a+b", "prior_around": True, "speaker_relative": ["text"], "swap_noise": {"text": 0.1}, "modality_dropout": 0.2},
            {},
            {"speaker_relative": ["text"], "swap_noise": {"text": 0.1}, "modality_dropout": 0.2},
            {"features": ["a", "b"], "around": True, "stream": True},
        ),
        ("BiGRU", {"prior": None, "prior_around": False}, {}, {}, {}),
        (
            "Pairwise",
            {"prior": "a", "prior_stream": True, "prior_around": False, "context_text": "bert", "given_speakers": True},
            {},
            {"second_text": "bert", "given_speakers": True},
            {"features": ["a"], "stream": True, "around": False},
        ),
        ("Pairwise", {"context_text": "text", "prior": None, "prior_stream": False}, {}, {}, {}),
        (
            "Pairwise",
            {"speaker_relative": [], "swap_noise": {}, "text_layers": {**LAYERS, "dropout": 0.1, "tokens": 9}, "conv": {"depth": 3}},
            {"depth": 3},
            {"speaker_relative": [], "swap_noise": {}, "text_layers": LAYERS},
            {},
        ),
        (
            "Pairwise",
            {
                "speakers": 8,
                "pmf": {"width": 6, "learning_rate": 0.1, "weight_decay": 0, "epochs": 3},
                "mff": {"heads": 2, "shared_gru": False},
                "mal": {"layers": 1, "learning_rate": 0.1, "weight_decay": 0, "epochs": 3},
            },
            {"pmf": {"width": 6}, "mff": {"heads": 2}, "mal": {"layers": 1}},
            {},
            {},
        ),
        (
            "HFF",
            {"modality_dropout": 0.1, "nodes": "fused", "tokens": 5, "context": {"width": 6, "recurrent": False, "dropout": 0.1}},
            {"conversation": {"width": 6, "recurrent": False}},
            {"modality_dropout": 0.1},
            {},
        ),
        ("HFF", {"swap_noise": {}, "speaker_relative": ["text"]}, {}, {"swap_noise": {}, "speaker_relative": ["text"]}, {}),
        ("MFDR", {"text": "text", "audio": "audio", "tokens": 5, "words": 7}, {"words": 7}, {}, {}),
        ("MFDR", {"context": {"speakers": 8, "width": 4}}, {"conversation": {"width": 4}}, {}, {}),
        (
            "WavFusion",
            {"cache": True, "seconds": 60.0, "wav2vec": {"width": 8, "channels": 4, "bias": True}, "context": {"width": 6}},
            {"wav2vec": {"width": 8, "extractor": {"channels": 4, "bias": True}}, "conversation": {"width": 6}},
            {},
            {},
        ),
        ("Own", {"width": 3}, {"width": 3}, {}, {}),
    ],
)  # fmt: skip
def test_options_stand_where_they_stand_now(
    kind: str, old: dict[str, object], own: dict[str, object], inputs: dict[str, object], prior: dict[str, object]
) -> None:
    before = json.dumps(old)
    assert moved_options(kind, old) == (own, inputs, prior)
    assert json.dumps(old) == before


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("BiGRU", "inputs.missing.text", "missing.vectors.text"),
        ("BiGRU", "inputs.mean_text", "inputs.mean_text"),
        ("BiGRU", "encode.layers.0.0.weight_ih_l0", "read.layers.0.0.weight_ih_l0"),
        ("BiGRU", "members.2.classify.bias", "members.2.classify.1.bias"),
        ("BiGRU", "prior.around", "prior.around.weight"),
        ("Pairwise", "fusion.audio+text.inputs.mean_text", "inputs.mean_text"),
        ("Pairwise", "fusion.audio+text.inputs.missing.text", "fusion.audio+text.missing.vectors.text"),
        ("Pairwise", "fusion.audio.speaker.inputs.missing.speaker", "fusion.audio.speaker.missing.vectors.speaker"),
        ("Pairwise", "mff.speaker.inputs.deviation_speaker", "inputs.deviation_speaker"),
        ("Pairwise", "members.0.mff.inputs.missing.bert", "members.0.mff.missing.vectors.Bt"),
        ("Pairwise", "text_layers.layers.layers.0.norm1.bias", "inputs.text_layers.layers.layers.0.norm1.bias"),
        ("HFF", "encode.layers.0.0.bias_ih_l0", "read.layers.0.0.bias_ih_l0"),
        ("HFF", "context.conv.first.weight", "conversation.conv.first.weight"),
        ("MFDR", "context.project.fused.0.weight", "conversation.project.fused.0.weight"),
        ("WavFusion", "encode.text.agru.gru.weight_ih_l0", "encoders.text.agru.gru.weight_ih_l0"),
    ],
)
def test_tensors_have_the_names_of_today(kind: str, old: str, new: str) -> None:
    _, tensors = upgraded({"version": 1, "pipeline": kind, "config": {}}, {old: torch.ones(1)}, "model")
    assert list(tensors) == [new]


def test_what_no_version_had_is_refused_where_descriptions_are_checked(
    tensors: tuple[dict[str, torch.Tensor], ...], tmp_path: Path
) -> None:
    write(next(iter(MODELS)), tensors[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"pipeline": "Later"}, "method: expected the class of a method .*, found 'Later'"),
        ({"config": []}, "expected the description of a saved model"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=message):
            Pipeline.from_pretrained(tmp_path)
