"""Recognition of speaker names that are written before an utterance or alone on a line.

All patterns are applied only to the first `HEAD` characters of a line. The time per line is therefore limited.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.talk import are
from erc_graph.data.printable import count, one_line

HEAD = 160  # characters of a line in which time and name stand
LONGEST_NAME = 64
_MOST_WORDS = 6, 12  # of a name, and of one that is written with capital letters
_CLOCK = r"\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?:[ \u202f]?[AaPp]\.?[Mm]\b\.?)?"
# `[00:12] `, `(1:02:03) - `, `00:00:03.120 --> 00:00:05.000 `
STAMP = re.compile(rf"[\[(<]?({_CLOCK})(?: {{0,3}}(?:-->|->|-|–|—|to) {{0,3}}({_CLOCK}))?[\])>]?[ \t]{{0,8}}(?:[-–—|][ \t]{{1,8}})?")
_HASHED = re.compile(r"(?:^|\s)#(\d{1,2}:\d\d:\d\d)[-.,](\d{1,3})#(?=\s|$)")  # `#00:00:05-2#` of f4 and MAXQDA
_BRACKETED = re.compile(rf"\[({_CLOCK})\]\s{{0,8}}")  # `Ann: [00:00:03] Hi` of Sonix
_BULLET = re.compile(r"(?:[-–—•*·‣▪>]{1,3}[ \t]{1,8}|\d{1,4}[.)][ \t]{1,8}|#{1,6}[ \t]{1,8}|>>+[ \t]{0,8})")
_ASIDE = re.compile(r"\s{0,8}[(\[（【{][^()\[\]（）【】{}]{0,60}[)\]）】}]$")
_WHOLE = re.compile(r"[\[(<{（【]([^\[\](){}<>（）【】]{1,64})[\])>}）】]")
_IN_QUOTES = re.compile(r"[\"“„«]([^\"“”„«»]{1,64})[\"”“»]")
_TIME_INSIDE = re.compile(rf"([^:：\[\](){{}}<>\"\n]{{1,64}})[\[(]({_CLOCK})[\])] {{0,3}}[:：](?=\s)")  # `Ann [00:12]: Hi`
_OWN = re.compile(r"(?:\*{1,3}|-!-|-->|<--|→|←)\s")  # what a chat of `<name> text` says itself: who joined, left, does something
_NUMBER = re.compile(r"\s{0,4}(\d{1,5})[ \t]{1,30}(?=\S)")
_QUESTION = re.compile(r"([QA])\.[ \t]{1,20}(?=\S)")  # question and answer in the record of a court
_SENT = re.compile(r"From (.{1,50}?)(?: [Tt]o .{1,40})?")  # the chat of Zoom
_COLON = re.compile(r"(?P<name>[^:：\n\"“”]{1,100}?)(?P<mark>[:：])(?P<bold>[*_]{0,3})(?P<space>\s|$)?")
_QUOTED = re.compile(r"[\"“„«](?P<name>[^:：\n\"“”„«»]{1,64})[\"”“»](?P<mark>[:：])(?P<bold>)(?P<space>\s|$)?")  # `"Ann": Hi`
_SCHEME = re.compile(r"\b(?:https?|s?ftp|file|wss?|ssh|git|s3)$", re.IGNORECASE)  # `see http` of `see http://…`
_STYLES = {
    "arrow": re.compile(r"(?P<name>[^\s<>:][^<>:]{0,40})> (?=\S|$)"),
    "angle": re.compile(r"<(?P<name>[^<>/]{1,40})>[:：]?\s+"),
    "tab": re.compile(r"(?P<name>[^\t]{1,64})\t+(?=[^\t]*$)"),
    "bracket": re.compile(r"[\[](?P<name>[^\[\]]{1,40})[\]][ \t]+(?=\S)"),
    "bold": re.compile(r"[*_]{2,3}(?P<name>[^*_]{1,64})[*_]{2,3}\s+(?=\S)"),
}
_PARTICLES = {
    "van", "von", "de", "der", "den", "di", "da", "del", "della", "dos", "du", "la", "le", "el", "al", "bin", "ibn", "ben", "the", "of",
    "and", "und", "et", "y", "e", "i", "en", "&", "+",
}  # fmt: skip
NO_NAMES = {  # what stands before a colon and is nobody, where it does so once
    "note", "ps", "p.s", "p.p.s", "nb", "n.b", "remember", "example", "update", "edit", "subject", "re", "fw", "fwd", "cc", "bcc",
    "warning", "tip", "reminder", "todo", "link", "source", "ah", "oh", "so", "but", "and", "now", "well", "question is", "btw", "fyi",
}  # fmt: skip


@dataclass(slots=True)
class Line:
    """A line of a transcript: the name at the beginning (empty if there is no name), the start and end time, and the text."""

    name: str
    text: str
    time: str = ""
    until: str = ""
    doubtful: bool = False  # it looks like a new speaker, but is read as a part of the turn before


def clean(name: str) -> str:
    """Return a name without formatting marks, bullets, stage directions and invisible characters.

    >>> clean("- **Dr. Mary-Jane O'Neil** (on the phone, upset)"), clean("[SPEAKER_00]"), clean("~ Cleo")
    ("Dr. Mary-Jane O'Neil", 'SPEAKER_00', 'Cleo')
    """
    name = " ".join("".join(letter for letter in name if unicodedata.category(letter) != "Cf" or letter == "\u200d").split())
    for _ in range(3):
        before = name
        name = name.strip().strip("*_`").strip()
        if bullet := _BULLET.match(name):
            name = name[bullet.end() :]
        name = re.sub(r"^(?:[~>#•@]\s{0,3}|[+%](?=[^\W\d]))", "", name)  # `+bob` may speak in a room of IRC
        if (whole := _WHOLE.fullmatch(name) or _IN_QUOTES.fullmatch(name)) is not None:
            name = whole[1]
        while (aside := _ASIDE.search(name[-80:])) and aside.start() + max(len(name) - 80, 0) > 0:
            name = name[: max(len(name) - 80, 0) + aside.start()]
        if name == before:
            break
    sent = _SENT.fullmatch(name)
    return (sent[1] if sent else name).strip()


def is_title(line: str) -> bool:
    """Return whether a line may consist of a name only: few words with capital letters, and not a sentence.

    >>> is_title("Müller, Max"), is_title("Hi there."), is_title("so it is")
    (True, False, False)
    """
    words = line.split()
    return 0 < len(words) <= 4 and len(line) <= 40 and line[-1] not in ".!?…,;:" and not any(word[0].islower() for word in words)


def say_cleaned(pairs: Counter[tuple[str, str]]) -> None:
    """Tell the user in a note which names were cleaned by `clean`.

    `pairs` counts how often each pair of a name in the file and its cleaned name occurs.
    """
    changed = [(raw, name) for raw, name in pairs if " ".join(raw.split()) != name]
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        note(f"names are cleaned; {one_line(changed[0][0])!r} is read as {one_line(changed[0][1])!r}{more}")


def find_speakers(lines: Sequence[str], *, styles: Sequence[str] = ("colon", *_STYLES)) -> list[Line]:
    """Find the speaker of every line. Names can be written in several styles, such as `Ann: Hi`; the style of most lines is used.

    A line `Name: text` begins an utterance if the words before the colon occur several times or are written like a name. The words of a
    name begin with capital letters, unless the script has no capital letters. Other lines with a colon are `doubtful`: the words before the
    colon may be a name or part of a sentence.
    """
    lines = _questions(_unnumbered(lines))
    parts = [_split(line) for line in lines]
    found = {style: [_match(style, body) for _, _, body in parts] for style in styles}
    accepted = {style: _accepted(style, matches) for style, matches in found.items()}
    best = max(styles, key=lambda style: (sum(accepted[style]), -list(styles).index(style)))
    pairs: Counter[tuple[str, str]] = Counter()
    result, own = [], 0
    for line, (time, until, body), match, sure in zip(lines, parts, found[best], accepted[best], strict=True):
        if match and sure:
            pairs[match[0], match[1]] += 1
            said = match[2].strip().removesuffix("**").strip()
            if not time and (stamp := _BRACKETED.match(said[:HEAD])):
                time, said = stamp[1], said[stamp.end() :]
            result.append(Line(match[1], said, time, until))
        elif best == "angle" and _OWN.match(body):
            result.append(Line("", "", time, until))
            own += 1
        else:
            marked = line.lstrip()[:1] in ("[", "(", "<", "#") or (until and line.rstrip()[-1:] == "#")
            said = body if not body.strip() or marked else line  # `12:30 it was` is a sentence
            result.append(Line("", said.strip(), time, until, doubtful=match is not None and best == "colon" and match[3]))
    if own:
        note(f"{count(own, 'line')} of the chat program (joining, leaving, actions) {are(own)} left out")
    if best == "tab":
        note("no line names the columns, so the first of two columns is read as the speaker")
    say_cleaned(pairs)
    return result


def without_strays(lines: Sequence[str], found: Sequence[Line]) -> list[Line]:
    """Return `found` without false names, such as the word before the colon in `Look: no hands`.

    All names are false if most lines and the first line have no name, no name occurs twice, and no name is in capitals. Otherwise the user
    gets a note on names that occur only once. `found` is the result of `find_speakers` for `lines`.
    """
    times = Counter(line.name.casefold() for line in found if line.name)
    single = [line for line in found if line.name and times[line.name.casefold()] == 1]
    if not single or (len(single) == len(times) and (len(found) < 4 or found[0].name or 2 * len(single) >= len(found))):
        return [*found]
    example = one_line(single[0].name)
    if len(single) < len(times):
        if times.total() >= 6:
            note(f"{count(len(single), 'name')} {'occurs' if len(single) == 1 else 'occur'} only once (such as {example!r})")
    elif not any(line.name.isupper() for line in single):
        note(f"no name occurs twice, so {example!r} and all other words before a colon are read as text")
        return [Line("", _split(raw)[2], line.time, line.until) if line.name else line for raw, line in zip(lines, found, strict=True)]
    return [*found]


def _unnumbered(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines without line numbers (such as in `01 Ann: Hi`), if most numbers are consecutive."""
    numbers = [int(found[1]) if (found := _NUMBER.match(line[:40])) else None for line in lines]
    pairs = list(pairwise(numbers))
    if len(lines) < 2 or 2 * sum(a is not None and b == a + 1 for a, b in pairs) < len(pairs):
        return lines
    note("numbers at the beginning of lines are left out")
    return [line if number is None else line.lstrip().lstrip("0123456789").lstrip() for line, number in zip(lines, numbers, strict=True)]


def _questions(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines with `Q:` and `A:` in place of `Q.` and `A.`, if lines begin with `Q.` and with `A.`."""
    found = [_QUESTION.match(line.lstrip()[:40]) for line in lines]
    if {mark[1] for mark in found if mark} != {"Q", "A"}:
        return lines
    note("Q. and A. at the beginning of lines are read as speakers")
    return [f"{mark[1]}: {line.lstrip()[mark.end() :]}" if mark else line for line, mark in zip(lines, found, strict=True)]


def _split(line: str) -> tuple[str, str, str]:
    """Return start time, end time and text of a line. Times are at the beginning, or between hash signs (`#`) at the end."""
    stripped = line.strip()
    first = _HASHED.match(stripped[:20])
    last = _HASHED.search(stripped, max(first.end() if first else 0, len(stripped) - 20))
    if first or last:
        said = stripped[first.end() if first else 0 : last.start() if last else len(stripped)]
        time, until = (f"{mark[1]}.{mark[2]}" if mark else "" for mark in (first, last))
        return time, until, said.strip()
    bullet = _BULLET.match(stripped[:HEAD])
    for start in (0, bullet.end()) if bullet else (0,):
        if stamp := STAMP.match(stripped[start : start + HEAD]):
            return stamp[1], stamp[2] or "", stripped[start + stamp.end() :]
    if inside := _TIME_INSIDE.match(stripped[:HEAD]):
        return inside[2], "", f"{inside[1]}: {stripped[inside.end() :]}"
    return "", "", stripped


_Match = tuple[str, str, str, bool]  # the name as it stands, cleaned, what is said, and whether there is a space after the colon


def _match(style: str, body: str) -> _Match | None:
    head = body[:HEAD]
    if style != "colon":
        found = _STYLES[style].match(head)
        name = clean(found["name"]) if found else ""
        return (found["name"], name, body[found.end() :], True) if found and _is_name(name) else None
    found = _QUOTED.match(head) or _COLON.match(head)
    if not found:
        return None
    raw, spaced = head[: found.start("mark")].strip(), found["space"] is not None or found["mark"] == "："
    raw += found["bold"]
    name = clean(raw)
    rest = body[found.end() :]
    address = not spaced and rest.startswith("//") and _SCHEME.search(raw)
    if "\t" in raw or not _is_name(name) or address or (not spaced and name[-1:].isdigit() and rest[:1].isdigit()):
        return None
    return raw, name, rest, spaced


def before_colon(line: str) -> str:
    """Return the cleaned name before the colon of a line; empty if there is no name."""
    found = _match("colon", _split(line)[2])
    return found[1] if found and found[3] and (_capital(found[1]) or len(found[1].split()) <= 2) else ""


def is_timed(line: str) -> bool:
    """Return whether a line has a time at its beginning or end, or around the name.

    >>> is_timed("[00:12] Ann: Hi"), is_timed("Ann: [00:12] Hi"), is_timed("Date: 5 May, 10:30")
    (True, True, False)
    """
    time, until, body = _split(line)
    if time or until:
        return True
    found = _match("colon", body)
    return found is not None and _BRACKETED.match(found[2].strip()[:HEAD]) is not None


def _is_name(name: str) -> bool:
    if not name or len(name) > LONGEST_NAME or not any(letter.isalnum() for letter in name):
        return False
    few, many = _MOST_WORDS
    return len(name.split()) <= (many if _capital(name) else few)


def _accepted(style: str, matches: Sequence[_Match | None]) -> list[bool]:
    """Return for each line whether the line begins an utterance, given the names that were found in one style."""
    times = Counter(match[1].casefold() for match in matches if match and match[3])
    sure = {match[1].casefold() for match in matches if match and match[3] and _capital(match[1])}
    sure -= {name for name in sure if name.strip(".") in NO_NAMES and times[name] == 1 and len(sure) > 1}
    if style == "colon":
        names = sure | {name for name, number in times.items() if number > 1}
        if not sure:  # all names are written small
            names |= {name for name in times if len(name.split()) <= 3}
        if not names:  # no space after any colon
            close = Counter(match[1] for match in matches if match)
            names = {name.casefold() for name in close if _capital(name) or close[name] > 1}
        return [match is not None and match[1].casefold() in names for match in matches]
    found = [match for match in matches if match]
    if style in ("tab", "bracket", "arrow", "bold") and 2 * len(found) <= len(matches):
        return [False] * len(matches)  # a letter, a list, a stage direction here and there
    return [match is not None for match in matches]


def _capital(name: str) -> bool:
    """Return whether a text is written like a name: all words begin with capitals; particles such as "van" in the middle need not."""
    words = name.split()
    small = [word[0].islower() for word in words]
    return not small[0] and not small[-1] and all(not is_small or word in _PARTICLES for word, is_small in zip(words, small, strict=True))
