"""Reader of files of the annotation tools ELAN, Praat and CHAT. A tier (a layer of annotations) or a participant is a speaker.

The utterances of ELAN and Praat are sorted by time.

Only the standard library is used. The library `pympi-ling` fails on ELAN files without a schema location, which other programs write. It
also accepts document type definitions (DTD) in XML, which may be malicious. The library `praatio` fails on a label that contains
`intervals [`. The two text formats of Praat are simple to read: only numbers, quoted texts and flags (such as `<exists>`) are needed.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.talk import Talk, Turn, are, finite
from erc_graph.data.files.vocabulary import is_about_speech
from erc_graph.data.printable import count, one_line
from erc_graph.errors import CorpusError


def read_tiers(text: str, path: Path) -> Talk | None:
    """Read a file of ELAN, Praat or CHAT; return `None` if the text has another format.

    Raises:
        CorpusError: the file is damaged, has no speech, or is XML that defines a document type or entities.
    """
    start = text[:400].lstrip()
    if start.startswith(("<?xml", "<ANNOTATION_DOCUMENT")):
        return _elan(text, path)
    if "ooTextFile" in start and "TextGrid" in start:
        return _praat(text, path)
    if re.match(r"@(?:UTF8|Begin|Loc|PID|Font|Window)\b", start):
        return _chat(text, path)
    return None


# -- ELAN ------------------------------------------------------------------------------------------------------------------------------


def _elan(text: str, path: Path) -> Talk:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CorpusError(f"{path}: ELAN: defines a document type or entities, which are not read; export the file again")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise CorpusError(f"{path}: ELAN: damaged XML ({str(error)[:100]}); save it again in ELAN") from None
    slots = {slot.get("TIME_SLOT_ID"): finite(slot.get("TIME_VALUE")) for slot in root.iterfind("TIME_ORDER/TIME_SLOT")}
    parents = [tier for tier in root.iterfind("TIER") if tier.get("PARENT_REF") is None]
    tiers = [tier for tier in parents if tier.find("ANNOTATION/ALIGNABLE_ANNOTATION") is not None]
    if left := len(root.findall("TIER")) - len(tiers):
        note(f"ELAN: {count(left, 'tier')} {are(left)} left out (empty, or dependent on another tier)")
    names = [tier.get("PARTICIPANT") or tier.get("TIER_ID") or "" for tier in tiers]
    turns: list[tuple[float, Turn]] = []
    aside = _Aside()
    for tier, name in zip(tiers, names, strict=True):
        last = 0.0
        own: list[tuple[float, Turn]] = []
        for one in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
            start, end = slots.get(one.get("TIME_SLOT_REF1")), slots.get(one.get("TIME_SLOT_REF2"))
            last = last if start is None else start
            said = " ".join((one.findtext("ANNOTATION_VALUE") or "").split())
            if said:
                turn = Turn(text=said, speaker=name, start=None if start is None else start / 1000, end=None if end is None else end / 1000)
                own.append((last, turn))
        _keep(tier.get("TIER_ID") or name, own, turns, aside)
    if len(names) > len(set(names)):
        note(f"ELAN: several tiers of one participant are read as one speaker ({one_line(max(names, key=names.count))})")
    return _by_time("ELAN", turns, aside, path)


# tiers of the Montreal Forced Aligner and of WebMAUS
_ALIGNED = re.compile(r"(?:.{1,60} - )?(?:words?|phones?|phonemes?|syllables?|(?:ORT|KAN|MAU|MAS)(?:-MAU|-MAS)?)", re.IGNORECASE)


class _Aside:
    """Names of tiers (layers of annotations) that do not contain utterances."""

    def __init__(self) -> None:
        self.aligned: list[str] = []  # of a forced aligner
        self.about: list[str] = []  # annotations


def _keep(name: str, own: list[tuple[float, Turn]], turns: list[tuple[float, Turn]], aside: _Aside) -> None:
    """Add the utterances of a tier to `turns`. If the tier has annotations or single words instead, add the tier name to `aside`."""
    if own and is_about_speech(name):
        aside.about.append(name)
    elif _ALIGNED.fullmatch(name[:100]) and 2 * sum(" " in turn.text for _, turn in own) <= len(own):
        aside.aligned.append(name)
    else:
        turns += own


def _by_time(form: str, turns: list[tuple[float, Turn]], aside: _Aside, path: Path) -> Talk:
    for names, what in ((aside.about, "annotations"), (aside.aligned, "words and sounds of a forced aligner")):
        if names and not turns:
            raise CorpusError(f"{path}: {form}: contains only {what} ({one_line(names[0])}); expected a tier per speaker")
        if names:
            shown = ", ".join(one_line(name) for name in names[:8])
            note(f"{form}: {count(len(names), 'tier')} of {what} {are(len(names))} left out ({shown})")
    if not turns:
        raise CorpusError(f"{path}: {form}: contains no annotations with text; expected a tier per speaker")
    return Talk(form=form, turns=[turn for _, turn in sorted(turns, key=lambda pair: pair[0])])


# -- Praat -----------------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(<[a-z]{1,10}>)|(?<![^\s=])(-?\d{1,20}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?)(?=\s|$)|!.*')


class _Tokens:
    """Iterator over the quoted texts, numbers and flags (such as `<exists>`) in a TextGrid file of Praat."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self.tokens = [(found[1], found[2], found[3]) for found in _TOKEN.finditer(text) if found.lastindex]
        self.place = 0

    def text(self) -> str:
        return self._next(0, "a text").replace('""', '"')

    def number(self) -> float:
        return float(self._next(2, "a number"))

    def flag(self) -> str:
        return self._next(1, "a flag")

    def _next(self, kind: int, what: str) -> str:
        found = self.tokens[self.place] if self.place < len(self.tokens) else (None, None, None)
        self.place += 1
        if found[kind] is None:
            raise CorpusError(
                f"{self.path}: Praat TextGrid: truncated or damaged; expected {what} as value {self.place}; save it again in Praat"
            )
        return str(found[kind])


def _praat(text: str, path: Path) -> Talk:
    tokens = _Tokens(text, path)
    tokens.text()  # "ooTextFile"
    tokens.text()  # "TextGrid"
    tokens.number()
    tokens.number()
    size = int(tokens.number()) if tokens.flag() == "<exists>" else 0
    turns: list[tuple[float, Turn]] = []
    aside = _Aside()
    points = 0
    for _ in range(min(size, len(tokens.tokens))):
        kind, name = tokens.text(), " ".join(tokens.text().split())
        tokens.number()
        tokens.number()
        own: list[tuple[float, Turn]] = []
        for _ in range(min(int(tokens.number()), len(tokens.tokens))):
            start = tokens.number()
            end = tokens.number() if kind == "IntervalTier" else None
            said = " ".join(tokens.text().split())
            if kind != "IntervalTier":
                points += bool(said)
            elif said:
                own.append((start, Turn(text=said, speaker=name, start=start, end=end)))
        _keep(name, own, turns, aside)
    if points:
        note(f"Praat TextGrid: {count(points, 'point')} with a mark {are(points)} left out; only intervals are read")
    return _by_time("Praat TextGrid", turns, aside, path)


# -- CHAT ------------------------------------------------------------------------------------------------------------------------------

_MEDIA = re.compile(r"\x15(?:[^\x15\d]{0,80})(\d{1,12})_(\d{1,12})\x15")
_CODES = re.compile(
    r"\[[=%!?*/+^<>x][^\[\]]{0,200}\]|\[/{1,3}\]|&[=~+*-]\S{0,60}|\+[\"/.,<^!?]{1,3}|[<>‡„↑↓]|\bxxx\b|\byyy\b|\bwww\b|@\w{1,5}\b"
)


def _chat(text: str, path: Path) -> Talk:
    names: dict[str, str] = {}
    turns: list[Turn] = []
    current: list[str] = []
    tier = ""
    for line in [*text.splitlines(), "@End"]:
        if line[:1] in ("\t", " "):
            current.append(line.strip())
            continue
        if tier == "*" and turns:
            _chat_text(turns[-1], " ".join(current))
        tier, head, current = line[:1], line[1:].partition(":")[0].strip(), [line.partition(":")[2].strip()]
        if line.startswith("@Participants:"):
            for one in line.partition(":")[2].split(","):
                words = one.split()
                if words:
                    names[words[0]] = words[1].replace("_", " ") if len(words) > 2 else words[0]
        elif tier == "*":
            turns.append(Turn(text="", speaker=names.get(head, head)))
    turns = [turn for turn in turns if turn.text]
    if not turns:
        raise CorpusError(f"{path}: CHAT: no main tiers with text; expected lines that begin with a speaker, such as `*ANN:`, and a tab")
    note("CHAT: transcription codes are removed from the text; dependent tiers (%) are not read")
    return Talk(form="CHAT", turns=turns)


def _chat_text(turn: Turn, line: str) -> None:
    times = _MEDIA.findall(line)
    if times:
        turn.start, turn.end = int(times[0][0]) / 1000, int(times[-1][1]) / 1000
    plain = _CODES.sub(" ", _MEDIA.sub(" ", line)).replace("\x15", " ")
    turn.text = re.sub(r" ([.?!,;:])", r"\1", " ".join(plain.split())).strip()
    if not any(letter.isalnum() for letter in turn.text):
        turn.text = ""
