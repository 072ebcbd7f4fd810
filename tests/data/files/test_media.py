"""Which file belongs to which utterance, in folders of one's own and in those of MELD."""

from __future__ import annotations

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from erc_graph.cli.main import main
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.media import find_files, list_media, split_of_name
from erc_graph.data.files.notes import noting
from erc_graph.data.files.sequence_files import read_sequences
from erc_graph.errors import CorpusError

ENDINGS = (".wav", ".flac")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_are_found_by_id_and_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path / "wav", "u1.wav", "u2.FLAC", "notes.txt", ".u3.wav")
    touch(tmp_path, "secret.wav")
    assert find_files(folder, ["u1", "u2", "u3", "../secret"], ENDINGS, "sound files") == {
        "u1": folder / "u1.wav",
        "u2": folder / "u2.FLAC",
    }
    (folder / "u4.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(CorpusError, match="a symbolic link to a file outside the folder of the link"):
        find_files(folder, ["u4"], ENDINGS, "sound files")
    with pytest.raises(CorpusError, match=r"expected sound files .* such as 'v1', found 3 files of other names \(first: u1.wav\)"):
        find_files(folder, ["v1"], ENDINGS, "sound files")
    with pytest.raises(CorpusError, match="no such folder; expected a folder with sound files"):
        find_files(tmp_path / "nowhere", ["u1"], ENDINGS, "sound files")


@pytest.mark.parametrize(
    ("name", "utterance"),
    [
        ("train_splits/dia0_utt1.wav", "train_dia0_utt1"),
        ("dev_splits_complete/dia66_utt9.wav", "dev_dia66_utt9"),
        ("output_repeated_splits_test/dia0_utt0.wav", "test_dia0_utt0"),
        ("output_repeated_splits_test/final_videos_testdia101_utt0.wav", "test_dia101_utt0"),
        ("MELD.Raw/train/train_splits/dia3_utt4.wav", "train_dia3_utt4"),
        ("wav/train_dia0_utt0.wav", "train_dia0_utt0"),
        ("train/d0_1.wav", "d0_1"),  # ids of one's own are kept
        ("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", "Ses01F_impro01_F000"),
        ("dia0_utt1.wav", "dia0_utt1"),
    ],
)
def test_the_utterance_of_a_file(tmp_path: Path, name: str, utterance: str) -> None:
    assert list_media(touch(tmp_path / "clips", name), ENDINGS) == {utterance: tmp_path / "clips" / name}


def test_a_folder_of_one_split(tmp_path: Path) -> None:
    folder = touch(tmp_path / "test_clips", "dia0_utt0.wav")
    assert list(list_media(folder, ENDINGS)) == ["test_dia0_utt0"]


def test_the_best_of_several_files_of_an_utterance(tmp_path: Path) -> None:
    folder = "output_repeated_splits_test"
    touch(tmp_path, f"{folder}/dia1_utt0.flac", f"{folder}/dia1_utt0.wav", f"{folder}/final_videos_testdia1_utt0.wav")
    with noting() as notes:
        assert list_media(tmp_path, ENDINGS)["test_dia1_utt0"].name == "dia1_utt0.wav"
    assert notes == [f"{tmp_path.name}: 1 utterances have several files, such as test_dia1_utt0; only the first file of each is used"]
    touch(tmp_path / "two", "a/x.wav", "b/x.wav")
    assert list_media(tmp_path / "two", ENDINGS) == {"x": tmp_path / "two/a/x.wav"}


def test_an_utterance_of_several_dialogues_has_one_file(tmp_path: Path) -> None:
    found = find_files(touch(tmp_path, "u.wav"), ["u", "u#2", "v#2"], ENDINGS, "sound files")
    assert found == {"u": tmp_path / "u.wav", "u#2": tmp_path / "u.wav"}


def test_folders_of_pictures_are_no_places_to_look_in(tmp_path: Path) -> None:
    touch(tmp_path, "faces/u1/1.png", "faces/u2/1.jpg")
    assert list_media(tmp_path, (".npy", "")) == {"u1": tmp_path / "faces/u1", "u2": tmp_path / "faces/u2"}


@pytest.mark.parametrize(
    ("name", "split"), [("train_splits", "train"), ("dev_splits_complete", "dev"), ("clips", None), ("traindev", None)]
)
def test_split_of_a_folder(name: str, split: str | None) -> None:
    assert split_of_name(Path(name)) == split


# -- MELD's clips from the folder to a result ----------------------------------------------


def meld(folder: Path) -> Path:
    """MELD's layout with four clips, as `MELD.Raw` has it."""
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
    clips = (("train", "train_splits", 2), ("dev", "dev_splits_complete", 1), ("test", "output_repeated_splits_test", 1))
    for split, place, number in clips:
        (folder / place).mkdir(parents=True)
        rows = [f'{i},Hi,Ann,{"joy" if i else "anger"},positive,{i},0,1,1,"0:00:00,0","0:00:01,0"\n' for i in range(number)]
        (folder / f"{split}_sent_emo.csv").write_text(head + "".join(rows))
        for i in range(number):
            with wave.open(str(folder / place / f"dia{i}_utt0.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes((9000 * np.sin(np.arange(4000 + 400 * i) / (9 + i))).astype("<i2").tobytes())
    return folder


def test_clips_become_features_and_an_experiment_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    folder = meld(tmp_path / "MELD.Raw")
    out = str(folder / "audio.safetensors")
    assert main(["features", "--data", str(folder), "--modality", "audio", "--model", "mfcc", "--source", str(folder), "--out", out]) == 0
    assert "(4 utterances)" in capsys.readouterr().out
    csvs = ", ".join(f'"{split}_sent_emo.csv"' for split in ("train", "dev", "test"))
    (folder / "corpus.toml").write_text(f'annotations = [{csvs}]\n[features]\naudio = "audio.safetensors"\n')
    corpus = load_corpus(folder)
    assert (
        corpus.utterance_ids == ("train_dia0_utt0", "train_dia1_utt0", "dev_dia0_utt0", "test_dia0_utt0") and corpus.present["audio"].all()
    )
    run = str(tmp_path / "run")
    assert main(["experiment", "bigru", "--data", str(folder), "--out", run, "--training.epochs", "1"]) == 0
    assert (tmp_path / "run" / "result.json").is_file()


def test_clips_as_sequences_and_the_sound_of_videos(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    folder = meld(tmp_path / "clips")
    ids, waves = read_sequences(folder)
    assert sorted(ids) == ["dev_dia0_utt0", "test_dia0_utt0", "train_dia0_utt0", "train_dia1_utt0"]
    assert sorted(waves.sizes) == [4000, 4000, 4000, 4400]
    pytest.importorskip("av")
    from tests.data.files.test_sound import write_video

    for path in folder.rglob("*.wav"):
        write_video(path.with_suffix(".mp4"))
        path.unlink()
    shutil.copy(folder / "train_splits/dia0_utt0.mp4", folder / "train_splits/._dia0_utt0.mp4")
    (folder / "corpus.toml").write_text(
        'annotations = "train_sent_emo.csv"\n[sequences]\naudio = "train_splits"\nvisual = "train_splits"\n'
    )
    corpus = load_corpus(folder)
    assert corpus.sequences["audio"].item == () and corpus.sequences["visual"].item == (3, 16, 16)
    assert 14000 < corpus.sequences["audio"].sizes[0] < 18000
