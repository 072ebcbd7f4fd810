"""Files that are no transcript are refused by their true name, with the way out."""

from __future__ import annotations

import io
import zipfile

import pytest

from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError


def archive(*names: str, mimetype: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as inner:
        for name in names:
            inner.writestr(name, "x")
        if mimetype:
            inner.writestr("mimetype", mimetype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{\\rtf1\\ansi Ann: Hi\\par Bob: Oh}", r"Rich Text Format \(RTF\); save it as plain text"),
        (b"%PDF-1.7\n", "a PDF: copy its text out"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Word, Excel or Outlook: save it as plain text"),
        (b"SQLite format 3\0", r"a database \(SQLite\).*export the chat"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"RIFF\0\0\0\0WAVE", "an audio or video file; transcribe it first"),
        (b"\0\0\0\x18ftypmp42", "an audio or video file"),
        (b"ID3\x04\0", "an audio or video file"),
        (b"OggS\0", "an audio or video file"),
        (b"\x89PNG\r\n", "a picture"),
        (b"PAR1....", "Parquet: give the file the ending .parquet"),
        (b"\x80\x04\x95", "a Python pickle: give the file the ending .pkl"),
        (b"ooBinaryFile\x08TextGrid", "a binary file of Praat: save it there as text"),
        (archive("word/document.xml"), r"a Word document \(.docx\): save it as plain text"),
        (archive("xl/workbook.bin"), "an Excel file: save it as CSV"),
        (archive("xl/workbook.xml"), "an Excel workbook cannot be read from a pipe; give the file itself, or save it as CSV"),
        (archive("content.xml", mimetype="application/vnd.oasis.opendocument.text"), r"an OpenDocument text \(.odt\)"),
        (archive("_chat.txt", "1.jpg"), r"an archive \(zip\) of 2 files: unpack it, and give '_chat.txt'"),
        (archive("utterance.npy", "features.npy"), r"numpy arrays \(.npz\): features belong to a corpus: name the file under \[features\]"),
        (archive("feats/data.pkl", "feats/version"), "a file of PyTorch: save features as .npz"),
        (b'\x10\0\0\0\0\0\0\0{"a": {}}       \0', "a file of safetensors: features belong to a corpus"),
        (b"\xff\xf3\x88\xc4\0", "an audio or video file"),
        (b"- speaker: Ann\n  text: Hi\n", r"fields on separate lines \(YAML\); write JSON, CSV, or a line `Speaker: text` per utterance"),
        (b"Speaker: Ann\nText: Hi\nMood: fine\n\nSpeaker: Bob\nText: Oh\nMood: bad\n", r"fields on separate lines \(YAML\)"),
        (archive("x.bin"), r"an archive \(zip\) of 1 files: unpack it"),
        (b"PK\x03\x04 broken", r"a damaged archive \(zip\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:x\n", "a pointer of Git LFS.*`git lfs pull`"),
        (b"<!DOCTYPE html><html><body>Ann: Hi", r"this is a web page \(HTML\)"),
        (b"\n <html lang='en'>", "this is a web page"),
        (b"<?xml version='1.0'?><tt xmlns='x'></tt>", "TTML subtitles: save them as VTT or SRT"),
        (b"<?xml version='1.0'?>\n<!-- x -->\n<smses count='1'/>", "an SMS backup: export it as CSV"),
        (b"<?xml version='1.0'?><foo/>", r"an XML file \(<foo>\), of no known kind"),
        (b"[Script Info]\nTitle: x\n", r"SubStation Alpha subtitles \(.ass\)"),
        (b"SPEAKER talk 1 0.000 2.000 <NA> <NA> SPEAKER_00 <NA> <NA>\n", "RTTM has speakers and times, but no text"),
        (b"Ann: a\0b\x01", "binary content"),
    ],
)
def test_strangers(content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        load_transcript(content, name="talk.txt")


def test_what_only_looks_like_one() -> None:
    assert load_transcript(b"<Ann> Hi\n<Bob> Oh\n").speakers == ("Ann", "Bob")
    assert load_transcript(b"ID3: Hi\nBob: Oh\n").utterances == 2
    assert load_transcript(b"SPEAKER: hi\nSPEAKER: we are talking about one thing after the other\n").utterances == 2
    assert load_transcript(b"Participant: 12\nTranscript: 3\nAnn: Hi\nBob: Oh\nAnn: So\n").speakers[-3:] == ("Ann", "Bob", "Ann")
    assert load_transcript(b"{SPEAKER_00}: hi\n").speakers == ("SPEAKER_00",)
