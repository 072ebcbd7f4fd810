from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.feature_files import read_features
from erc_graph.data.sequence_files import read_sequences
from erc_graph.data.storage import load_tensors
from erc_graph.features.text import TextEncoder


@pytest.fixture
def data(talks: Corpus, tmp_path: Path) -> Path:
    talks.save(tmp_path / "talks")
    return tmp_path / "talks"


def note(path: Path) -> dict[str, object]:
    return json.loads(load_tensors(path)[1]["note"])


def test_vectors_of_a_corpus(data: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "text.safetensors"
    command = ["features", "--data", str(data), "--model", str(tiny_encoder), "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"written: {out} (72 utterances)\n"  # the others have no words
    ids, array = read_features(out)
    rows = [row for row, text in enumerate(talks.texts) if text.strip()]
    assert ids == [talks.utterance_ids[row] for row in rows]
    expected = TextEncoder(str(tiny_encoder))([talks.texts[row] for row in rows])
    torch.testing.assert_close(torch.from_numpy(array), expected)
    said = note(out)
    assert (said["modality"], said["model"], said["pooling"], said["layer"], said["longest"]) == ("text", str(tiny_encoder), "mean", -1, 32)
    assert set(said["versions"]) == {"erc_graph", "torch", "tokenizers"}  # type: ignore[call-overload]
    assert main([*command[:-1], str(tmp_path / "words.safetensors"), "--pooling", "words", "--layer", "1"]) == 0
    assert read_sequences(tmp_path / "words.safetensors")[1].item == (24,)


def test_tuned_in_folds_and_both_outputs_of_the_same_encoders(
    data: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        "features",
        "--data",
        str(data),
        "--model",
        str(tiny_encoder),
        "--fine-tune",
        "--cross-fit",
        "2",
        "--encoders",
        str(tmp_path / "t"),
    ]
    common += ["--tuning.epochs", "6", "--tuning.batch_size", "8", "--tuning.learning_rate", "3e-3"]
    logp, features = tmp_path / "logp.safetensors", tmp_path / "features.safetensors"
    assert main([*common, "--output", "log-probabilities", "--out", str(logp)]) == 0
    state = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*")}
    assert main([*common, "--out", str(features)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "t").rglob("*")} == state  # nothing was tuned again
    ids, array = read_features(logp)
    target = talks.target[[talks.utterance_ids.index(name) for name in ids]].numpy()
    assert (array.argmax(1) == target)[target >= 0].mean() > 0.9 and np.allclose(np.exp(array).sum(1), 1, atol=1e-5)
    assert read_features(features)[1].shape == (72, 24)
    said = note(logp)
    assert said["fitted_to"] == "the labels of the training split of talks (28 single utterances)" and said["cross_fit"] == 2
    assert capsys.readouterr().out.count("written:") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "text.npz"], "features.out: expected a file name ending in .safetensors, found 'text.npz'"),
        (["--cross-fit", "3"], "cross_fit: expected --fine_tune beside it"),
        (["--fine-tune", "--layer", "1"], "fine_tune: expected pooling and layer left out"),
        (["--fine-tune", "--cross-fit", "1"], "features.cross_fit: expected 0, or 2 folds or more, found 1"),
        (["--device", "cuda"], "device: expected a visible CUDA device, found none"),
        (["--model", "./nowhere"], "text encoder './nowhere': no such folder"),
        (["--layer", "7"], "layer: expected -3 to 2"),
        (["--strict", "--data", "long"], "1 texts are longer than the 32 tokens that"),
    ],
)
def test_refusals_are_one_line(
    options: list[str], message: str, data: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    replace(talks, texts=("hello " * 50, *talks.texts[1:])).save("long")
    given = {"--data": str(data), "--model": str(tiny_encoder), "--out": "text.safetensors"}
    command = ["features"]
    for name, value in given.items():
        command += [] if name in options else [name, value]
    assert main([*command, *options]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.startswith("error: ") and shown.err.count("\n") == 1 and not shown.out


def test_no_words_and_cut_ones(talks: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(talks, texts=("",) * talks.utterances).save(tmp_path / "silent")
    command = ["features", "--model", str(tiny_encoder), "--out", str(tmp_path / "o.safetensors"), "--data"]
    assert main([*command, str(tmp_path / "silent")]) == 2
    assert "expected texts, found nothing but empty ones" in capsys.readouterr().err
    replace(talks, texts=("hello " * 50, *talks.texts[1:])).save(tmp_path / "long")
    assert main([*command, str(tmp_path / "long")]) == 0
    assert "1 of 72 texts are longer than the 32 tokens that the model takes, and were cut" in capsys.readouterr().err
    assert note(tmp_path / "o.safetensors")["cut_to_length"] == 1
