"""Detection of the encodings Windows-1250, Windows-1254 and Windows-1252 by the spelling of words.

Almost every byte of a Polish, Czech, Hungarian or Turkish text in these encodings is also a character of Windows-1252. The bytes alone
therefore do not identify the encoding. The words identify the encoding:

- In the right encoding, all words consist of letters of one language.
- In the wrong encoding, some words can have combinations of characters that no Western language has (`pøíští`, `mo¿e`, `gülüþ`).
- In the wrong encoding, many words can have accents, but no single Western language has all these accented letters.

If one Western language has all letters of the words, the text is read as Windows-1252.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# Letters of ASCII and all that is a letter in one of the encodings; quotes, dashes, spaces and the like are none in any.
_WORD = re.compile(rb"[A-Za-z\x81\x83\x88\x8a\x8c-\x90\x98\x9a\x9c-\x9f\xa1-\xa6\xa8-\xaa\xac\xae\xaf\xb1-\xb3\xb5\xb6\xb8-\xba\xbc-\xff]+")
_SIGNS = "¡¿£¥¢¤¦¨©¬®¯±²³´µ¶¸¹ªº¼½¾×÷ƒˆ˜ˇ˘˝˙˛"  # before or behind a word, in its letters never
_MOST = 2000  # different words: enough to tell, and quick
_SPELT = 0.95  # of the words with such letters: names from elsewhere and slips are left
_FEW, _MANY = 0.2, 5  # such words among all, as no Western language has them by foreign names alone; and different ones


class _Language(NamedTuple):
    """A language: its letters beyond ASCII, and a regular expression of letter sequences that never occur in its words."""

    name: str
    letters: str
    never: str = r"(?!)"
    needed: str = ""  # without one of these the text is in another language


_CENTRAL = (
    _Language("Polish", "ąćęłńóśźż"),
    _Language("Czech", "áčďéěíňóřšťúůýž"),
    _Language("Slovak", "áäčďéíĺľňóôŕšťúýž"),
    _Language("Hungarian", "áéíóöőúüű"),
    _Language("Romanian", "ăâîşţ"),
    _Language("Croatian", "čćđšž"),
)
_OTHERS: dict[str, tuple[_Language, ...]] = {  # encoding → languages that are written in it
    "cp1250": _CENTRAL,
    "iso8859_2": _CENTRAL,
    "cp1254": (_Language("Turkish", "çğıİöşüâîû", needed="ı"),),
}
_WESTERN = (
    _Language("German", "äöüßéà"),
    _Language("French", "àâçéèêëîïôœùûüÿ", never=r"[œê]$"),
    _Language("Spanish", "áéíñóúüïç"),
    _Language("Catalan", "àçèéíïòóúü"),
    _Language("Portuguese", "ãáàâçéêíóôõúü", never=r"õ(?!e)"),
    _Language("Italian", "àèéìíîòóùú"),
    _Language("Swedish", "åäöéüàæøšž"),
    _Language("Danish", "æøåéèêóòôâü"),
    _Language("Dutch", "äëïöüéèêóúáí"),
    _Language("Estonian", "äõöüšž"),
    _Language("Icelandic", "áðéíóúýþæö", never=r"þ$|^ð", needed="áíóúæ"),
    _Language("Faroese", "áðíóúýæø", never=r"^ð", needed="áíóúæ"),
)


@dataclass(frozen=True)
class Spelling:
    """A possible encoding of a text, and the language to which the decoded words belong.

    Attributes:
        encoding: Name of the encoding in Python.
        language: Name of the language.
        sure: Whether the words determine the encoding without doubt.
    """

    encoding: str
    language: str
    sure: bool


def spellings(content: bytes) -> list[Spelling]:
    """Return the encodings in which the words of a text belong to one language, the most likely encoding first.

    If Windows-1252 is possible, the list contains only Windows-1252.

    >>> found = spellings("Może później. Dziękuję, żegnaj, miły człowieku!".encode("cp1250"))
    >>> found[0].encoding, found[0].language, found[0].sure
    ('cp1250', 'Polish', True)
    >>> spellings("Señor, ¿qué pasó?".encode("cp1252"))
    [Spelling(encoding='cp1252', language='Spanish', sure=True)]
    """
    every = _WORD.findall(content)
    words = dict(Counter(word for word in every if not word.isascii()).most_common(_MOST))
    plain = sum(count * sum(byte < 128 for byte in word) for word, count in words.items())
    if not words or 2 * plain < sum(count * len(word) for word, count in words.items()):
        return []  # in all these languages most letters are those of ASCII
    western = {word: word.decode("cp1252", "replace") for word in words}
    known = _spoken(_WESTERN, "".join(western.values()))
    strange = {word for word, text in western.items() if not any(_spelt(text, language) for language in known)}
    shares = {language.name: _share(western, words, language) for language in known}
    best = max(shares, key=shares.__getitem__)
    if shares[best] >= _SPELT:
        return [Spelling("cp1252", best, True)]
    dense = shares[best] <= 0.75 and len(words) >= _MANY and sum(words.values()) >= _FEW * len(every)
    found: list[tuple[float, Spelling]] = []
    for encoding, languages in _OTHERS.items():
        texts = {word: word.decode(encoding, "replace") for word in words}
        other = {word for word in words if texts[word] != western[word]}
        proof = len(strange & other)
        sure = proof > 1 or (proof == 1 and len(words) > 2) or (dense and len(other) > 1)
        for language in _spoken(languages, "".join(texts.values())) if other else ():
            share = _share(texts, words, language)
            if share >= _SPELT:
                found.append((share, Spelling(encoding, language.name, sure)))
    found.sort(key=lambda one: (-one[1].sure, -one[0]))
    return [one for _, one in found]


def _spoken(languages: tuple[_Language, ...], text: str) -> list[_Language]:
    return [language for language in languages if not language.needed or any(letter in text for letter in language.needed)]


def _share(texts: dict[bytes, str], words: dict[bytes, int], language: _Language) -> float:
    """Return the share of the words that are spelt as in a language, from 0 to 1."""
    return sum(count for word, count in words.items() if _spelt(texts[word], language)) / sum(words.values())


def _spelt(word: str, language: _Language) -> bool:
    """Return whether a word is spelt as in a language: its letters, their sequences and capitals occur in this language."""
    core = word.strip(_SIGNS)
    return (
        all(c.isascii() or c in language.letters or c.lower() in language.letters for c in core)
        and not any(a.islower() and b.isupper() and not b.isascii() for a, b in pairwise(core))
        and not re.search(language.never, core.lower())
    )
