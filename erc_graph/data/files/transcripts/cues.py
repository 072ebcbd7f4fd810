"""Reader of subtitles (WebVTT of Teams, Zoom and YouTube, SubRip, SBV), of whole files and of copied text without the beginning.

A cue is a text with its start and end time. A voice is the name of a speaker in a cue.

The module uses no library for subtitles. The regular expression of the library `srt` needs time that grows with the cube of the length of
the text; five thousand digits take minutes. The library `webvtt-py` reads only complete files, silently drops cues with unknown time
formats, and assigns a cue with two voices to only one voice.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from erc_graph.data.files.clock import seconds
from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.names import clean, find_speakers, is_title, without_strays
from erc_graph.data.files.transcripts.talk import Talk, Turn, are
from erc_graph.data.printable import count, one_line
from erc_graph.errors import CorpusError

_CLOCK = r"(?:\d{1,4}:)?\d{1,3}:\d{1,2}(?:[.,:]\d{1,9})?"
_TIMES = re.compile(rf"[ \t]{{0,9}}({_CLOCK})(?:[ \t]{{0,9}}(?:-->|->|—>|–>)[ \t]{{0,9}}|,)({_CLOCK})(?=\s|$)")
_LABEL = re.compile(r"(\d{1,7}\.\d{1,9})\t(\d{1,7}\.\d{1,9})(?=\t)")  # the labels of Audacity
_VOICE = re.compile(r"<v(?:\.[^\s<>]{1,40}){0,4}[ \t]{1,8}([^<>\n]{1,100})>|</v>")
_TAG = re.compile(r"</?(?:c|i|b|u|s|ruby|rt|lang|font)(?:[.\s=][^<>]{0,120})?>|<\d[\d:.]{3,15}>|\{\\[^{}]{1,40}\}", re.IGNORECASE)
_SETTINGS = re.compile(r"(?:align|position|line|size|region|vertical|[XY][12]):", re.IGNORECASE)
_ROLLING = re.compile(r"<\d{1,3}:\d\d(?::\d\d)?\.\d{3}>")
_WEBEX = re.compile(r'\d{1,9} "([^"<>]{1,80})" \(\d{1,20}\)')  # in front of the times of a cue
_BRACKETED = re.compile(r"\(([^()<>]{1,60})\)")
_TEAMS = re.compile(r"\s{0,9}\d{1,3}:\d{1,2}:\d{1,2}\.\d{1,9}(?<!:\d\d:\d\d\.\d\d\d) -->")  # not filled up with zeros
_DASH = re.compile(r"(?:[-–—][ \t]{0,3}(?=[^\W\d_]|[¿¡“„«])|>>+[ \t]{0,3})")


def read_cues(text: str, path: Path) -> Talk | None:
    """Read subtitles; return `None` if no line has a start and end time.

    Raises:
        CorpusError: a WebVTT file has no subtitles, or no subtitle has a text.
    """
    lines = text.splitlines()
    pattern = _LABEL if _LABEL.match(text[:80].lstrip()) else _TIMES
    times = [pattern.match(line[:80]) for line in lines]
    is_vtt = text.lstrip().startswith("WEBVTT")
    form = (
        "labels" if pattern is _LABEL else "WebVTT" if is_vtt else "SubRip" if any(found and "," in found[1] for found in times) else "cues"
    )
    if not any(times):
        if is_vtt:
            raise CorpusError(f"{path}: WebVTT without cues: no line with times, such as 00:00:01.000 --> 00:00:02.000; export it again")
        return None
    if _ROLLING.search(text):
        lines = _unrolled(lines, times)
    cues, before = _cues(lines, times, is_vtt)
    _name_first_lines(cues, times)
    pieces: list[tuple[Turn, str]] = []  # a turn, and a line of it that may name a speaker
    for start, end, said in cues:
        pieces += [(Turn(text="", speaker=voice, start=start, end=end), line) for voice, line in _voices(said)]
    pieces = [(Turn(text=""), line) for line in before] + pieces
    talk = Talk(form=form, turns=_turns(pieces))
    if not talk.turns:
        raise CorpusError(f"{path}: {form}: {count(len(cues), 'cue')} without text; expected the text of a cue below its times")
    return talk


_Cue = tuple[float | None, float | None, list[str]]


def _cues(lines: list[str], times: list[re.Match[str] | None], is_vtt: bool) -> tuple[list[_Cue], list[str]]:
    """Return the cues (start, end, lines), and the lines before the first cue. These lines can be the end of an incomplete cue."""
    cues: list[_Cue] = []
    before: list[str] = []
    voice = ""
    skipping, closed, outside = is_vtt, False, 0  # inside the head, a note or a style; after the blank line that ends a WebVTT cue
    for number, line in enumerate(lines):
        found, plain = times[number], line.strip()
        if found:
            start, end = seconds(found[1]), seconds(found[2])
            cues.append((start, end, [voice] if voice else []))
            voice = ""
            skipping = closed = False
            rest = line[found.end() :].strip()
            if rest and not _SETTINGS.match(rest):  # text on the same line
                cues[-1][2].append(rest)
        elif not line:
            skipping, closed = False, is_vtt
        elif not plain or skipping:
            continue
        elif _is_id(lines, times, number, is_vtt):
            name = _WEBEX.fullmatch(plain[:200])
            voice = _voice_tag(name[1]) if name else ""
        elif is_vtt and (not cues or closed) and plain.split()[0] in ("NOTE", "STYLE", "REGION"):
            skipping = True
        elif not cues:
            before.append(plain)
        elif closed:
            outside += 1
        else:
            cues[-1][2].append(plain)
    if outside:
        note(f"{count(outside, 'line')} outside of all cues {are(outside)} left out")
    return cues, before


def _is_id(lines: list[str], times: list[re.Match[str] | None], number: int, is_vtt: bool) -> bool:
    """Return whether a line is the number or name of the subtitle whose times are in the next line."""
    if number + 1 >= len(lines) or not times[number + 1]:
        return False
    first = number == 0 or not lines[number - 1].strip()
    return (is_vtt and first) or lines[number].strip().isdecimal()


def _voice_tag(name: str) -> str:
    return f"<v {html.escape(name)}>"


def _name_first_lines(cues: list[_Cue], times: list[re.Match[str] | None]) -> None:
    """Mark a name alone on the first line of a cue (a subtitle) as its speaker, and tell the user in a note.

    Google Meet and old documents of Teams write names in this way.
    """
    said = [lines for _, _, lines in cues]
    if not said or not said[0] or said[0][0].startswith("<v "):
        return
    heads = [_BRACKETED.fullmatch(lines[0]) if len(lines) > 1 else None for lines in said]
    clocks = [found[0] for found in times if found]
    if heads[0] and all("," in clock and ">" not in clock for clock in clocks) and all(is_title(head[1]) for head in heads if head):
        names = [head[1] if head else "" for head in heads]
    elif any(map(_TEAMS.match, clocks)) and all(len(lines) > 1 and is_title(lines[0]) for lines in said):
        names = [lines[0] for lines in said]
    else:
        return
    note("names on the first line of a cue are read as speakers")
    for lines, name in zip(said, names, strict=True):
        if name:
            lines[0] = _voice_tag(name)


def _voices(said: list[str]) -> list[tuple[str, str]]:
    """Return pairs of speaker and text, line by line. A text belongs to the speaker in the last tag `<v NAME>` before the text."""
    found: list[tuple[str, str]] = []
    voice = ""
    for line in said:
        place = 0
        for mark in _VOICE.finditer(line):
            found.append((voice, line[place : mark.start()]))
            voice, place = clean(html.unescape(mark[1])) if mark[1] else "", mark.end()
        found.append((voice, line[place:]))
    plain = [(voice, " ".join(html.unescape(_TAG.sub("", text)).split())) for voice, text in found]
    return [(voice, text) for voice, text in plain if text]


def _turns(pieces: list[tuple[Turn, str]]) -> list[Turn]:
    """Return one utterance per cue (subtitle), and a further utterance whenever the speaker changes within a cue."""
    lines = [line for _, line in pieces]
    found = find_speakers(lines, styles=("colon", "bracket", "angle"))
    if not any(turn.speaker for turn, _ in pieces):
        found = without_strays(lines, found)
    turns: list[Turn] = []
    dashed: set[int] = set()  # another one speaks, nobody says who
    last = None
    for (turn, raw), line in zip(pieces, found, strict=True):
        if turn.speaker:
            turn.text = raw
        else:
            turn.speaker, turn.text = line.name, line.text
            turn.time = line.time if turn.start is None else ""
            if dash := _DASH.match(turn.text[:20]):
                turn.text = turn.text[dash.end() :]
                if not line.name:
                    dashed.add(id(turn))
            elif not line.name and last is not None and (turn.start, turn.end) == (last.start, last.end):
                last.text = f"{last.text} {turn.text}".strip()
                continue
        same = last is not None and turn.start is not None and (turn.start, turn.end) == (last.start, last.end)
        if same and last is not None and turn.speaker == last.speaker != "":
            last.text = f"{last.text} {turn.text}".strip()
            continue
        turns.append(turn)
        last = turn
    turns = [turn for turn in turns if turn.text]
    if doubtful := [line.text for line in found if line.doubtful]:
        what = count(len(doubtful), "line")
        note(f"{what} may name a new speaker; the text is joined to the previous utterance ({one_line(doubtful[0])!r})")
    if any(turn.speaker for turn in turns):
        speaker, taken = "", 0
        for turn in turns:
            if id(turn) in dashed:
                speaker = ""
            taken += not turn.speaker and bool(speaker)
            speaker = turn.speaker = turn.speaker or speaker
        if taken:
            note(f"{count(taken, 'cue')} without a name {are(taken)} assigned to the previous speaker")
    return turns


def _unrolled(lines: list[str], times: list[re.Match[str] | None]) -> list[str]:
    """Remove repeated lines: captions that roll over the screen show a line several times."""
    kept, last, dropped = [], "", 0
    for line, found in zip(lines, times, strict=True):
        plain = "" if found else " ".join(_TAG.sub("", line).split())
        if plain and plain == last:
            kept.append(" ")
            dropped += 1
            continue
        last = plain or last
        kept.append(line)
    if dropped:
        note(f"{count(dropped, 'repeated line')} of rolling captions {are(dropped)} left out")
    return kept
