"""Speech recognisers: the JSON of each, whole and with parts missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

Said = list[tuple[str, str, float | None, float | None]]


def read(value: Any) -> Corpus:
    return load_transcript(json.dumps(value).encode())


def said(corpus: Corpus) -> Said:
    nothing = (None,) * corpus.utterances
    times = corpus.annotations.get("start", nothing), corpus.annotations.get("end", nothing)
    return list(zip(corpus.speakers, corpus.texts, *times, strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


TWO: Said = [("A", "Hello, can you hear me?", 0.0, 2.0), ("B", "Yes! So good.", 2.5, 4.0)]
Form = Any


def words(turns: Said, key: str = "word", **more: Any) -> list[dict[str, Any]]:
    """Words of the turns with their speakers, equally long."""
    found = []
    for who, text, start, end in turns:
        parts = text.split()
        step = ((end or 0) - (start or 0)) / len(parts)
        found += [
            {key: part, "start": (start or 0) + i * step, "end": (start or 0) + (i + 1) * step, "speaker": who, **more}
            for i, part in enumerate(parts)
        ]
    return found


def whisper(turns: Said) -> Form:
    rows = [{"id": i, "seek": 0, "start": a, "end": b, "text": f" {text}", "tokens": [1]} for i, (_, text, a, b) in enumerate(turns)]
    return {"text": " ".join(row["text"] for row in rows), "segments": rows, "language": "en"}


def whisperx(turns: Said) -> Form:
    rows = [{"start": a, "end": b, "text": f" {text}", "speaker": who, "words": words([(who, text, a, b)])} for who, text, a, b in turns]
    return {"segments": rows, "word_segments": words(turns), "language": "en"}


def insanely_fast(turns: Said) -> Form:
    rows = [{"speaker": who, "timestamp": [a, b], "text": text} for who, text, a, b in turns]
    return {"speakers": rows, "chunks": [{"timestamp": row["timestamp"], "text": row["text"]} for row in rows], "text": "x"}


def whisper_cpp(turns: Said) -> Form:
    rows = [
        {"offsets": {"from": round(1000 * a), "to": round(1000 * b)}, "text": t, "speaker": w}
        for w, t, a, b in turns
        if a is not None and b
    ]
    return {"systeminfo": "x", "result": {"language": "en"}, "transcription": rows}


def aws(turns: Said) -> Form:
    rows = [
        {"id": i, "transcript": t, "start_time": str(a), "end_time": str(b), "speaker_label": w, "items": []}
        for i, (w, t, a, b) in enumerate(turns)
    ]
    return {"status": "COMPLETED", "results": {"transcripts": [{"transcript": "x"}], "items": [], "audio_segments": rows}}


def aws_words(turns: Said, inside: bool = True) -> Form:
    """Without `audio_segments`, as before 2024: words and marks, speakers in the words or beside them."""
    items: list[dict[str, Any]] = []
    spoken: list[dict[str, Any]] = []
    for one in words(turns):
        text = one["word"].rstrip(",.?!")
        item = {
            "type": "pronunciation",
            "alternatives": [{"content": text}],
            "start_time": f"{one['start']:.3f}",
            "end_time": f"{one['end']:.3f}",
        }
        items.append({**item, "speaker_label": one["speaker"]} if inside else item)
        spoken.append({"speaker_label": one["speaker"], "items": [{"start_time": item["start_time"], "speaker_label": one["speaker"]}]})
        items += [{"type": "punctuation", "alternatives": [{"content": mark}]} for mark in one["word"][len(text) :]]
    return {"results": {"transcripts": [{"transcript": "x"}], "speaker_labels": {"segments": spoken}, "items": items}}


def aws_calls(turns: Said) -> Form:
    rows = [
        {"ParticipantRole": w, "Content": t, "BeginOffsetMillis": round(1000 * (a or 0)), "EndOffsetMillis": round(1000 * (b or 0))}
        for w, t, a, b in turns
    ]
    return {"JobStatus": "COMPLETED", "LanguageCode": "en-US", "Transcript": rows}


def deepgram(turns: Said) -> Form:
    rows = [{"start": a, "end": b, "transcript": t, "speaker": w, "channel": 0} for w, t, a, b in turns]
    return {"metadata": {}, "results": {"channels": [{"alternatives": [{"transcript": "x", "words": []}]}], "utterances": rows}}


def deepgram_words(turns: Said) -> Form:
    return {"results": {"channels": [{"alternatives": [{"transcript": "x", "words": words(turns, "punctuated_word", word="x")}]}]}}


def azure(turns: Said) -> Form:
    rows = [
        {
            "recognitionStatus": "Success",
            "channel": 0,
            "speaker": w,
            "offset": f"PT{a}S",
            "duration": f"PT{(b or 0) - (a or 0)}S",
            "nBest": [{"display": t}],
        }
        for w, t, a, b in turns
    ]
    return {"source": "x.wav", "combinedRecognizedPhrases": [], "recognizedPhrases": rows}


def azure_fast(turns: Said) -> Form:
    rows = [
        {"speaker": w, "offsetMilliseconds": round(1000 * (a or 0)), "durationMilliseconds": round(1000 * ((b or 0) - (a or 0))), "text": t}
        for w, t, a, b in turns
    ]
    return {"durationMilliseconds": 1, "combinedPhrases": [], "phrases": rows}


def google(turns: Said) -> Form:
    """The last result repeats all words of those before, with their speakers."""
    rows = [{"alternatives": [{"transcript": t, "words": [{"word": w["word"]} for w in words([("", t, a, b)])]}]} for _, t, a, b in turns]
    told = [
        {"word": w["word"], "startTime": f"{w['start']}s", "endTime": f"{w['end']}s", "speakerLabel": w["speaker"]} for w in words(turns)
    ]
    return {"results": [*rows, {"alternatives": [{"words": told}]}]}


def assembly(turns: Said) -> Form:
    rows = [{"start": round(1000 * (a or 0)), "end": round(1000 * (b or 0)), "text": t, "speaker": w, "words": []} for w, t, a, b in turns]
    return {"id": "x", "status": "completed", "text": "x", "words": [], "utterances": rows}


def rev(turns: Said) -> Form:
    rows = []
    for who, text, start, end in turns:
        parts = [{"type": "text", "value": w["word"], "ts": w["start"], "end_ts": w["end"]} for w in words([(who, text, start, end)])]
        spaced = [part for one in parts for part in (one, {"type": "punct", "value": " "})]
        rows.append({"speaker": who, "elements": spaced[:-1]})
    return {"monologues": rows}


def speechmatics(turns: Said) -> Form:
    rows = [
        {"type": "word", "start_time": w["start"], "end_time": w["end"], "alternatives": [{"content": w["word"], "speaker": w["speaker"]}]}
        for w in words(turns)
    ]
    return {"format": "2.9", "results": rows}


def elevenlabs(turns: Said) -> Form:
    rows = [
        {"text": w["text"], "start": w["start"], "end": w["end"], "type": "word", "speaker_id": w["speaker"]} for w in words(turns, "text")
    ]
    spaced = [one for row in rows for one in (row, {"text": " ", "type": "spacing"})]
    return {"language_code": "en", "text": "x", "words": spaced}


def gladia(turns: Said) -> Form:
    rows = [{"start": a, "end": b, "text": t, "speaker": w, "words": []} for w, t, a, b in turns]
    return {"id": "x", "status": "done", "result": {"transcription": {"utterances": rows}}}


FORMS = [
    whisperx, insanely_fast, whisper_cpp, aws, aws_words, aws_calls, deepgram, deepgram_words, azure, azure_fast, google, assembly, rev,
    speechmatics, elevenlabs, gladia,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_say_the_same(form: Form) -> None:
    assert [(who, text) for who, text, _, _ in said(read(form(TWO)))] == [(who, text) for who, text, _, _ in TWO]
    assert [times for _, _, *times in said(read(form(TWO)))] == [[pytest.approx(a), pytest.approx(b)] for _, _, a, b in TWO]


TEXTS = st.from_regex(r"[A-Z][a-z]{0,7}(,? [a-zäß]{1,8}){0,5}[.?!]", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), TEXTS), min_size=1, max_size=6), st.sampled_from(FORMS))
def test_what_we_write_is_read_back(turns: list[tuple[str, str]], form: Form) -> None:
    joined: list[tuple[str, str]] = []
    for who, text in turns:  # a service that gives words tells turns by their speakers
        if joined and joined[-1][0] == who:
            joined[-1] = (who, f"{joined[-1][1]} {text}")
        else:
            joined.append((who, text))
    timed = [(who, text, 2.0 * i, 2.0 * i + 1.5) for i, (who, text) in enumerate(joined)]
    assert [(who, text) for who, text, _, _ in said(read(form(timed)))] == joined


def test_nobody_is_told_apart() -> None:
    talk = read(whisper(TWO))
    assert said(talk) == [("speaker", *rest) for _, *rest in TWO] and "no speakers are named (Whisper), so all utterances" in notes(talk)
    for form in (deepgram_words, aws_words, elevenlabs):  # words alone: a turn per sentence
        talk = read(form([("", *rest) for _, *rest in TWO]))
        assert talk.texts == ("Hello, can you hear me?", "Yes!", "So good.") and "no speakers are named" in notes(talk)


def test_speakers_that_are_numbers_get_a_name() -> None:
    assert read(deepgram([(0, "Hi", 0, 1), (1, "Oh", 1, 2)])).speakers == ("speaker 0", "speaker 1")  # type: ignore[list-item]
    assert read(azure([(1, "Hi", 0, 1), (2, "Oh", 1, 2)])).speakers == ("speaker 1", "speaker 2")  # type: ignore[list-item]


def test_a_segment_without_a_speaker_is_said() -> None:
    value = whisperx(TWO)
    del value["segments"][1]["speaker"]
    talk = read(value)
    assert talk.speakers == (
        "A",
        "speaker",
    ) and "1 utterance has no speaker and belongs to a further speaker, 'speaker'" in notes(talk)


def test_parts_that_are_missing() -> None:
    assert said(read(aws_words(TWO, inside=False))) == said(read(aws_words(TWO)))
    value = azure(TWO)
    for row, (_, _, start, end) in zip(value["recognizedPhrases"], TWO, strict=True):
        row |= {"offsetInTicks": 1e7 * (start or 0), "durationInTicks": 1e7 * ((end or 0) - (start or 0))}
        del row["offset"], row["duration"]
    assert said(read(value)) == TWO
    value["recognizedPhrases"][0]["recognitionStatus"] = "NoMatch"
    assert said(read(value)) == TWO[1:] and "1 phrase that Azure did not recognise is left out" in notes(read(value))
    value = assembly(TWO)
    value["utterances"] = None
    value["words"] = [{**word, "start": 1000 * word["start"], "end": 1000 * word["end"]} for word in words(TWO, "text")]
    assert [(who, text) for who, text, _, _ in said(read(value))] == [(who, text) for who, text, _, _ in TWO]
    assert read(whisperx(TWO)["segments"]).texts == read(insanely_fast(TWO)["chunks"]).texts == ("Hello, can you hear me?", "Yes! So good.")
    chunk = {"chunks": [{"timestamp": [0.0, None], "text": " Hi"}], "text": " Hi"}
    assert said(read(chunk)) == [("speaker", "Hi", 0.0, None)]


def test_channels_are_speakers() -> None:
    def channel(turns: Said) -> dict[str, Any]:
        return deepgram_words([("", *rest) for _, *rest in turns])["results"]["channels"][0]  # type: ignore[no-any-return]

    talk = read({"results": {"channels": [channel(TWO[1:]), channel(TWO[:1])]}})
    assert [(who, text) for who, text, _, _ in said(talk)] == [("channel 1", "Hello, can you hear me?"), ("channel 0", "Yes! So good.")]
    items = [aws_words([("", *rest)])["results"]["items"] for _, *rest in TWO]
    channels = [{"channel_label": f"ch_{i}", "items": one} for i, one in enumerate(items)]
    assert read({"results": {"transcripts": [], "channel_labels": {"channels": channels}}}).speakers == ("ch_0", "ch_1")


def test_google_without_the_repetition() -> None:
    rows = [
        {"alternatives": [{"transcript": " Hello there", "confidence": 0.9}], "resultEndTime": "1.5s"},
        {"alternatives": [{"transcript": "Yes"}]},
    ]
    assert read({"results": rows}).texts == ("Hello there", "Yes")
    tagged = {"alternatives": [{"words": [{"word": "good", "speakerTag": 1}, {"word": "day", "speakerTag": 2}]}]}
    talk = read({"results": [rows[0], tagged]})
    assert [(who, text) for who, text, _, _ in said(talk)] == [("speaker", "Hello there"), ("speaker 1", "good"), ("speaker 2", "day")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"status": "error", "error": "no audio", "text": None, "words": None, "audio_url": "x"},
            r"AssemblyAI: contains no speech, its status is 'error' \(no audio\)",
        ),
        (
            {"status": "IN_PROGRESS", "results": {"transcripts": [], "items": []}},
            "AWS Transcribe: contains no speech, its status is 'IN_PROGRESS'",
        ),
        ({"text": "", "segments": [], "language": "en"}, "Whisper: contains no speech"),
        ({"results": {"channels": [{"alternatives": [{"transcript": "", "words": []}]}]}}, "Deepgram: contains no speech"),
    ],
)
def test_nothing_was_recognised(value: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(value)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["こ", "ん", "に", "ち", "は", "。", "今", "日"], "こんにちは。今日"),
        (["我们", "用", "Python", "写", "，", "好", "吗", "？"], "我们用 Python 写，好吗？"),
        (["안녕", "하세요"], "안녕 하세요"),
    ],
)
def test_han_and_kana_are_put_together_without_spaces(words: list[str], text: str) -> None:
    spoken = [{"text": word, "start": i, "end": i + 1, "type": "word", "speaker_id": "a"} for i, word in enumerate(words)]
    assert read({"language_code": "ja", "text": "", "words": spoken}).texts == (text,)
