from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.export import write_turns
from erc_graph.data.files.feature_files import read_features
from erc_graph.data.files.sequence_files import read_sequences
from erc_graph.data.files.storage import load_tensors
from erc_graph.data.files.toml import read_toml
from erc_graph.data.ragged import Ragged
from erc_graph.features.text import TextEncoder
from erc_graph.features.waves import WaveEncoder
from tests.features.conftest import causal


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
    assert said["extractor"] == "t:output=log-probabilities" and note(features)["extractor"] == "t"  # as seen from the file
    assert said["fitted_to"] == "the labels of the training split of talks (28 utterances)" and said["cross_fit"] == 2
    assert capsys.readouterr().out.count("written:") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "text.npz"], "features.out: expected a file name ending in .safetensors, found 'text.npz'"),
        (["--cross-fit", "3"], "cross_fit: expected --fine-tune as well"),
        (["--fine-tune", "--layer", "1"], "fine_tune: expected no option --pooling or --layer"),
        (["--fine-tune", "--cross-fit", "1"], "features.cross_fit: expected 0, or 2 folds or more, found 1"),
        (["--device", "cuda"], "device: expected a visible CUDA device, found none"),
        (["--model", "./nowhere"], "text encoder './nowhere': no such folder"),
        (["--layer", "7"], "layer: expected -3 to 2"),
        (["--model", "mfcc"], "modality: expected audio, because mfcc computes features of audio, found 'text'"),
        (["--model", "opensmile:IS10"], "modality: expected audio, because opensmile:IS10 computes features of audio"),
        (["--model", "mfcc", "--modality", "audio", "--layer", "3"], "layer: expected none, because mfcc has no layers, found 3"),
        (["--model", "nowhere", "--out", "folder.safetensors"], "folder.safetensors: expected a file to write, found a folder"),
        (["--layer", "x"], "--layer: expected a whole number or one of last4, last4-mean, found 'x'"),
        (["--config", "nope.toml"], "nope.toml: cannot be read (No such file or directory)"),
        (["--lora", "4"], "lora: expected --fine-tune as well"),
        (["--fine-tune", "--lora", "-1"], "features.lora: expected a rank of 1 or more, or 0, found -1"),
        (["--pca", "-1"], "features.pca: expected 1 or more, or 0, found -1"),
        (["--pca", "4", "--fine-tune"], "pca: expected one vector per utterance of a text encoder that is not fine-tuned"),
        (["--pca", "4", "--pooling", "words"], "pca: expected one vector per utterance of a text encoder that is not fine-tuned"),
        (
            ["--pca", "25"],
            "pca: expected up to 24 components, because vectors have 24 numbers and 42 training utterances have words, found 25",
        ),
        (["--quantize", "4bit"], "quantize: expected a CUDA GPU and the package bitsandbytes for 4bit, found no GPU"),
        (["--quantize", "4bit", "--fine-tune"], "tuning.quantize: expected --lora as well, because quantized matrices are not trained"),
        (
            ["--quantize", "4bit", "--model", "mfcc", "--modality", "audio"],
            "features.quantize: expected no, because only text encoders can be quantized",
        ),
        (["--half", "--pooling", "tokens"], "features.half: expected false for token ids, which do not fit into 16 bits"),
        (["--strict", "--data", "long"], "1 texts are longer than 32 tokens, the limit of"),
    ],
)
def test_refusals_are_one_line(
    options: list[str], message: str, data: Path, talks: Corpus, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    replace(talks, texts=("hello " * 50, *talks.texts[1:])).save("long")
    Path("folder.safetensors").mkdir()
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
    assert "expected texts, found only empty texts" in capsys.readouterr().err
    replace(talks, texts=("hello " * 50, *talks.texts[1:])).save(tmp_path / "long")
    assert main([*command, str(tmp_path / "long")]) == 0
    assert "1 of 72 texts are longer than the 32 tokens that the model reads, and were cut" in capsys.readouterr().err
    assert note(tmp_path / "o.safetensors")["cut_to_length"] == 1


# -- sound and pictures --------------------------------------------------------------------


@pytest.fixture
def sounds(talks: Corpus, tmp_path: Path) -> Path:
    """Recordings of the first utterances: three good ones, and every kind of bad one."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "wav"
    folder.mkdir()
    time = np.arange(16000) / 16000
    for i, name in enumerate(talks.utterance_ids[:3]):
        soundfile.write(folder / f"{name}.wav", np.sin(2 * np.pi * (300 + 100 * i) * time), 16000)
    soundfile.write(folder / f"{talks.utterance_ids[3]}.flac", np.sin(time), 8000)  # another rate, two seconds
    (folder / f"{talks.utterance_ids[4]}.wav").write_bytes(b"no sound")
    soundfile.write(folder / f"{talks.utterance_ids[5]}.wav", np.zeros(0), 16000)
    soundfile.write(folder / f"{talks.utterance_ids[6]}.wav", np.zeros(16000), 16000)
    return folder


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.WavLMConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8), conv_kernel=(10, 3),
        conv_stride=(5, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.WavLMModel(config).save_pretrained(tmp_path / "wavlm")
    return tmp_path / "wavlm"


@pytest.mark.parametrize("model", ["mfcc", "opensmile:eGeMAPSv02", "wavlm"])
def test_sound(
    model: str, data: Path, talks: Corpus, sounds: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model.startswith("opensmile"):
        pytest.importorskip("opensmile")
    name = str(speech) if model == "wavlm" else model
    out = tmp_path / "audio.safetensors"
    command = ["features", "--data", str(data), "--modality", "audio", "--source", str(sounds), "--model", name, "--out", str(out)]
    assert main([*command, "--seconds", "1.5"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"written: {out} (4 utterances)\n"
    for remark in (
        "1 of 7 recordings are longer than the 1.5 seconds, and were cut",
        "1 of 7 recordings have a sampling rate of 8000 Hz and were resampled to 16000 Hz",
        "89 utterances have no file; they count as missing",
        "not a readable audio file",
        "empty; it contains no samples",
        "silent; all samples are equal",
    ):
        assert shown.err.count(remark) == 1
    ids, array = read_features(out)
    assert ids == list(talks.utterance_ids[:4]) and np.isfinite(array).all() and len(np.unique(array, axis=0)) == 4
    assert array.shape[1] == {"mfcc": 40, "opensmile:eGeMAPSv02": 88, "wavlm": 12}[model]
    assert note(out)["left_out"] == 3 and note(out)["extractor"] == name
    assert main([*command, "--strict", "--seconds", "1.5"]) == 2
    assert "1 recordings are longer than 1.5 seconds" in capsys.readouterr().err
    assert main([*command, "--strict"]) == 2
    assert "which --strict does not allow; without --strict, this utterance is left out" in capsys.readouterr().err


def test_frames_of_the_corpus_s_own_waveforms(talks: Corpus, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waves = [torch.randn(400 + 100 * i) for i in range(3)] + [torch.randn(10)] + [torch.zeros(0)] * 92
    replace(talks, sequences={"audio": Ragged.of(waves)}).save(tmp_path / "raw")
    out = tmp_path / "frames.safetensors"
    command = ["features", "--data", str(tmp_path / "raw"), "--modality", "audio", "--model", str(speech), "--out", str(out)]
    assert main([*command, "--pooling", "frames"]) == 0
    assert "shorter than the 20 samples that this model needs for a frame" in capsys.readouterr().err
    ids, frames = read_sequences(out)
    encoder = WaveEncoder(str(speech))
    assert ids == list(talks.utterance_ids[:3])
    for i in range(3):
        torch.testing.assert_close(frames[i], encoder([waves[i]])[0], atol=1e-5, rtol=0)


def test_pictures(data: Path, talks: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_text('{"size": 32}')
    (tmp_path / "faces").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (9, 3, 40, 40), dtype=np.uint8)
    np.save(tmp_path / "faces" / f"{talks.utterance_ids[0]}.npy", frames)
    (tmp_path / "faces" / talks.utterance_ids[1]).mkdir()
    out = tmp_path / "visual.safetensors"
    command = ["features", "--data", str(data), "--modality", "visual", "--model", str(tmp_path / "resnet"), "--out", str(out)]
    assert main([*command, "--source", str(tmp_path / "faces"), "--frames", "4", "--pooling", "frames"]) == 0
    assert f"{talks.utterance_ids[1]}: contains no face frames" in capsys.readouterr().err.replace(f": {talks.utterance_ids[1]}:", ":", 1)
    ids, seen = read_sequences(out)
    assert ids == [talks.utterance_ids[0]] and seen.values.shape == (4, 16)
    assert main([*command, "--source", str(tmp_path / "faces"), "--strict"]) == 2
    assert "contains no face frames, which --strict does not allow" in capsys.readouterr().err
    assert main(command) == 2
    assert "talks: this corpus contains no face frames; give with --source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--modality", "audio", "--model", "mfcc"], "talks: this corpus contains no waveforms; give with --source"),
        (["--modality", "audio", "--model", "mfcc", "--source", "nowhere"], "nowhere: no such folder; expected a folder with audio files"),
        (
            ["--modality", "audio", "--model", "mfcc", "--pooling", "cls"],
            "features.pooling: expected one of own, frames for audio, found 'cls'",
        ),
        (["--modality", "audio", "--model", "mfcc", "--fine-tune"], "features.fine_tune: expected false for other modalities than text"),
        (["--modality", "text", "--model", "m", "--source", "wav"], "features.source: expected no folder for text"),
        (["--modality", "visual", "--model", "m", "--layer", "2"], "layer: expected -1 for an image model"),
        (
            ["--modality", "audio", "--model", "opensmile:IS10", "--source", "wav", "--pooling", "frames"],
            "functionals, which have no frames",
        ),
    ],
)
def test_what_fits_no_modality(
    options: list[str], message: str, data: Path, talks: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("soundfile").write(tmp_path / "a.wav", np.ones(9), 16000)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wav").mkdir()
    (tmp_path / "a.wav").rename(tmp_path / "wav" / f"{talks.utterance_ids[0]}.wav")
    assert main(["features", "--data", str(data), "--out", "o.safetensors", *options]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1


def test_a_model_with_a_prior_labels_raw_text(
    talks: Corpus, data: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of features name their encoders, so does the model that is trained on them, and `predict` finds them."""
    write_turns(talks, tmp_path / "table.csv")
    monkeypatch.chdir(tmp_path)
    common = ["features", "--data", str(data), "--model", str(tiny_encoder), "--out"]
    tuned = [
        "--fine-tune",
        "--output",
        "log-probabilities",
        "--tuning.epochs",
        "6",
        "--tuning.batch_size",
        "8",
        "--tuning.learning_rate",
        "3e-3",
    ]
    assert main([*common, "text.safetensors"]) == main([*common, "logp.safetensors", *tuned]) == 0
    (tmp_path / "corpus.toml").write_text(
        'annotations = "table.csv"\nlabels = ["joy", "surprise"]\n[features]\ntext = "text.safetensors"\ntext_logp = "logp.safetensors"\n'
    )
    run = [
        "experiment",
        "bigru",
        "--data",
        ".",
        "--out",
        "run",
        "--prior.features",
        "text_logp",
    ]
    assert main(run) == 0
    (tmp_path / "talk.txt").write_text("Ann: we won !\nBob: really ?\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the encoders are found from any folder
    capsys.readouterr()
    assert main(["predict", "--model", str(tmp_path / "run"), "--json", str(tmp_path / "talk.txt")]) == 0
    shown = capsys.readouterr()
    assert [turn["emotion"] for turn in json.loads(shown.out)["turns"]] == ["joy", "surprise"] and "missing" not in shown.err


def test_principal_components_and_low_rank_encoders_label_raw_text(
    talks: Corpus, data: Path, tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fitted is fitted to training dialogues; the files name it, and `predict` finds it from any folder."""
    pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    write_turns(talks, tmp_path / "table.csv")
    causal("gpt2", tmp_path / "lm", tiny_encoder)
    common = ["features", "--data", str(data), "--out"]
    tuned = ["--model", str(tiny_encoder), "--fine-tune", "--lora", "4", "--cross-fit", "2", "--output", "log-probabilities"]
    tuned += ["--tuning.epochs", "6", "--tuning.batch_size", "8", "--tuning.learning_rate", "1e-2"]
    states = ["--model", "lm", "--pooling", "last", "--layer", "-2", "--pca", "5", "--half"]
    assert main([*common, "logp.safetensors", *tuned]) == main([*common, "text.safetensors", *states]) == 0

    ids, array = read_features(tmp_path / "text.safetensors")
    rows = [talks.utterance_ids.index(name) for name in ids]
    plain = TextEncoder("lm", pooling="last", layer=-2)([talks.texts[row] for row in rows])
    learnt = set(talks.splits["train"])
    inside = torch.tensor([talks.dialogue_ids[int(talks.dialogue_of[row])] in learnt for row in rows])
    axes = load_tensors(tmp_path / "text.pca" / "principal.safetensors")[0]
    torch.testing.assert_close(axes["mean"], plain[inside].mean(0))
    torch.testing.assert_close(torch.from_numpy(array), (plain - axes["mean"]) @ axes["axes"].T, atol=2e-3, rtol=2e-3)
    assert load_tensors(tmp_path / "text.safetensors")[0]["features"].dtype == torch.float16
    said = note(tmp_path / "text.safetensors")
    assert said["extractor"] == "text.pca" and said["pca"]["components"] == 5  # type: ignore[index]
    assert said["pca"]["fitted_to"] == "42 utterances of the training split of talks"  # type: ignore[index]
    assert "peft" in note(tmp_path / "logp.safetensors")["versions"]  # type: ignore[operator]

    (tmp_path / "corpus.toml").write_text(
        'annotations = "table.csv"\nlabels = ["joy", "surprise"]\n[features]\ntext = "text.safetensors"\ntext_logp = "logp.safetensors"\n'
    )
    assert main(["experiment", "bigru", "--data", ".", "--out", "run", "--prior.features", "text_logp"]) == 0
    (tmp_path / "talk.txt").write_text("Ann: we won !\nBob: really ?\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["predict", "--model", str(tmp_path / "run"), "--json", str(tmp_path / "talk.txt")]) == 0
    shown = capsys.readouterr()
    assert [turn["emotion"] for turn in json.loads(shown.out)["turns"]] == ["joy", "surprise"] and "missing" not in shown.err


@pytest.mark.parametrize("option", ["--print_config", "--print-config"])
def test_the_configuration_is_printed_as_toml(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--data", "x", "--model", "y", "--out", "z.safetensors", "--cross-fit", "3", option]) == 0
    (tmp_path / "printed.toml").write_text(capsys.readouterr().out)
    printed = read_toml(tmp_path / "printed.toml")
    assert printed["cross_fit"] == 3 and printed["tuning"]["epochs"] == 3 and "task" not in printed and "config" not in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tuning.context", "3"], "tuning: expected --fine-tune as well"),
        (["--frames", "8"], "features.frames: expected --modality visual, to which this option belongs, found --modality text"),
        (["--seconds", "8"], "features.seconds: expected --modality audio, to which this option belongs, found --modality text"),
        (["--encoders", "e"], "encoders: expected --fine-tune as well"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "--data", "x", "--model", "y", "--out", "z.safetensors", *options]) == 2
    assert message in capsys.readouterr().err
