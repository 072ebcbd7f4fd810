"""Errors for files that are not transcripts. An error names the kind of file and says what to do."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from pathlib import Path

from erc_graph.data.files.vocabulary import SPELLINGS, plain
from erc_graph.data.files.workbooks import is_workbook
from erc_graph.errors import CorpusError

_TEXT = "save it as plain text (.txt) with `Speaker: text` lines, or as CSV"
_SOUND = "an audio or video file; transcribe it first and give the transcript; recordings of utterances can be added (talk_0.wav, …)"
_PICTURE = "a picture; give its text"
_FEATURES = "features belong to a corpus: name the file under [features] of corpus.toml"
_BINARY = (
    (b"%PDF", f"a PDF: copy its text out, or {_TEXT}"),
    (b"\xd0\xcf\x11\xe0", f"a file of old Word, Excel or Outlook: {_TEXT}"),
    (b"SQLite format 3\0", "a database (SQLite), as Signal, WhatsApp and iMessage keep their chats: export the chat as text, JSON or CSV"),
    (b"\x1f\x8b", "compressed (gzip): unpack it"), (b"BZh", "compressed (bzip2): unpack it"), (b"\xfd7zXZ", "compressed (xz): unpack it"),
    (b"7z\xbc\xaf", "an archive (7z): unpack it"), (b"Rar!", "an archive (RAR): unpack it"),
    (b"ID3\x02", _SOUND), (b"ID3\x03", _SOUND), (b"ID3\x04", _SOUND), (b"\xff\xfb", _SOUND),
    (b"\xff\xf3", _SOUND), (b"\xff\xf2", _SOUND), (b"fLaC", _SOUND), (b"OggS", _SOUND), (b"\x1aE\xdf\xa3", _SOUND),
    (b"\x89PNG", _PICTURE), (b"\xff\xd8\xff", _PICTURE), (b"GIF8", _PICTURE),
    (b"\x93NUMPY", f"a numpy array: {_FEATURES}"),
    (b"\x89HDF", f"HDF5: {_FEATURES}"),
    (b"ARROW1", "Arrow/Feather: save the table as CSV or Parquet"), (b"FEA1", "Feather: save the table as CSV or Parquet"),
    (b"PAR1", "Parquet: give the file the ending .parquet"), (b"\x80", "a Python pickle: give the file the ending .pkl"),
    (b"ooBinaryFile", "a binary file of Praat: save it there as text (Save as text file…)"),
)  # fmt: skip
_ARCHIVES = (
    ("word/", "a Word document (.docx)"), ("xl/", "an Excel file"), ("ppt/", "a PowerPoint file (.pptx)"),
)  # fmt: skip
_OPEN = {"text": "an OpenDocument text (.odt)", "spreadsheet": "an OpenDocument table (.ods)"}
_PAGE = re.compile(
    r"\s{0,99}(?:<!--[^>]{0,400}-->\s{0,99})?<(?:!doctype\s{1,9}html|html|head|body|meta|script|div|table|p|span|article)\b", re.IGNORECASE
)
_FIELD = re.compile(r"[- ]{0,8}[\"']?([A-Za-z_]{2,20})[\"']?:(?:\s|$)")
_SPELT = {plain(name) for names in SPELLINGS.values() for name in names}
_ROOT = re.compile(r"<(?![?!])(?:[\w.-]{1,40}:)?([A-Za-z_][\w.-]{0,60})")
_ROOTS = {
    "tt": "TTML subtitles: save them as VTT or SRT", "TextEdit": f"a document: {_TEXT}", "smses": "an SMS backup: export it as CSV",
    "Trans": "a transcription of Transcriber (.trs): export it as text, SRT or ELAN",
    "basic-transcription": "a transcription of EXMARaLDA (.exb): export it as ELAN or Praat TextGrid",
    "svg": "a picture (SVG): its text is needed",
}  # fmt: skip


def refuse_binary(content: bytes, path: Path) -> None:
    """Raise an error if the content is not text.

    Raises:
        CorpusError: the file is a document, an archive, a database, audio or an image.
    """
    for mark, what in _BINARY:
        if content.startswith(mark):
            raise CorpusError(f"{path}: {what}")
    if content[4:8] == b"ftyp" or (content.startswith(b"RIFF") and content[8:12] in (b"WAVE", b"AVI ")):
        raise CorpusError(f"{path}: {_SOUND}")
    if content[8:10] == b'{"' and 0 < int.from_bytes(content[:8], "little") <= len(content):
        raise CorpusError(f"{path}: a file of safetensors: {_FEATURES}")
    if content.startswith(b"PK\x03\x04"):
        raise CorpusError(f"{path}: {_archive(content)}")


def is_book(content: bytes) -> bool:
    """Return whether the content is an Excel workbook; workbooks can be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return content.startswith(b"PK\x03\x04") and is_workbook(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _archive(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            kind = archive.read("mimetype")[:80].decode("ascii", "replace") if "mimetype" in names and len(names) < 10_000 else ""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, KeyError):
        return "a damaged archive (zip)"
    if names and all(name.endswith(".npy") for name in names):
        return f"numpy arrays (.npz): {_FEATURES}"
    if any(name.endswith("/data.pkl") for name in names):
        return "a file of PyTorch: save features as .npz or .safetensors, and name the file under [features] of corpus.toml"
    for folder, what in _ARCHIVES:
        if any(name.startswith(folder) for name in names):
            return f"{what}: {'save it as CSV' if folder == 'xl/' else _TEXT}"
    if "opendocument" in kind:
        return f"{next((what for word, what in _OPEN.items() if word in kind), 'an OpenDocument file')}: {_TEXT}"
    inside = next((name for name in names if name.lower().endswith((".txt", ".json", ".csv", ".vtt", ".srt"))), "")
    return f"an archive (zip) of {len(names)} files: unpack it" + (f", and give {inside[:60]!r} or the like" if inside else "")


def refuse_text(text: str, path: Path) -> None:
    """Raise an error if the content is text, but not a transcript.

    Raises:
        CorpusError: the file is RTF, a web page, other XML, YAML, a pointer of Git LFS, or a list of speaking times without texts (RTTM).
    """
    start = text[:2000].lstrip()
    if start.startswith("{\\rtf"):
        raise CorpusError(f"{path}: a document in Rich Text Format (RTF); {_TEXT}")
    if start.startswith("version https://git-lfs"):
        raise CorpusError(f"{path}: a pointer of Git LFS, not the file itself; download the file with `git lfs pull`")
    if _PAGE.match(start):
        raise CorpusError(f"{path}: this is a web page (HTML): copy its text out, or export the chat as text or JSON instead")
    if start.startswith("<?xml") or start[:4] in ("<tt ", "<tt>"):
        root = _ROOT.search(start)
        name = root[1] if root else "?"
        if name != "ANNOTATION_DOCUMENT":
            raise CorpusError(f"{path}: {_ROOTS.get(name, f'an XML file (<{name}>), of no known kind: {_TEXT}')}")
    if start.startswith("[Script Info]"):
        raise CorpusError(f"{path}: SubStation Alpha subtitles (.ass): save them as SRT or VTT")
    fields = Counter(plain(found[1]) for line in text[:2000].splitlines()[:40] if (found := _FIELD.match(line)))
    speakers, texts = (sum(fields[plain(name)] for name in SPELLINGS[what]) for what in ("speaker", "text"))
    if min(speakers, texts) > 1 or (min(speakers, texts) == 1 and fields.keys() <= _SPELT):
        raise CorpusError(f"{path}: fields on separate lines (YAML); write JSON, CSV, or a line `Speaker: text` per utterance")
    words = [line.split() for line in text[:20_000].splitlines() if line.strip() and not line.startswith(";")]
    if words and all(len(line) >= 8 and line[0] in ("SPEAKER", "SPKR-INFO") for line in words[:-1] or words):
        raise CorpusError(f"{path}: RTTM has speakers and times, but no text; give a transcript with the text, such as VTT, SRT or JSON")
