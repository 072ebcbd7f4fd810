"""Papers as data: what is made from them, for every method that has one."""

from __future__ import annotations

import re

import pytest

from erc_graph.methods import METHODS
from erc_graph.methods.paper import Paper

PAPERS = {name: kind.paper for name, kind in METHODS.items() if kind.paper}


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_is_cited(name: str) -> None:
    paper = PAPERS[name]
    assert paper is not None and 1950 < paper.year < 2100 and "\n" not in str(paper)
    entry = paper.bibtex
    assert entry.count("{") == entry.count("}") and entry.startswith(f"@misc{{{paper.key},\n") and str(paper.year) in entry
    assert re.fullmatch(r"[a-z]+\d{4}[a-z0-9]+", paper.key)


def test_every_paper_has_a_link_but_those_for_which_none_was_found() -> None:
    assert {name for name, paper in PAPERS.items() if paper and not paper.url} == {"hff", "mfdr", "mfrm", "mhdnn", "mpfu"}
    assert all(paper.url.startswith("https://") for paper in PAPERS.values() if paper and paper.url)


def test_keys_are_not_given_twice() -> None:
    assert len({paper.key for paper in PAPERS.values() if paper}) == len(PAPERS) >= 4


@pytest.mark.parametrize(
    ("authors", "expected"),
    [
        ("Hu et al.", "Hu and others"),
        ("Xie, Zhou and Zhu", "Xie and Zhou and Zhu"),
        ("Li, Luo, and Xia", "Li and Luo and Xia"),
        ("Andrew and Zhou", "Andrew and Zhou"),
    ],
)
def test_authors_are_separated_as_bibtex_wants_it(authors: str, expected: str) -> None:
    assert f"author = {{{expected}}}," in Paper(title="T", authors=authors, venue="V", year=2020).bibtex


def test_what_latex_reads_as_commands_is_escaped() -> None:
    entry = Paper(title="A & B: 50 % of C_1", authors="D", venue="E #1", year=2020, url="https://x.y/a_b").bibtex
    assert r"title = {{A \& B: 50 \% of C\_1}}" in entry and r"howpublished = {E \#1}" in entry and "url = {https://x.y/a_b}" in entry
