"""A method in a user's own file: loaded where it is named, and refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.methods import METHODS
from erc_graph.methods.own_file import absolute, find_method, is_own, load_method, own_parts, same_method, short_name
from erc_graph.methods.schema import Schema

OWN = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
from beside_it import WIDTH
from erc_graph.methods.base import Method
from erc_graph.methods.parts import Turn

@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    dropout: float = 0.1

class Own(Method):
    Config = OwnConfig

    def parts(self, config, shapes):
        yield Turn(shapes.widths)

class NoMethod:
    pass

number = WIDTH
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside_it.py").write_text("WIDTH = 3\n")
    (tmp_path / "my_method.py").write_text(OWN)
    return tmp_path / "my_method.py"


def test_a_file_is_loaded_once_and_anew_where_it_has_changed(file: Path) -> None:
    found = load_method(f"{file}:Own")
    network = found(Schema.of(corpus := sample_corpus(dialogues=3)))
    assert network(network.schema.batch(corpus)).scores.shape == (corpus.utterances, 6)
    assert load_method(f"{file}:Own") is found and find_method(f"{file}:Own") is found
    assert "my_method" not in sys.modules and str(file.parent) not in sys.path
    file.write_text(OWN.replace("0.1", "0.2"))
    assert load_method(f"{file}:Own").Config().dropout == 0.2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:Own", r"method: expected a Python file and a class, such as my_method.py:Own, found no file .*nowhere.py"),
        ("my_method.py:Other", r"expected my_method.py:CLASS, found no class 'Other'; the file has Own$"),
        ("my_method.py", r"expected my_method.py:CLASS, found no class name; .* has Own$"),
        (
            "my_method.py:NoMethod",
            r"my_method.py: NoMethod: expected a subclass of erc_graph.methods.base.Method, found a class",
        ),
        ("my_method.py:number", r"my_method.py: number: expected a subclass of .*, found a value of type int"),
        ("notes.txt:Own", r"expected a Python file \(.py\), found .*notes.txt"),
    ],
)
def test_what_is_no_method_is_refused(name: str, message: str, file: Path) -> None:
    (file.parent / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=message) as refusal:
        load_method(str(file.parent / name))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("def f(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_a_file_that_fails_shows_its_own_traceback_once(text: str, words: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("# a line\n" + text)
    with pytest.raises(ConfigError, match=rf"my_method.py: cannot be imported \({words}") as refusal:
        load_method(f"{file}:Own")
    assert "\n" not in str(refusal.value)
    shown = capsys.readouterr().err
    assert words in shown and shown.count("my_method.py") == 1 and "own_file.py" not in shown and "importlib" not in shown
    file.write_text(OWN)
    assert load_method(f"{file}:Own").__name__ == "Own", "what failed is not kept"


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError,
        match=r"method: expected a method that .*, or FILE\.py:CLASS, found 'pairwize' \(nearest: pairwise\)",
    ):
        find_method("pairwize")
    assert find_method("hff") is METHODS["hff"]


def test_names(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_own("a.py") and is_own("a.py:B") and not is_own("bigru")
    assert own_parts("a/b.py:C") == (Path("a/b.py"), "C") and own_parts("a/b.py") == (Path("a/b.py"), "")
    assert short_name("a/b.py:C") == "C" and short_name("a/b.py") == "b" and short_name("bigru") == "bigru"
    assert same_method("a/b.py:C", "b.py:C") and not same_method("b.py:C", "b.py:D") and not same_method("b.py:C", "C")
    monkeypatch.chdir(file.parent)
    assert absolute("my_method.py:Own") == f"{file}:Own" and absolute("bigru") == "bigru" and absolute("my_method.py") == str(file)
