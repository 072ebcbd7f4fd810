"""Reader of the JSON of speech recognisers: Whisper and similar programs, and cloud services.

A segment of the recogniser is an utterance. If a service gives only single words, the words are joined to utterances. An utterance then
ends when the speaker changes, or at the end of a sentence if the service does not name speakers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from erc_graph.data.files.clock import seconds
from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.talk import Talk, Turn, are, finite
from erc_graph.data.printable import count, one_line
from erc_graph.errors import CorpusError

Value = dict[str, Any]


def read_recognised(value: Any, path: Path) -> Talk | None:
    """Read the result of a speech recogniser; return `None` if the content has another form.

    Raises:
        CorpusError: the job of the service failed, is not finished, or found no speech.
    """
    if not isinstance(value, dict):
        return _plain_segments(value)
    talk = next((found for read in READERS if (found := read(value)) is not None), None)
    if talk is None:
        return None
    status = one_line(value.get("status") or value.get("recognitionStatus") or "")
    if not talk.turns:
        error = one_line(value.get("error") or "", 120)
        state = f", its status is {status!r}" if status else ""
        raise CorpusError(
            f"{path}: {talk.form}: contains no speech{state}{f' ({error})' if error else ''}; "
            "wait until the speech recognition ends, or check its service"
        )
    return talk


def _objects(value: Any, *keys: str | int) -> list[Value]:
    """Return the list of objects under nested keys, such as `value["results"]["items"]`; empty if there is no list."""
    inner = _at(value, *keys)
    return [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else []


def _at(value: Any, *keys: str | int) -> Any:
    for key in keys:
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) and len(value) > key else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    return " ".join(str(value).split()) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _who(value: Any) -> str:
    """Return the name of a speaker; a number such as 1 becomes `speaker 1`."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("name", "label", "id") if isinstance(value.get(key), str | int)), None)
    if value is None or value == "" or isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return f"speaker {value}" if str(value).isdecimal() else str(value)


def _time(value: Any, unit: float = 1.0) -> float | None:
    """Convert a time to seconds, such as `1.5`, `"1.500s"`, `"PT1M2.5S"` or `"00:00:01,000"`; return `None` for other values."""
    if isinstance(value, str):
        if found := _DURATION.fullmatch(value.strip()[:60]):
            hours, minutes, rest = (float(part or 0) for part in found.groups())
            return 3600 * hours + 60 * minutes + rest
        value = value.strip().removesuffix("s")
        return None if (clock := seconds(value)) is None else clock / unit
    number = finite(value)
    return None if number is None else number / unit


_DURATION = re.compile(r"PT(?:(\d{1,6}(?:\.\d{1,9})?)H)?(?:(\d{1,6}(?:\.\d{1,9})?)M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?")
# Han and kana, which are written without spaces, and their punctuation
_UNSPACED = re.compile(
    "[\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff0f\uff1a-\uff20\uff61-\uff9f\U00020000-\U000323af]"
)
_Word = tuple[str, str, float | None, float | None]  # text, speaker, start, end; punctuation is a word without times


def _sentences(words: Iterable[_Word]) -> list[Turn]:
    """Join words to utterances, which end when the speaker changes, or at the end of a sentence if no speakers are named."""
    words = [word for word in words if word[0]]
    told = any(speaker for _, speaker, _, _ in words)
    turns: list[Turn] = []
    parts: list[str] = []
    ended = True
    for text, speaker, start, end in words:
        mark = not any(letter.isalnum() for letter in text) and len(text) <= 3
        if ended or (told and speaker != turns[-1].speaker and not mark):
            turns.append(Turn(text="", speaker=speaker, start=start, end=end))
            parts.append(text)
        else:
            close = (mark and text not in "–—-&") or (_UNSPACED.match(parts[-1][-1]) and _UNSPACED.match(text))
            parts[-1] += text if close else f" {text}"
            turns[-1].end = end if end is not None else turns[-1].end
            turns[-1].start = start if turns[-1].start is None else turns[-1].start
        ended = not told and text[-1] in ".?!…。？！"
    for turn, text in zip(turns, parts, strict=True):
        turn.text = text
    return turns


def _segments(items: Iterable[Value], *, text: str, speaker: Iterable[str], start: str, end: str, unit: float = 1.0) -> list[Turn]:
    found = [
        Turn(
            text=_text(one.get(text)),
            speaker=next((name for key in speaker if (name := _who(one.get(key)))), ""),
            start=_time(one.get(start), unit),
            end=_time(one.get(end), unit),
        )
        for one in items
    ]
    return [turn for turn in found if turn.text]


def _plain_segments(value: Any) -> Talk | None:
    """Read a list of segments (utterances with times) that is not inside an object, as returned by whisperX in Python."""
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return None
    if all({"start", "end", "text"} <= one.keys() for one in value) and not any(
        {"role", "sender", "dialogue", "turn"} & one.keys() for one in value
    ):
        return _whisper({"segments": value})
    if all({"timestamp", "text"} <= one.keys() and isinstance(one["timestamp"], list) for one in value):
        return _whisper({"chunks": value})
    return None


def _whisper(value: Value) -> Talk | None:
    for key in ("speakers", "segments", "chunks"):
        items = _objects(value, key)
        if not items or not all("text" in one and ("start" in one or "timestamp" in one) for one in items):
            continue
        turns = []
        for one in items:
            times = one.get("timestamp")
            start, end = (times[0], times[-1]) if isinstance(times, list) and times else (one.get("start"), one.get("end"))
            turns.append(Turn(text=_text(one["text"]), speaker=_who(one.get("speaker")), start=_time(start), end=_time(end)))
        return Talk(form="Whisper", turns=[turn for turn in turns if turn.text])
    if isinstance(value.get("segments"), list) and isinstance(value.get("text"), str) and not value["segments"]:
        return Talk(form="Whisper", turns=[])
    return None


def _whisper_cpp(value: Value) -> Talk | None:
    items = _objects(value, "transcription")
    if not items or not any("offsets" in one or "timestamps" in one for one in items):
        return None
    turns = []
    for one in items:
        start, end = (_time(_at(one, "offsets", key), 1000) for key in ("from", "to"))
        turns.append(Turn(text=_text(one.get("text")), speaker=_who(one.get("speaker")), start=start, end=end))
    return Talk(form="whisper.cpp", turns=[turn for turn in turns if turn.text])


def _aws(value: Value) -> Talk | None:
    results = value.get("results")
    if not isinstance(results, dict) or not ("transcripts" in results or "audio_segments" in results):
        return None
    keys = {"text": "transcript", "speaker": ("speaker_label", "channel_label"), "start": "start_time", "end": "end_time"}
    turns = _segments(_objects(results, "audio_segments"), **keys)  # type: ignore[arg-type]
    if not turns:
        spoken = {
            _text(item.get("start_time")): _who(segment.get("speaker_label"))
            for segment in _objects(results, "speaker_labels", "segments")
            for item in _objects(segment, "items")
        }
        channels = _objects(results, "channel_labels", "channels")
        lists = [(_who(one.get("channel_label")), _objects(one, "items")) for one in channels] or [("", _objects(results, "items"))]
        for channel, items in lists:
            words: list[_Word] = []
            for item in items:
                start = _text(item.get("start_time"))
                own = _who(item.get("speaker_label")) or spoken.get(start, "") or channel
                who = own or (words[-1][1] if words else "")
                words.append((_text(_at(item, "alternatives", 0, "content")), who, _time(start or None), _time(item.get("end_time"))))
            turns += _sentences(words)
        if len(channels) > 1:
            turns.sort(key=lambda turn: turn.start or 0.0)
    if not turns:
        turns = [Turn(text=_text(one.get("transcript"))) for one in _objects(results, "transcripts") if _text(one.get("transcript"))]
    return Talk(form="AWS Transcribe", turns=turns)


def _aws_calls(value: Value) -> Talk | None:
    items = _objects(value, "Transcript")
    if not items or "Content" not in items[0]:
        return None
    keys = {"text": "Content", "speaker": ("ParticipantRole", "ParticipantId"), "start": "BeginOffsetMillis", "end": "EndOffsetMillis"}
    return Talk(form="AWS call analytics", turns=_segments(items, unit=1000, **keys))  # type: ignore[arg-type]


def _deepgram(value: Value) -> Talk | None:
    channels = _objects(value, "results", "channels")
    utterances = _objects(value, "results", "utterances")
    if not channels and not utterances:
        return None
    turns = _segments(utterances, text="transcript", speaker=("speaker", "channel"), start="start", end="end")
    for number, channel in enumerate(channels if not turns else []):
        best = _at(channel, "alternatives", 0)
        side = f"channel {number}" if len(channels) > 1 else ""
        words = [
            (
                _text(one.get("punctuated_word") or one.get("word")),
                _who(one.get("speaker")) or side,
                _time(one.get("start")),
                _time(one.get("end")),
            )
            for one in _objects(best, "words")
        ]
        turns += _sentences(words) or ([Turn(text=text, speaker=side)] if (text := _text(_at(best, "transcript"))) else [])
    if len(channels) > 1:
        turns.sort(key=lambda turn: turn.start or 0.0)
    return Talk(form="Deepgram", turns=turns)


def _azure(value: Value) -> Talk | None:
    phrases, fast = _objects(value, "recognizedPhrases"), _objects(value, "phrases")
    if "recognizedPhrases" not in value and not (fast and "offsetMilliseconds" in fast[0]):
        return None
    several = len({str(one.get("channel")) for one in phrases or fast}) > 1
    turns, failed = [], 0
    for one in phrases:
        if one.get("recognitionStatus") not in (None, "Success"):
            failed += 1
            continue
        start, length = _time(one.get("offset")), _time(one.get("duration"))
        if start is None:
            start, length = _time(one.get("offsetInTicks"), 1e7), _time(one.get("durationInTicks"), 1e7)
        best = _at(one, "nBest", 0)
        turns.append((start, length, _at(best, "display") or _at(best, "lexical"), one))
    for one in fast:
        turns.append((_time(one.get("offsetMilliseconds"), 1000), _time(one.get("durationMilliseconds"), 1000), one.get("text"), one))
    if failed:
        note(f"{count(failed, 'phrase')} that Azure did not recognise {are(failed)} left out")
    made = []
    for start, length, text, one in turns:
        who = _who(one.get("speaker")) or (f"channel {one.get('channel')}" if several else "")
        end = None if start is None or length is None else start + length
        made.append(Turn(text=_text(text), speaker=who, start=start, end=end))
    if several:
        made.sort(key=lambda turn: turn.start or 0.0)
    return Talk(form="Azure", turns=[turn for turn in made if turn.text])


def _google(value: Value) -> Talk | None:
    results = _objects(value, "results") or _objects(value, "response", "results")
    if not results or not any("alternatives" in one for one in results) or any("type" in one for one in results):
        return None
    best = [_at(one, "alternatives", 0) or {} for one in results]
    words = [[_google_word(word) for word in _objects(one, "words")] for one in best]
    heard = [_text(_at(one, "transcript")) for one in best]
    tagged = [any(word[1] for word in own) for own in words]
    if tagged[-1] and not any(tagged[:-1]):  # the last result repeats all words of those before, with their speakers
        before = " ".join(heard[:-1]).split()
        if [_bare(word[0]) for word in words[-1]][: len(before)] == [_bare(word) for word in before]:
            return Talk(form="Google", turns=_sentences(words[-1]))
    turns = []
    for own, text, told, result in zip(words, heard, tagged, results, strict=True):
        if told:
            turns += _sentences(own)
        elif text:
            end = own[-1][3] if own else _time(result.get("resultEndTime") or result.get("resultEndOffset"))
            channel = result.get("channelTag")
            who = f"channel {channel}" if channel and len({str(other.get("channelTag")) for other in results}) > 1 else ""
            turns.append(Turn(text=text, speaker=who, start=own[0][2] if own else None, end=end))
    return Talk(form="Google", turns=turns)


def _google_word(word: Value) -> _Word:
    who = word.get("speakerLabel") or word.get("speakerTag")
    start = next((word[key] for key in ("startTime", "startOffset") if key in word), None)
    end = next((word[key] for key in ("endTime", "endOffset") if key in word), None)
    return _text(word.get("word")), _who(who) if who else "", _time(start), _time(end)


def _bare(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def _assembly(value: Value) -> Talk | None:
    if not {"status", "text"} <= value.keys() or not ({"utterances", "words", "audio_url"} & value.keys()):
        return None
    turns = _segments(_objects(value, "utterances"), text="text", speaker=("speaker", "channel"), start="start", end="end", unit=1000)
    if not turns:
        turns = _sentences(
            (_text(one.get("text")), _who(one.get("speaker")), _time(one.get("start"), 1000), _time(one.get("end"), 1000))
            for one in _objects(value, "words")
        )
    if not turns and _text(value.get("text")):
        turns = [Turn(text=_text(value["text"]))]
    return Talk(form="AssemblyAI", turns=turns)


def _rev(value: Value) -> Talk | None:
    items = _objects(value, "monologues")
    if not items:
        return None
    turns = []
    for one in items:
        parts = _objects(one, "elements")
        times = [_time(part.get(key)) for part in parts for key in ("ts", "end_ts") if part.get(key) is not None]
        text = _text("".join(str(part.get("value", "")) for part in parts))
        turns.append(Turn(text=text, speaker=_who(one.get("speaker")), start=times[0] if times else None, end=times[-1] if times else None))
    return Talk(form="Rev", turns=[turn for turn in turns if turn.text])


def _speechmatics(value: Value) -> Talk | None:
    results = _objects(value, "results")
    if not results or not all("alternatives" in one and "type" in one for one in results):
        return None
    words: list[_Word] = []
    for one in results:
        best = _at(one, "alternatives", 0)
        who = _who(_at(best, "speaker") or one.get("channel"))
        words.append((_text(_at(best, "content")), who, _time(one.get("start_time")), _time(one.get("end_time"))))
    return Talk(form="Speechmatics", turns=_sentences(words))


def _elevenlabs(value: Value) -> Talk | None:
    words = _objects(value, "words")
    if not words or not all("type" in one and "text" in one for one in words):
        return None
    kept = [one for one in words if one["type"] == "word"]
    if sounds := sum(one["type"] == "audio_event" for one in words):
        note(f"{count(sounds, 'sound')} such as (laughter) {are(sounds)} left out")
    return Talk(
        form="ElevenLabs",
        turns=_sentences((_text(one["text"]), _who(one.get("speaker_id")), _time(one.get("start")), _time(one.get("end"))) for one in kept),
    )


def _gladia(value: Value) -> Talk | None:
    items = _objects(value, "result", "transcription", "utterances") or _objects(value, "transcription", "utterances")
    if not items:
        return None
    return Talk(form="Gladia", turns=_segments(items, text="text", speaker=("speaker", "channel"), start="start", end="end"))


READERS: tuple[Callable[[Value], Talk | None], ...] = (
    _aws, _aws_calls, _deepgram, _azure, _speechmatics, _google, _assembly, _rev, _elevenlabs, _gladia, _whisper_cpp, _whisper,
)  # fmt: skip
