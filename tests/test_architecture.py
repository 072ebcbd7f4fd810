"""The house keeps its order: imports point one way, registries equal the tree, and importing costs little and says nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import erc_graph
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import UtteranceMethod

ROOT = Path(erc_graph.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "_recipes" not in path.parts)

# A room may import itself, `errors`, and what is listed here; imports inside functions count too.
ORDER = ("data", "features", "graphs", "encoders", "conv", "methods", "training", "inference", "experiments", "serving", "cli")
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "data": set(),
    "features": {"data"},
    "graphs": {"data"},
    "encoders": {"data", "features"},  # a front end reads a waveform as `erc-graph features` does
    "conv": {"data", "graphs", "encoders"},
    "methods": {"data", "features", "graphs", "encoders", "conv"},
    "training": {"data", "features", "methods"},
    "inference": {"data", "features", "graphs", "encoders", "conv", "methods"},
    "report": {"data", "graphs"},
    "experiments": {*ORDER[:8], "report"},
    "serving": {"data", "features", "inference"},
    "cli": {*ORDER[:10], "report"},
    "__main__": {"cli"},
    "": {*ORDER[:8], "report"},  # the package itself: what a user gets by name
}
LONGEST = 450
HEAVY = ("torch_geometric", "dgl", "transformers", "matplotlib", "optuna", "sklearn", "pandas", "accelerate", "scipy", "networkx")


def room(path: Path) -> str:
    """`data` for `erc_graph/data/…` and for `erc_graph/data.py`, nothing for `erc_graph/__init__.py`."""
    name = path.relative_to(ROOT).with_suffix("").parts[0]
    return "" if name == "__init__" else name


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything of this package that a file imports, wherever in the file, absolutely or relatively."""
    found = []
    package = ("erc_graph", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                names = [first.value]
        found += [(node.lineno, name) for name in names if name.split(".")[0] == "erc_graph"]
    return found


def back_edges(path: Path) -> list[str]:
    own = room(path)
    wrong = []
    for line, name in imported(path):
        other = [*name.split("."), ""][1]
        target = other if (ROOT / other).is_dir() or (ROOT / f"{other}.py").is_file() else ""
        if target not in {own, "errors", *ALLOWED[own]} and not (target == "" and own in ("experiments", "serving", "cli")):
            wrong.append(f"{path.relative_to(ROOT.parent)}:{line}: {own or 'the package'} must not import {name}")
    return wrong


def test_imports_point_one_way() -> None:
    assert len(FILES) > 40
    assert [line for path in FILES for line in back_edges(path)] == []


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in FILES} <= set(ALLOWED)
    assert set(ORDER) <= {room(path) for path in FILES}


def test_a_back_edge_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, inside a function, and as text."""
    (tmp_path / "data").mkdir()
    (tmp_path / "training").mkdir()
    file = tmp_path / "data" / "wrong.py"
    file.write_text(
        "from erc_graph.training.loop import fit\nfrom ..training import loop\nimport erc_graph.training\n"
        "def f():\n    from erc_graph import training\n    importlib.import_module('erc_graph.training')\n"
        "from erc_graph.errors import ConfigError\nfrom erc_graph.data import tasks\nfrom .tasks import Task\nimport training\n"
    )
    (tmp_path / "errors.py").touch()
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert sorted(int(line.split(":")[1]) for line in back_edges(file)) == [1, 2, 3, 5, 6]


def files() -> dict[str, Path]:
    """Module → file."""
    found = {".".join(("erc_graph", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


def needed(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules that a file imports when it runs, wherever in the file; what only type checkers read does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in known and known[name] != path}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that lie on a circle: what is left when all that imports nothing, or that nothing imports, is taken away again and again."""
    graph = {name: set(others) for name, others in graph.items()}
    while True:
        imported_by_any = set().union(*graph.values()) if graph else set()
        ends = {name for name, others in graph.items() if not others & graph.keys() or name not in imported_by_any}
        if not ends:
            return sorted(graph)
        graph = {name: others - ends for name, others in graph.items() if name not in ends}


def test_no_file_imports_itself_by_way_of_others() -> None:
    known = {name: path for name, path in files().items() if name != "erc_graph"}
    assert circles({name: needed(path, known) for name, path in known.items()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_no_file_name_occurs_twice_and_no_file_is_long() -> None:
    entries = {ROOT / "experiments" / f"{name}.py" for name in ("pairwise", "wavfusion", "mfdr", "hff")}
    free = [
        path for path in FILES if path.name in ("__init__.py", "__main__.py", "base.py") or path.parent.name == "cli" or path in entries
    ]
    names = [path.name for path in FILES if path not in free]
    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert [path.name for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST] == []


def test_methods_are_those_of_the_tree() -> None:
    import erc_graph.methods as package

    abstract, found = (Method, UtteranceMethod), set()
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(member, Method) and member not in abstract:
                found.add(member)
    assert found == set(METHODS.values())
    for name, method in METHODS.items():
        assert method.__mro__[1] in abstract  # concrete classes are not subclassed
        assert method.__module__.startswith(f"{package.__name__}.{name.replace('-', '_')}")
        assert method.Config()  # a default for everything


def test_no_module_without_a_subject() -> None:
    names = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc", "tools", "shared"}


def test_no_python_beside_the_data_and_no_numbers_of_papers_beside_the_code() -> None:
    for folder in ("graphs", "experiments"):
        beside = ROOT.parent / folder
        if beside.is_dir() and (ROOT.parent / "pyproject.toml").is_file():
            results = beside / "results"  # what was measured
            assert {path.suffix for path in beside.rglob("*") if path.is_file() and results not in path.parents} == {".toml"}
            assert all(path.suffix in (".csv", ".json", ".jsonl", ".png") for path in results.rglob("*") if path.is_file())
    assert not list(ROOT.rglob("*.toml")) or (ROOT / "_recipes").is_dir()


def run(code: str) -> str:
    """What a fresh interpreter prints, errors and warnings included."""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr


def test_every_module_is_imported_without_a_word_and_without_the_heavy_libraries() -> None:
    """All modules at once; the package and its help path are among them."""
    modules = [".".join(("erc_graph", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for path in FILES]
    modules = [name for name in modules if not name.endswith("__main__")]
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]
    assert not loaded, (name, loaded)
"""
    assert run(code) == ""


@pytest.mark.parametrize("name", [name for name in METHODS if (ROOT / "experiments" / f"{name}.py").is_file()])
def test_help_comes_without_the_heavy_libraries(name: str) -> None:
    code = f"""
import sys
from erc_graph.experiments.{name} import main
try:
    code = main(["--help"])
except SystemExit as end:
    code = end.code
loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]
assert not code and not loaded, (code, loaded)
"""
    assert "usage" in run(code).lower()


def test_the_package_alone_does_not_even_import_torch() -> None:
    assert run("import erc_graph, sys; assert 'torch' not in sys.modules; assert erc_graph.__version__") == ""


def test_every_name_of_the_package_is_there() -> None:
    for name in erc_graph.__all__:
        assert getattr(erc_graph, name) is not None
    assert set(erc_graph.__all__) <= set(dir(erc_graph))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = erc_graph.nothing
