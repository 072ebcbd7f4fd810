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
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Pipeline
from erc_graph.methods.committee import Committee

ROOT = Path(erc_graph.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "_recipes" not in path.parts)

# A room may import itself, `errors`, and what is listed here; imports inside functions count too.
ORDER = ("data", "features", "graphs", "encoders", "conv", "methods", "training", "inference", "experiments", "cli")
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
    "cli": {*ORDER[:9], "report"},
    "__main__": {"cli"},
    "": {*ORDER[:8], "report"},  # the package itself: what a user gets by name
}
# Methods that open a room above it, when they are called; to be closed by `inference.pipeline`.
DOORS = {
    ("methods/base.py", f"erc_graph.inference.{name}")
    for name in ("stream.Stream", "saved.save_pipeline", "saved.load_pipeline", "answer.answers", "answer.Answer")
} | {("inference/explain.py", "erc_graph.report.draw.draw_graph")}
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
        if (path.relative_to(ROOT).as_posix(), name) in DOORS:
            continue
        if target not in {own, "errors", *ALLOWED[own]} and not (target == "" and own in ("experiments", "cli")):
            wrong.append(f"{path.relative_to(ROOT.parent)}:{line}: {own or 'the package'} must not import {name}")
    return wrong


def test_imports_point_one_way() -> None:
    assert len(FILES) > 40
    assert [line for path in FILES for line in back_edges(path)] == []


def test_doors_are_there_and_open_when_they_are_called() -> None:
    for file, name in DOORS:
        assert name in [found for _, found in imported(ROOT / file)]
        assert run(f"import sys, erc_graph.{file[:-3].replace('/', '.')}; assert {name.rpartition('.')[0]!r} not in sys.modules") == ""


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


def test_pipelines_are_those_of_the_tree() -> None:
    import erc_graph.methods as package

    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        for _, member in inspect.getmembers(importlib.import_module(f"{package.__name__}.{module.name}"), inspect.isclass):
            if issubclass(member, Pipeline) and member is not Pipeline and member.__module__.endswith(f".{module.name}"):
                found[module.name] = member
    assert found == {**PIPELINES, "committee": Committee}  # several of a method are no method
    for pipeline in PIPELINES.values():
        assert pipeline.__mro__[1] is Pipeline  # concrete classes are not subclassed
        assert pipeline.Config()  # a default for everything


def test_no_module_without_a_subject() -> None:
    names = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc", "tools", "shared"}


def test_no_python_beside_the_data_and_no_numbers_of_papers_beside_the_code() -> None:
    for folder in ("graphs", "experiments"):
        beside = ROOT.parent / folder
        if beside.is_dir() and (ROOT.parent / "pyproject.toml").is_file():
            assert {path.suffix for path in beside.rglob("*") if path.is_file()} == {".toml"}
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


@pytest.mark.parametrize("name", [name for name in PIPELINES if (ROOT / "experiments" / f"{name}.py").is_file()])
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
