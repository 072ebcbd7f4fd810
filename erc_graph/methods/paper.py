"""Where a method was published, as data: README, citations, `--help`, method pages and `erc-graph list` are made from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A publication.

    Attributes:
        title: As printed.
        authors: As cited in a sentence, such as `Hu et al.`, or all of them, separated by ` and `.
        venue: Journal or conference with its number or pages.
        year: Of publication.
        url: Of the publication; empty where none is known.
        code: Public code of the authors; empty where none is known.
    """

    title: str
    authors: str
    venue: str
    year: int
    url: str = ""
    code: str = ""

    def __str__(self) -> str:
        """One line.

        >>> print(Paper(title="MMGCN", authors="Hu et al.", venue="ACL", year=2021))
        Hu et al., "MMGCN", ACL, 2021
        """
        return f'{self.authors}, "{self.title}", {self.venue}, {self.year}'
