"""Removal of lines before and after a conversation, such as date, place, participants, the head of a mail, or a summary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.names import before_colon, is_timed
from erc_graph.data.files.transcripts.talk import are
from erc_graph.data.printable import count, one_line

ABOVE = {
    "date", "time", "title", "subject", "topic", "transcript", "transcription", "transcribed by", "transcriber", "from", "to", "cc", "bcc",
    "sent", "reply-to", "participants", "attendees", "present", "speakers", "location", "place", "duration", "length", "project", "meeting",
    "recording", "recorded", "recorded on", "audio", "audio file", "audio source", "file", "filename", "interview", "session", "call",
    "language", "source", "version",
    "datum", "titel", "thema", "betreff", "ort", "dauer", "teilnehmer", "teilnehmende", "projekt", "aufnahme", "audioquelle", "datei",
    "lieu", "titre", "objet", "durée", "fecha", "lugar", "título", "asunto", "duración", "participantes",
}  # fmt: skip
BELOW = {
    "summary", "action items", "actions", "next steps", "decisions", "keywords", "key points", "key takeaways", "takeaways", "to do",
    "to-do", "todo", "follow-ups", "zusammenfassung", "nächste schritte", "résumé", "prochaines étapes", "resumen", "próximos pasos",
}  # fmt: skip
ROLES = {"interviewer", "interviewee", "moderator", "host", "guest", "participant", "speaker", "facilitator", "therapist", "client"}
_MOST = 40  # lines above or below
_NUMBER = re.compile(r" ?#?\d{1,6}$")  # `Interview 12`


def without_frame(said: Sequence[str], kept: Sequence[int]) -> list[int]:
    """Return the line numbers of the conversation, without headings (`ABOVE`) and endings (`BELOW`).

    A heading such as `Date: 3 May` is left out only if the word before the colon occurs once. A word that occurs twice before a colon is a
    speaker. A line such as `Interviewer: Ann`, with a role in `ROLES`, is left out if Ann is a speaker and the text also has a heading such
    as `Date: 3 May`. An unknown word before a colon counts as a heading in a paragraph of headings, or above a conversation whose lines
    have times. The user gets a note with the lines that are left out.

    Args:
        said: All lines of the transcript.
        kept: Numbers (from 0) of the lines that are neither empty nor stage directions.
    """
    names = {number: before_colon(said[number]) for number in kept}
    words = {number: _NUMBER.sub("", name.casefold()) for number, name in names.items() if name}
    times = Counter(name.casefold() for name in names.values() if name)
    people = {word for name in times for word in (name, name.split()[0])}

    def once(number: int, known: set[str]) -> bool:
        return words.get(number) in known and times[names[number].casefold()] == 1

    def introduces(number: int) -> bool:
        who = said[number].partition(":")[2].strip().casefold()
        return once(number, ROLES) and len(who.split()) in (1, 2, 3) and (who in people or who.split()[0] in people)

    has_heading = any(once(number, ABOVE) for number in kept[:_MOST])
    headings = {number for number in kept[:_MOST] if once(number, ABOVE) or (has_heading and introduces(number))}
    top = 0  # how many of `kept` stand above
    for place, number in enumerate(kept[:_MOST]):
        if number in headings:
            top = place + 1
        elif names[number]:
            break
    single = {number for number, name in names.items() if times[name.casefold()] == 1}
    top = max(top, _paragraphs(kept, names, headings, single), _untimed(said, kept, names))
    bottom = len(kept)
    for place in range(len(kept) - 1, max(top, len(kept) - _MOST) - 1, -1):
        if once(kept[place], BELOW):
            bottom = place
        elif names[kept[place]]:
            break
    rest = [*kept[top:bottom]]
    if not any(names[number] for number in rest) and not top:
        return [*kept]  # a list of points, not a talk
    for lines, where in ((kept[:top], "above"), (kept[bottom:], "below")):
        if lines:
            shown = ", ".join(repr(one_line(said[number])) for number in lines[:4]) + (", …" if len(lines) > 4 else "")
            note(f"{count(len(lines), 'line')} {where} the conversation {are(len(lines))} left out ({shown})")
    return rest


def _paragraphs(kept: Sequence[int], names: dict[int, str], headings: set[int], single: set[int]) -> int:
    """Return how many of `kept` are paragraphs of headings at the top; unknown words may be among the headings.

    In such a paragraph no word before a colon occurs twice in the text. More than half of these words are known, or half and the last one.

    Args:
        kept: Numbers of the lines.
        names: Number of a line → word before the colon.
        headings: Numbers of the lines that are known headings.
        single: Numbers of the lines whose word before the colon occurs once.
    """
    top = start = 0
    for end in range(1, min(len(kept), _MOST)):
        if kept[end] == kept[end - 1] + 1:
            continue  # the paragraph goes on
        named = [number for number in kept[start:end] if names[number]]
        known = sum(number in headings for number in named)
        if named and (not single.issuperset(named) or 2 * known < len(named) or (2 * known == len(named) and named[-1] not in headings)):
            break
        top, start = end if named else top, end
    return top


def _untimed(said: Sequence[str], kept: Sequence[int], names: dict[int, str]) -> int:
    """Return how many of `kept` stand above a conversation whose lines have times, although none of them has a time.

    These lines end with the last word before a colon that no line with a time has, or with the paragraph of this word.

    Args:
        said: All lines of the transcript.
        kept: Numbers of the lines.
        names: Number of a line → word before the colon.
    """
    timed = [place for place, number in enumerate(kept) if names[number] and is_timed(said[number])]
    if len(timed) < 2 or not 0 < timed[0] <= _MOST:
        return 0
    first, speakers = timed[0], {names[kept[place]].casefold() for place in timed}
    others = Counter(names[kept[place]].casefold() for place in {*range(first, len(kept))}.difference(timed))
    if any(name in speakers or number > 1 for name, number in others.items() if name):
        return 0  # some utterances have no time
    last = max((place for place in range(first) if names[kept[place]] and names[kept[place]].casefold() not in speakers), default=None)
    if last is None:
        return 0
    return next((place for place in range(last + 1, first) if kept[place] > kept[place - 1] + 1), first)
