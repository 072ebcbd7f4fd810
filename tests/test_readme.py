from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_are_those_of_the_recorded_results() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.readme", "--check"], cwd=ROOT, timeout=120)
    assert done.returncode == 0, "README.md is stale: run `make tables`"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", prose)
    assert links or page.name not in ("README.md", "index.md")
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert not [line for line in prose.splitlines() if len(line) > 200 and not line.startswith("|")]


def test_every_recipe_stands_in_the_table_of_recipes() -> None:
    from erc_graph.graphs.recipe import list_recipes

    text = (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")
    table = text.partition("\n## The recipes\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == sorted(list_recipes())


def test_the_changelog_has_one_short_section_per_release() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, flags=re.M)
    assert titles[0] == "[Unreleased]" and all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title) for title in titles[1:])
    assert len(titles) == len(set(titles))
    for release in re.split(r"^## .*$", text, flags=re.M)[1:]:
        bullets = re.findall(r"^- .*(?:\n  .*)*", release, flags=re.M)
        assert len(bullets) <= 25 and all(bullet.count("\n") < 2 for bullet in bullets)
    assert max(map(len, text.splitlines())) <= 200


def test_the_citation_is_of_the_latest_release() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version, day = re.findall(r"^(?:version|date-released): (.*)$", citation, flags=re.M)
    latest = re.search(r"^## (\[\d.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert latest and latest[1] == f"[{version}] - {day}"
    assert re.search(r"^cff-version: 1\.2\.0$", citation, flags=re.M) and citation.count("  - type:") == 4
