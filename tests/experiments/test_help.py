"""Help pages: every example of every method is one that the method takes."""

from __future__ import annotations

import shlex

import pytest

from erc_graph.experiments.command import main
from erc_graph.experiments.parser import make_parser
from erc_graph.methods import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_the_examples_of_a_help_page_are_taken(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(method, ["--help"]) == 0
    page = capsys.readouterr().out
    examples = page.split("examples:\n")[1].replace("\\\n", " ")
    commands = [line.strip() for line in examples.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert len(commands) >= 4 and ("--graph" in examples) == hasattr(METHODS[method].Config, "graph")
    for command in commands:
        words = shlex.split(command)
        start = next(i for i, word in enumerate(words) if word.endswith(method)) + 1
        options = [word.replace("--graph", "--pipeline.graph") for word in words[start:]]
        make_parser(method).parse_args(options)
