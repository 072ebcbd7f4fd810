"""Reader of transcripts as text: lines of `Name: text` and similar forms. A name or a time can also be alone on a line."""

from __future__ import annotations

import html
import re
from itertools import pairwise
from pathlib import Path

from erc_graph.data.files.clock import seconds
from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.heads import without_frame
from erc_graph.data.files.transcripts.names import HEAD, STAMP, Line, clean, find_speakers, is_title, without_strays
from erc_graph.data.files.transcripts.talk import EXPECTED, Talk, Turn, are
from erc_graph.data.printable import count, one_line
from erc_graph.errors import CorpusError

# `[Scene: A kitchen.]`, `(They enter.)`, headings and rules of Markdown, `=== Call 2 ===`, the last lines of Otter and Google Meet
_STAGE = re.compile(
    r"[(\[（【].*[)\]）】]|#{1,6} .*|[-=*_~·—–]{3,}|(?P<rule>[-=*_~—–]{3,10}) .* (?P=rule)"
    r"|Transcribed by https?://otter\.ai/?|(?:Transcription|Meeting) ended after \d{1,3}:\d\d:\d\d"
    r"|This editable transcript was computer generated and might contain errors\..*"
)
# `Ann Berg   0:03`, `Ann Berg (00:00:03)`, `Ann, [05.05.2023 15:48]`, alone on a line
_HEADED = re.compile(
    r"(?P<name>[^\d\W][^\[\](){}<>:：\d]{0,60}?(?: \d{1,3})?)"
    r"(?:\s{2,20}|,?\s{1,20}(?=[\[(])|\s{1,3}[—–-]\s{1,3}(?:(?:Today|Yesterday) at )?)[\[(]?"
    r"(?P<time>(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? )?\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,3})?(?: ?[AaPp][Mm])?)[\])]?:?"
)


def read_lines(text: str, path: Path) -> Talk:
    """Read a transcript with lines of `Name: text` or a similar form.

    Raises:
        CorpusError: no line names a speaker.
    """
    lines = _untagged(text).splitlines()
    said = [line.strip() for line in lines]
    staged = [bool(line) and len(line) <= 2000 and _STAGE.fullmatch(line) is not None for line in said]
    kept = without_frame(said, [number for number, line in enumerate(said) if line and not staged[number]])
    if not kept:
        raise CorpusError(f"{path}: no speaker found, only {count(len(lines), 'line')} of headings or stage directions; {EXPECTED}")
    talk = _framed(said, kept) or _headed(said, kept) or _alone(said, staged) or _named(said, kept) or _stamped(said, kept)
    if talk is None:
        number = kept[0]
        raise CorpusError(
            f"{path}: line {number + 1}: no speaker found ({one_line(said[number])!r}); {EXPECTED}; "
            "write the speaker before every utterance, also if there is only one speaker"
        )
    if any(staged):
        note(f"{count(sum(staged), 'line')} without speech (headings, stage directions) {are(sum(staged))} left out")
    between = [
        said[number]
        for number in range(kept[0], kept[-1])
        if staged[number] and (found := _STAGE.fullmatch(said[number])) and found["rule"]
    ]
    if between:
        note(f"a heading between utterances ({one_line(between[0])!r}) is ignored; use one file per conversation")
    return talk


def _named(said: list[str], kept: list[int]) -> Talk | None:
    named = find_speakers([said[number] for number in kept])
    found = without_strays([said[number] for number in kept], named)
    first = next((place for place, line in enumerate(found) if line.name), None)
    if first is None:
        if any(line.name for line in named):
            return Talk(form="lines without speakers", turns=[_turn(line, [line.text]) for line in found if line.text])
        return None
    if first:
        note(f"{count(first, 'line')} before the first speaker {are(first)} left out ({one_line(said[kept[0]])!r})")
    parts: list[tuple[Line, list[str]]] = []
    for line in found[first:]:
        if line.name:
            parts.append((line, [line.text]))
        else:
            parts[-1][1].append(line.text)
            parts[-1][0].until = line.until or parts[-1][0].until
    if joined := sum(line.doubtful for line in found[first:]):
        example = next(line.text for line in found[first:] if line.doubtful)
        note(f"{count(joined, 'line')} may name a new speaker; the text is joined to the previous utterance ({one_line(example)!r})")
    line, longest = max(parts, key=lambda part: len(part[1]))
    if len(longest) > 5 and 2 * len(longest) > len(kept):
        note(f"{len(longest)} of {count(len(kept), 'line')} are one utterance of {one_line(line.name)!r}; check whether others speak in it")
    return Talk(form="transcript", turns=[_turn(line, texts) for line, texts in parts])


def _turn(line: Line, texts: list[str]) -> Turn:
    text = " ".join(part for part in texts if part)
    if line.until:
        return Turn(speaker=line.name, text=text, start=seconds(line.time), end=seconds(line.until))
    return Turn(speaker=line.name, text=text, time=line.time)


_TAG = re.compile(
    r"<(?P<end>/?(?:p|div|br|li))(?:\s[^<>]{0,200})?/?>|</?(?:b|strong|i|em|u|s|span|font)(?:\s[^<>]{0,200})?>", re.IGNORECASE
)


def _untagged(text: str) -> str:
    """Remove HTML tags if most lines have closing tags. The user gets a note on this change."""
    lines = [line for line in text.splitlines() if line.strip()]
    if 2 * sum("</" in line or "<br" in line.lower() for line in lines) <= len(lines):
        return text
    plain, tags = _TAG.subn(lambda tag: "\n" if tag["end"] else "", text)
    if tags:
        note(f"{count(tags, 'tag')} of HTML {are(tags)} left out")
    return html.unescape(plain) if tags else text


_FRAMES = re.compile(r"(\d\d:\d\d:\d\d)[:;]\d\d - (\d\d:\d\d:\d\d)[:;]\d\d")


def _framed(said: list[str], kept: list[int]) -> Talk | None:
    """Read a transcript of Premiere. Each utterance has a line with times (hours, minutes, seconds, frames), a name line and text lines."""
    times = {number: found for number in kept if (found := _FRAMES.fullmatch(said[number][:40]))}
    if kept[0] not in times:
        return None
    blocks: list[tuple[re.Match[str], list[str]]] = []
    for number in kept:
        if number in times:
            blocks.append((times[number], []))
        else:
            blocks[-1][1].append(said[number])
    blocks = [(found, lines) for found, lines in blocks if lines]
    named = all(len(lines) > 1 and is_title(lines[0]) for _, lines in blocks)
    note("frames in the times are not read")
    turns = [
        Turn(speaker=clean(lines[0]) if named else "", text=" ".join(lines[named:]), start=seconds(found[1]), end=seconds(found[2]))
        for found, lines in blocks
    ]
    return Talk(form="transcript with times in frames", turns=turns)


def _headed(said: list[str], kept: list[int]) -> Talk | None:
    """Read a transcript in which each utterance is a line with name and time, followed by lines of text."""
    heads = {number: _head(said[number]) for number in kept}
    taken = set()
    if not any(heads.values()):  # `[3:00 PM] Müller, Max`
        heads |= _stamped_names(said, kept)
    if not any(heads.values()):  # the time below the name
        found = {number: STAMP.fullmatch(said[number]) for number in kept if len(said[number]) <= 40}
        clocks = {number: stamp[1] for number, stamp in found.items() if stamp and not stamp[2]}
        pairs = [(name, time) for name, time in pairwise(kept) if time in clocks and is_title(said[name])]
        if len(pairs) == len(clocks):
            heads |= {name: (said[name], clocks[time]) for name, time in pairs}
            taken = {time for _, time in pairs}
    first = heads[kept[0]]
    if first is None or (sum(map(bool, heads.values())) == 1 and len(kept) == 1):
        return None
    turns: list[tuple[Turn, list[str]]] = []
    for number in kept:
        if head := heads[number]:
            turns.append((Turn(speaker=clean(head[0]), text="", time=head[1]), []))
        elif number not in taken:
            turns[-1][1].append(said[number])
    for turn, texts in turns:
        turn.text = " ".join(texts)
    return Talk(form="transcript, names and times on lines of their own", turns=[turn for turn, _ in turns])


def _head(line: str) -> tuple[str, str] | None:
    """Return the name and the time of a line that contains only a name and a time; `None` for other lines."""
    if len(line) > HEAD:
        return None
    found = _HEADED.fullmatch(line)
    if found:
        return found["name"], found["time"]
    stamp = STAMP.match(line)
    name = line[stamp.end() :].removesuffix(":") if stamp else ""
    return (name, stamp[1]) if stamp and not stamp[2] and _SPEAKER.fullmatch(name) else None


def _stamped_names(said: list[str], kept: list[int]) -> dict[int, tuple[str, str]]:
    """Return the lines such as `[3:00 PM] Ann` (number → name and time), if all lines with a time have this form and a text follows."""
    found = {number: STAMP.match(said[number][:HEAD]) for number in kept}
    if found[kept[0]] is None or found[kept[-1]] is not None or sum(map(bool, found.values())) < 2:
        return {}
    if any(found[one] and found[two] for one, two in pairwise(kept)):
        return {}
    names = {number: (said[number][stamp.end() :], stamp[1]) for number, stamp in found.items() if stamp}
    in_brackets = all(said[number].startswith("[") and is_title(name) for number, (name, _) in names.items())
    return names if in_brackets else {}


_SPEAKER = re.compile(r"(?:Speaker|SPEAKER|Sprecher|Unknown|Participant|Interviewer|Interviewee)[ _]?\d{0,3}")  # `00:00:03 Speaker 1`


def _alone(said: list[str], staged: list[bool]) -> Talk | None:
    """Read a transcript in the form of a play: each utterance is a line with a name in capitals, followed by lines of text."""
    blocks: list[list[str]] = []
    for number, line in enumerate(said):
        if not line or staged[number]:
            if blocks and blocks[-1] and not line:
                blocks.append([])
            continue
        if not blocks:
            blocks.append([])
        blocks[-1].append(line)
    blocks = [block for block in blocks if block]
    heads = [len(block) > 1 and _is_head(block[0]) for block in blocks]
    if sum(heads) < 2 or not heads[0]:
        return None
    turns: list[Turn] = []
    for block, head in zip(blocks, heads, strict=True):
        if head:
            turns.append(Turn(speaker=clean(block[0]), text=" ".join(block[1:])))
        else:
            turns[-1].text = " ".join([turns[-1].text, *block])
    note("names in capitals on a separate line are read as speakers")
    return Talk(form="play", turns=turns)


def _is_head(line: str) -> bool:
    name = clean(line)
    return bool(name) and len(name) <= 40 and len(name.split()) <= 5 and name.isupper() and line[-1] not in ".!?…,;:" and ":" not in line


def _stamped(said: list[str], kept: list[int]) -> Talk | None:
    """Read a transcript without names, in which an utterance begins with a time."""
    stamps = {number: found for number in kept if (found := STAMP.match(said[number][:HEAD]))}
    if kept[0] not in stamps or len(stamps) < 2:
        return None
    turns: list[tuple[Turn, list[str]]] = []
    for number in kept:
        if found := stamps.get(number):
            turns.append((_turn(Line("", "", found[1], found[2] or ""), []), [said[number][found.end() :].strip()]))
        else:
            turns[-1][1].append(said[number])
    for turn, texts in turns:
        turn.text = " ".join(text for text in texts if text)
    return Talk(form="lines with times", turns=[turn for turn, _ in turns if turn.text])
