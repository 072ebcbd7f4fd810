"""ELAN, Praat and CHAT: tiers are speakers, turns stand in the order of their times."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

Said = list[tuple[str, str, float | None, float | None]]
TWO: Said = [("Ann", "We won!", 0.0, 2.0), ("Bob", "Really?", 1.5, 3.0), ("Ann", 'She said "yes"', 4.0, 5.0)]


def read(text: str) -> Corpus:
    return load_transcript(text.encode())


def said(corpus: Corpus) -> Said:
    return list(zip(corpus.speakers, corpus.texts, corpus.annotations["start"], corpus.annotations["end"], strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


def by_speaker(turns: Said) -> dict[str, Said]:
    return {name: [turn for turn in turns if turn[0] == name] for name in dict.fromkeys(turn[0] for turn in turns)}


def elan(turns: Said) -> str:
    slots, tiers = [], []
    for name, own in by_speaker(turns).items():
        inner = ""
        for _, text, start, end in own:
            for value in (start, end):
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="ts{len(slots)}" TIME_VALUE="{round(1000 * (value or 0))}"/>')
            text = text.replace("&", "&amp;").replace("<", "&lt;")
            inner += (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{len(slots)}" TIME_SLOT_REF1="ts{len(slots) - 2}" '
                f'TIME_SLOT_REF2="ts{len(slots) - 1}">'
                f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        tiers.append(f'<TIER LINGUISTIC_TYPE_REF="utterance" PARTICIPANT="{name}" TIER_ID="{name}@x">{inner}</TIER>')
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0"><HEADER TIME_UNITS="milliseconds"/>'
    return f"{head}<TIME_ORDER>{''.join(slots)}</TIME_ORDER>{''.join(tiers)}</ANNOTATION_DOCUMENT>"


def praat(turns: Said, short: bool = False) -> str:
    tiers = by_speaker(turns)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        "xmax = 9",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, own) in enumerate(tiers.items(), start=1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            "        xmax = 9",
        ]
        spans: list[tuple[float, float, str]] = []
        for _, text, start, end in own:
            spans += [(spans[-1][1] if spans else 0.0, start or 0.0, ""), (start or 0.0, end or 0.0, text)]
        lines.append(f"        intervals: size = {len(spans)}")
        for place, (start, end, text) in enumerate(spans, start=1):
            quoted = text.replace('"', '""')
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start}",
                f"            xmax = {end}",
                f'            text = "{quoted}"',
            ]
    if short:
        lines = [line.partition("=")[2].strip() or line.strip().replace("tiers? ", "") for line in lines if "[" not in line or '"' in line]
        lines[:2] = ['File type = "ooTextFile"', 'Object class = "TextGrid"']
    return "\n".join(lines) + "\n"


def chat(turns: Said) -> str:
    lines = ["@UTF8", "@Begin", "@Languages:\teng", "@Participants:\tANN Ann Adult, BOB Bob Adult", "@ID:\teng|c|ANN|||||Adult|||"]
    lines += [f"*{name.upper()}:\t{text} \x15{round(1000 * (a or 0))}_{round(1000 * (b or 0))}\x15" for name, text, a, b in turns]
    return "\n".join([*lines, "@End"]) + "\n"


@pytest.mark.parametrize("text", [elan(TWO), praat(TWO), praat(TWO, short=True), chat(TWO)], ids=["elan", "praat", "praat short", "chat"])
def test_forms_that_say_the_same(text: str) -> None:
    assert said(read(text)) == TWO
    assert said(load_transcript(text.encode("utf-16"))) == TWO
    assert said(read(text.replace("\n", "\r\n"))) == TWO


NAMES, WORDS = st.sampled_from(["Ann", "Bob"]), st.from_regex(r"[A-Za-zäß日]{1,8}( [a-z]{1,8}){0,5}[.?!]", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=6), st.sampled_from([elan, praat, chat]))
def test_what_we_write_is_read_back(turns: list[tuple[str, str]], form: object) -> None:
    timed = [(name, text, i + 0.25, i + 0.75) for i, (name, text) in enumerate(turns)]
    assert said(read(form(timed))) == timed  # type: ignore[operator]


def test_elan_leaves_out_what_depends_and_says_it() -> None:
    tier = (
        '<TIER TIER_ID="gloss" PARENT_REF="Ann@x"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r" ANNOTATION_REF="a2">'
        "<ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>"
    )
    talk = read(elan(TWO).replace("</ANNOTATION_DOCUMENT>", f"{tier}</ANNOTATION_DOCUMENT>"))
    assert said(talk) == TWO and "ELAN: 1 tier is left out (empty, or dependent on another tier)" in notes(talk)
    assert read(elan(TWO).replace('PARTICIPANT="Ann" ', "")).speakers[0] == "Ann@x"
    two = read(elan(TWO).replace('PARTICIPANT="Bob"', 'PARTICIPANT="Ann"'))
    assert set(two.speakers) == {"Ann"} and "several tiers of one participant are read as one speaker (Ann)" in notes(two)


def test_praat_points_and_labels_that_look_like_its_words() -> None:
    turns: Said = [("Ann", 'intervals [2]: xmin = 5 item [1]: text = ""', 0.0, 1.0), ("Bob", "class = TextTier 3", 1.0, 2.0)]
    assert [text for _, text, _, _ in said(read(praat(turns)))] == [text for _, text, _, _ in turns]
    points = (
        '    item [9]:\n class = "TextTier"\n name = "p"\n xmin = 0\n xmax = 9\n points: size = 1\n points [1]:\n number = 1\n mark = "x"\n'
    )
    talk = read(praat(TWO).replace("size = 2\nitem", "size = 3\nitem") + points)
    assert said(talk) == TWO and "1 point with a mark is left out" in notes(talk)


def test_chat_codes_are_taken_out() -> None:
    text = (
        chat(TWO)
        .replace("We won!", "<we> [/] we &-uh won [!] (be)cause +... \n\tand [% laughs] more .")
        .replace("\n*BOB", "\n%mor:\tpro\n*BOB")
    )
    talk = read(text)
    assert (
        talk.texts[0] == "we we won (be)cause and more." and talk.speakers == ("Ann", "Bob", "Ann") and "transcription codes" in notes(talk)
    )
    named = read(chat(TWO).replace("ANN Ann Adult", "ANN Target_Child"))
    assert named.speakers[0] == "ANN"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (elan(TWO)[:300], "ELAN: damaged XML"),
        (
            elan(TWO).replace("<ANNOTATION_DOCUMENT", '<!DOCTYPE x [<!ENTITY a "b">]><ANNOTATION_DOCUMENT'),
            "ELAN: defines a document type or entities",
        ),
        (elan([]), "ELAN: contains no annotations with text; expected a tier per speaker"),
        (praat(TWO)[:500], "Praat TextGrid: truncated or damaged; expected a"),
        (praat([]), "Praat TextGrid: contains no annotations with text"),
        ("@UTF8\n@Begin\n@End\n", "CHAT: no main tiers with text"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        praat(TWO) + '"' * 100_001,
        praat(TWO) + "1" * 100_000,
        praat(TWO).replace("size = 2", "size = 1e300"),
        praat(TWO) + "<" * 100_000,
        praat(TWO).replace("intervals: size = 4", "intervals: size = 99999999999"),
        chat(TWO) + "*ANN:\t" + "[" * 100_000,
        chat(TWO) + "*ANN:\t" + "\x15" * 100_000,
        chat(TWO) + "*ANN:\t" + "&" * 100_000 + "\n",
        elan(TWO).replace("We won!", "x" * 100_000),
        "<?xml" + " " * 100_000,
        "<ANNOTATION_DOCUMENT>" * 20_000,
    ],
)
def test_hostile_files_take_linear_time(text: str) -> None:
    start = time.process_time()
    with suppress(CorpusError):
        read(text)
    assert time.process_time() - start < 1.5


def textgrid(tiers: dict[str, list[str]]) -> bytes:
    parts = [f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n9\n<exists>\n{len(tiers)}\n']
    for name, texts in tiers.items():
        parts.append(f'"IntervalTier"\n"{name}"\n0\n9\n{len(texts)}\n')
        parts += [f'{i}\n{i + 1}\n"{text}"\n' for i, text in enumerate(texts)]
    return "".join(parts).encode()


def test_tiers_of_a_forced_aligner_are_no_speakers() -> None:
    talk = load_transcript(textgrid({"Ann": ["hello you"], "Ann - words": ["hello", "you"], "phones": ["HH", "AH0"]}))
    assert talk.speakers == ("Ann",) and talk.texts == ("hello you",)
    assert "2 tiers of words and sounds of a forced aligner are left out (Ann - words, phones)" in "; ".join(talk.provenance["notes"])
    assert load_transcript(textgrid({"words": ["hello you", "and so on"]})).texts == ("hello you", "and so on")
    with pytest.raises(CorpusError, match=r"contains only words and sounds of a forced aligner \(words\); expected a tier per speaker"):
        load_transcript(textgrid({"words": ["hello", "you"], "phones": ["HH", "AH0"]}))


def test_tiers_of_annotations_are_no_speakers() -> None:
    talk = load_transcript(textgrid({"Ann": ["hello there"], "emotion": ["joy"], "Ann - gesture": ["she nods"], "Bob Gold": ["yes"]}))
    assert talk.speakers == ("Ann", "Bob Gold")
    assert "Praat TextGrid: 2 tiers of annotations are left out (emotion, Ann - gesture)" in notes(talk)
    talk = read(elan([*TWO, ("Emotion", "anger", 0.0, 2.0)]))
    assert said(talk) == TWO and "ELAN: 1 tier of annotations is left out (Emotion@x)" in notes(talk)
    with pytest.raises(CorpusError, match=r"Praat TextGrid: contains only annotations \(emotion\); expected a tier per speaker"):
        load_transcript(textgrid({"emotion": ["joy"]}))
