"""Decoding of text. UTF-8, UTF-16 and UTF-32 are recognised with certainty; any other encoding is detected from the words of the text.

The user gets a note with the detected encoding. If the encoding stays unclear, an error is raised.

Windows-1252 is not a safe default, because almost any bytes are valid Windows-1252. Chinese, Japanese and Cyrillic texts would
silently become Latin letters.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from erc_graph.data.files.alphabets import spellings
from erc_graph.data.files.notes import note
from erc_graph.errors import CorpusError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# What no text of one byte per character holds: tabs, ends of lines and of pages, and DOS's end of file are left.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_SAMPLE = 1 << 16  # bytes of lines with other characters than ASCII: enough to tell, and quick
_NEAR = 0.04  # two encodings this close in the share of odd characters cannot be told apart
_PAIR = re.compile(rb"[\x80-\xff]{2}")  # accented letters of Western languages hardly ever stand side by side
_NAMES = {"cp1252": "Windows-1252", "cp1250": "Windows-1250", "iso8859_2": "ISO 8859-2", "cp1254": "Windows-1254"}


def decode(content: bytes, path: str | Path) -> str:
    """Decode the text of a file, without a byte order mark and without NUL bytes at its end.

    Args:
        content: Content of the file.
        path: Path of the file, used in messages.

    Raises:
        CorpusError: the content is not text, or its encoding cannot be determined.
    """
    mark = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _unmarked_utf16(content) or "utf-8"
    kept = content.rstrip(b"\0\r\n")
    if mark.startswith("utf-8") and b"\0" in content[len(kept) :]:
        note(f"{Path(path).name}: NUL bytes at the end are left out; the file may be an incomplete copy")
        content = kept
    try:
        text = content.decode(mark)
    except UnicodeDecodeError as error:
        if not mark.startswith("utf-8"):
            raise CorpusError(
                f"{path}: the file begins like {mark.upper()} text, but its byte {error.start} is not valid; save the file as UTF-8"
            ) from None
        if _CONTROL.search(content):
            raise CorpusError(f"{path}: binary content of no known format; expected text, a table, JSON or a pickle") from None
        return _detected(content, path)
    if "\0" in text:
        raise CorpusError(f"{path}: binary content of no known format; expected text, a table, JSON or a pickle")
    return text


def _unmarked_utf16(content: bytes) -> str | None:
    """Recognise UTF-16 without a byte order mark. In UTF-16, every second byte of a Latin text is NUL."""
    head = content[:512]
    for name, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        nothing = head[start::2].count(0)
        if len(content) % 2 == 0 and nothing > 0.6 * len(head) / 2 and not head[1 - start :: 2].count(0):
            return name
    return None


def _detected(content: bytes, path: str | Path) -> str:
    """Decode a text with an encoding that its words or the library `charset_normalizer` determine with certainty."""
    name, western = Path(path).name, _try(content, "cp1252")
    lines = b"\n".join(line for line in content.splitlines() if not line.isascii())
    lines = lines if len(lines) <= _SAMPLE else lines[:_SAMPLE].rsplit(b"\n", 1)[0]
    told = spellings(lines)
    as_western = f"{name}: the text is not UTF-8; it is read as Windows-1252; check the letters"
    if told and told[0].sure and (text := _try(content, told[0].encoding)) is not None:
        why = f"it is read as {_NAMES[told[0].encoding]}, because its words are {told[0].language}"
        note(as_western if told[0].encoding == "cp1252" else f"{name}: the text is not UTF-8; {why}; check the letters")
        return text
    if told and not told[0].sure:
        as_western += f"; its words could also be {told[0].language} in {_NAMES[told[0].encoding]}"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        if western is None or _PAIR.search(content):
            raise CorpusError(
                f"{path}: the text is not UTF-8; save it as UTF-8, or install the detection of encodings: "
                'pip install "erc_graph[transcripts]"'
            ) from None
        note(as_western)
        return western
    found = [
        match for match in from_bytes(lines) if _plausible(match.encoding, lines) and (_PAIR.search(lines) or not match.multi_byte_usage)
    ]
    close = [match for match in found if match.chaos - found[0].chaos < _NEAR and found[0].coherence - match.coherence < 0.1]
    texts = {text: match for match in reversed(close) if (text := _try(content, match.encoding)) is not None}
    if western is not None and (western in texts or not (texts or _PAIR.search(lines))):
        note(as_western)
        return western
    sure = [match for match in texts.values() if match.multi_byte_usage or (match.coherence and not match.encoding.startswith("mac"))]
    if len(texts) != 1 or not sure:
        seems = f"; it could be {', '.join(sorted(match.encoding for match in texts.values())[:4])}" if texts else ""
        raise CorpusError(f"{path}: the text is not UTF-8, and its encoding cannot be determined{seems}; save the file as UTF-8")
    ((text, match),) = texts.items()
    note(f"{name}: the text is not UTF-8; it is read as {match.encoding}, which was detected; check the letters")
    return text


def _plausible(encoding: str, content: bytes) -> bool:
    """Return whether a text that was decoded with an East Asian encoding is in the script of the language of this encoding.

    The check is needed because most East Asian encodings also accept bytes of other East Asian encodings.
    """
    if encoding.startswith(("utf_16", "utf_32", "utf_7")):  # has a mark, or was seen before
        return False
    text = content.decode(encoding, "replace")
    kana, hangul, han = (len(re.findall(letters, text)) for letters in ("[\u3040-\u30ff]", "[\uac00-\ud7a3]", "[\u3400-\u9fff]"))
    if encoding in ("cp949", "euc_kr", "johab"):
        return hangul > 9 * (han + kana) and _try(content, "euc_kr") is not None  # beyond it stand syllables that nobody writes
    if encoding == "cp932" or "jis" in encoding or "jp" in encoding:
        return kana > 0 and not hangul
    return not (encoding.startswith(("gb", "big5", "hz")) and (kana or hangul))


def _try(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None
