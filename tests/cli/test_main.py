from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from types import ModuleType

import pytest

from erc_graph import __version__
from erc_graph.cli.main import COMMANDS, main


def test_no_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "erc-graph experiment pairwise" in shown
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert max(map(len, shown.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"erc_graph {__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predikt"], "found 'predikt' (nearest: predict); see erc-graph --help"),
        (["nothing"], "found 'nothing'; see erc-graph --help"),
        (["experiment", "magic"], "method: expected a method that `erc-graph list methods` names, or FILE.py:CLASS, found 'magic'"),
        (["experiment"], "or --method FILE.py:CLASS, found neither; `erc-graph list methods` lists the names"),
        (["corpus", "look", "sample"], "invalid choice: 'look'"),
        (["corpus", "inspect"], "arguments are required: DATA; see erc-graph corpus inspect --help"),
        (["corpus", "inspect", "no\x1b[31mwhere"], r"no\x1b[31mwhere: no such file"),
        (["corpus", "inspect", "sample", "--task", "iemocap9"], "task: unknown 'iemocap9'"),
        (["graph", "sample", "--dialogue", "nix"], "no 'nix' among 600 dialogues"),
        (["graph", "sample", "--first", "0"], "--first: expected a number of conversations of 1 or more"),
        (["graph", "sample", "--out", "a.pdf"], "ending in .png, .svg, .graphml, .html, found 'a.pdf'"),
        (["graph", "sample", "--recipe", "star"], "graph recipe: unknown name 'star'"),
        (["compare", "nowhere"], "expected at least two runs to compare"),
        (["list", "secrets"], "invalid choice: 'secrets'"),
        (["completion", "cmd"], "invalid choice: 'cmd'"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1 and not shown.out and "\x1b" not in shown.err


@pytest.mark.parametrize("command", [*COMMANDS, "corpus convert", "list tasks"], ids=lambda command: f"{command} --help")
def test_every_help_fits_eighty_columns_and_has_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: erc-graph {command}")
    assert max(map(len, shown.splitlines())) <= 80
    assert "examples:\n" in shown or " " in command


def test_an_experiment_gets_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "pairwise", "--pipeline.depth", "0", "--dry-run"]) == 2
    assert "pipeline.depth: expected 1 or more, found 0" in capsys.readouterr().err
    assert main(["experiment", "bigru", "--dry-run"]) == 0
    assert "bigru" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["methods", "recipes", "corpora", "tasks", "formats"])
def test_lists_come_from_the_places_that_know(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    from erc_graph.data.tasks import DEFAULT_TASK, TASKS
    from erc_graph.graphs.recipe import list_recipes
    from erc_graph.methods import METHODS

    assert main(["list", kind, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    known = {"methods": METHODS, "recipes": list_recipes(), "corpora": DEFAULT_TASK, "tasks": TASKS}
    assert set(found) == set(known.get(kind, found)) and len(found) > 1
    assert all(len(words) > 5 and "\n" not in words and "`" not in words for words in found.values())
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == list(found)


def test_a_reader_that_has_enough_is_no_error() -> None:
    code = "from erc_graph.cli.main import main; raise SystemExit(main(['list', 'formats']))"
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import erc_graph.cli.list as module

    def stop() -> dict[str, str]:
        raise KeyboardInterrupt

    monkeypatch.setitem(module.KINDS, "methods", ("words", stop))
    assert main(["list", "methods"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_terminal_without_blocks_gets_hashes() -> None:
    code = "from erc_graph.cli.command import bar; print(bar(0.5, 4), bar(0.001, 4), bar(0, 4) + '.')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, timeout=60).decode() == "## # .\n"


def test_red_only_where_it_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from erc_graph.cli.command import red

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert red("x", Terminal()) == "\x1b[31mx\x1b[0m" and red("x", io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert red("x", Terminal()) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert red("x", Terminal()) == "x"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.run([sys.executable, "-m", "erc_graph", "list", "methods"], stdout=full, stderr=-1, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (2, b"error: standard output: No space left on device\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [("list methods >&-", 0, b""), ("predict --model nowhere - <&-", 2, b"error: "), ("nothing 2>&-", 2, b"")],
)
def test_closed_streams_are_empty_ones(arguments: str, code: int, said: bytes) -> None:
    process = subprocess.run(f"{sys.executable} -m erc_graph {arguments}", shell=True, stderr=-1, timeout=60, check=False)
    assert process.returncode == code and process.stderr.startswith(said) and process.stderr.count(b"\n") == bool(said)


def test_ctrl_c_during_the_first_imports_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "erc_graph.cli.main", Stopped("main"))
    with pytest.raises(SystemExit, match="130"):
        runpy.run_module("erc_graph", run_name="__main__")
    assert capsys.readouterr().err == "stopped\n"
