"""Data of a method's publication, from which README, citations, help texts, method pages and `erc-graph list` are generated."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

SMALL = ("a", "an", "and", "for", "from", "in", "of", "on", "the", "to", "towards", "with")  # words that no key begins with


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A publication.

    Attributes:
        title: Title as printed.
        authors: Authors as cited in a sentence, such as `Hu et al.`, or all authors, separated by commas and `and`.
        venue: Journal or conference with its number or pages.
        year: Year of publication.
        url: Address of the publication; empty: unknown.
        code: Address of the authors' public code; empty: unknown.
        after: Whether too little is known about the method for a faithful implementation. The method then follows the paper only in part,
            and its docstring lists the guesses.
    """

    title: str
    authors: str
    venue: str
    year: int
    url: str = ""
    code: str = ""
    after: bool = False

    def __str__(self) -> str:
        """Return the citation in one line.

        >>> print(Paper(title="MMGCN", authors="Hu et al.", venue="ACL", year=2021))
        Hu et al., "MMGCN", ACL, 2021
        >>> print(Paper(title="A Title", authors="Hu et al.", venue="ACL", year=2021, after=True))
        after Hu et al., "A Title", ACL, 2021
        """
        return f'{"after " if self.after else ""}{self.authors}, "{self.title}", {self.venue}, {self.year}'

    @property
    def key(self) -> str:
        """Return the key of the BibTeX entry, which contains the first author's family name, the year, and the first word of the title.

        >>> Paper(title="The MM-DFN Network", authors="Dvořák, Hu and Li", venue="ICASSP", year=2022).key
        'dvorak2022mmdfn'
        """
        words = [re.sub(r"[^a-z0-9]", "", _ascii(word).lower()) for word in self.title.split()]
        title = next((word for word in words if word and word not in SMALL), "")
        return re.sub(r"[^a-z]", "", _ascii(re.split(r", | and | et al", self.authors)[0]).lower()) + f"{self.year}{title}"

    @property
    def bibtex(self) -> str:
        """Return the BibTeX entry.

        >>> print(Paper(title="MMGCN", authors="Hu, Liu and Zhao", venue="ACL", year=2021, url="https://aclanthology.org").bibtex)
        @misc{hu2021mmgcn,
          title = {{MMGCN}},
          author = {Hu and Liu and Zhao},
          howpublished = {ACL},
          year = {2021},
          url = {https://aclanthology.org},
        }
        """
        names = [name for name in re.split(r", (?:and )?| and ", self.authors.replace(" et al.", " and others")) if name]
        fields = {
            "title": f"{{{_escaped(self.title)}}}",
            "author": _escaped(" and ".join(names)),
            "howpublished": _escaped(self.venue),
            "year": str(self.year),
            **({"url": self.url} if self.url else {}),
        }
        return "\n".join([f"@misc{{{self.key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


def _ascii(text: str) -> str:
    """Return the text without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _escaped(text: str) -> str:
    """Escape the special characters of LaTeX."""
    return re.sub(r"([&%#_$])", r"\\\1", text)
