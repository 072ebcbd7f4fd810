"""Small files cost little: every kind of hostile file is refused in one line, in bounded memory and time."""

from __future__ import annotations

import gc
import json
import os
import pickle
import resource
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erc_graph.data.files import budget
from erc_graph.data.files.budget import FLOOR, admit, allow, content_of, reading
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.toml import read_toml
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CheckpointError, ConfigError, CorpusError

ROOT = Path(budget.__file__).parents[3]
TABLE = "dialogue,turn,speaker,text\nd,0,Ann,hi\nd,1,Bob,ho\n"


def limit() -> int:
    return resource.getrlimit(resource.RLIMIT_AS)[0]


def test_memory_is_bounded_inside_and_free_outside(tmp_path: Path) -> None:
    before = limit()
    with reading(tmp_path):
        inside = limit()
        assert inside > 0
        with reading(tmp_path / "inner"):
            assert limit() == inside
        (tmp_path / "file").write_bytes(b"x" * 1000)
        assert admit(tmp_path / "file") == 1000 and limit() == inside + 32_000
        allow(10)
        assert limit() == inside + 32_320
    assert limit() == before
    with pytest.raises(CorpusError, match="needs far more memory than its size allows"), reading("talk"):
        bytearray(FLOOR + (64 << 20))
    assert limit() == before and len(bytearray(FLOOR + (64 << 20))) > FLOOR


def test_what_is_read_is_not_searched_for_garbage_again_and_again(tmp_path: Path) -> None:
    with reading(tmp_path):
        with reading(tmp_path / "inner"):
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with reading(tmp_path):
            pass
        assert not gc.isenabled()  # whoever has switched it off keeps it so
    finally:
        gc.enable()


def test_the_floor_is_raised_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budget.OPTION, "2g")
    with reading("talk"):
        assert len(bytearray(FLOOR + (64 << 20)))
    monkeypatch.setenv(budget.OPTION, "much")
    with pytest.raises(ConfigError, match="ERC_GRAPH_READING: expected a size of memory such as 8G, found 'much'"), reading("talk"):
        pass
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("a\nb"), r"talk: damaged, or of another format than expected \(KeyError: 'a\\nb'\)"),
        (RecursionError(), "talk: nested too deeply"),
        (OSError(5, "Input/output error", "inner"), r"inner: cannot be read \(Input/output error\)"),
        (ValueError("Exceeds the limit (4300 digits)\nof a line"), "ValueError: Exceeds the limit .4300 digits. of a line"),
    ],
)
def test_errors_of_libraries_are_one_line(error: Exception, said: str) -> None:
    with pytest.raises(CheckpointError, match=said), reading("talk", CheckpointError):
        raise error


def test_our_own_errors_pass() -> None:
    with pytest.raises(CorpusError, match="as it is"), reading("talk", CheckpointError):
        raise CorpusError("as it is")


def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        server.bind("socket.csv")
    for name, kind in {"pipe.csv": "a named pipe", "socket.csv": "a socket"}.items():
        for read in (content_of, load_corpus, load_transcript, read_toml):
            with pytest.raises((CorpusError, ConfigError), match=f"{name}: expected a regular file, found {kind}"):
                read(tmp_path / name)
    with pytest.raises(CorpusError, match="/dev/zero: expected a regular file, found a device"):
        load_corpus("/dev/zero")
    (tmp_path / "u.csv").write_text(TABLE)
    for line in ('features = {text = "pipe.csv"}', 'splits = "pipe.csv"', 'sequences = {text = "pipe.csv"}'):
        (tmp_path / "corpus.toml").write_text(f'annotations = "u.csv"\n{line}\n')
        with pytest.raises(CorpusError, match=r"pipe\.csv"):
            load_corpus(tmp_path)


def test_no_reader_passes_by() -> None:
    """Outside of this module, files of users are opened with `content_of`, or announced with `admit` first."""
    package, marks = Path(budget.__file__).parents[2], (".read_bytes()", ".read_text(", '.open(newline="')
    own = ("TEMPLATES", "PAGE.", "_own(path)", "_own(kept)", '"/proc/', "in _CARDS")  # of the package, checked to be ours, and the system's
    lines = [(path.name, line) for path in sorted(package.rglob("*.py")) for line in path.read_text().splitlines()]
    found = [name for name, line in lines if any(mark in line for mark in marks) and not any(word in line for word in own)]
    assert sorted(found) == [
        "budget.py",
        *["compiler.py"] * 2,  # what it compiles and has compiled
        "memory.py",  # the system
        *["own_file.py"] * 2,  # which is run, too
        "page.py",  # what it has drawn
        "saved_corpus.py",  # what it has written
    ]


# -- files ---------------------------------------------------------------------------------------------------------------------------


def corpus_with(folder: Path, make: Callable[[Path], None], name: str) -> Path:
    (folder / "u.csv").write_text(TABLE)
    (folder / "corpus.toml").write_text(f'annotations = "u.csv"\n[features]\ntext = "{name}"\n')
    make(folder / name)
    return folder


def archive(path: Path, header: bytes, body: bytes = b"") -> None:
    """An .npz whose `features` has a header of one's own."""
    ids = path.with_suffix(".ids.npy")
    np.save(ids, np.array(["d_0", "d_1"]))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("utterance.npy", ids.read_bytes())
        text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
        file.writestr("features.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)


def laughs(path: Path) -> None:
    """Lists of lists of one list: a reader that joins them builds gigabytes."""
    text: object = "ha" * 50
    for _ in range(9):
        text = [text] * 10
    talk = {"d": text}
    path.write_bytes(pickle.dumps((talk, talk, talk, talk, talk, talk, talk, ["d"], ["d"])))


HOSTILE: dict[str, Callable[[Path], None]] = {
    "laughs.pkl": laughs,
    "dots.toml": lambda path: path.write_text(f"{'a.' * 50_000}a = 1\n"),
    "digits.json": lambda path: path.write_text(f'[{{"dialogue": 1, "turn": {"9" * 5000}, "speaker": "a", "text": "b"}}]'),
    "deep.json": lambda path: path.write_text("[" * 100_000),
    "wide.json": lambda path: path.write_text(
        json.dumps([{"speaker": "a", "text": "b"}] * 20_000 + [{"speaker": "a", "text": "b", "features": {"text": [0] * 20_000}}])
    ),
    "empty items.npz": lambda path: archive(path, b"{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000,)}"),
    "deep header.npz": lambda path: archive(path, b"{'descr': " + b"(" * 3000 + b"}"),
    "true shape.npz": lambda path: archive(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}", bytes(8)),
    "huge shape.npz": lambda path: archive(path, b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4000000000)}"),
    "nothing wide.safetensors": lambda path: save_file({"features": torch.zeros(2, 0)}, path, {"utterance": '["d_0", "d_1"]'}),
}  # fmt: skip

SLOW = (
    "dots.toml",
    "wide.json",
    "deep.json",
    "true shape.npz",
    "huge shape.npz",
    "nothing wide.safetensors",
    "deep header.npz",
    "digits.json",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in HOSTILE])
def test_a_small_file_costs_little(name: str, tmp_path: Path) -> None:
    """Exit code 2, one line, under 1 GiB beyond the imports and 10 processor seconds."""
    if name.endswith((".npz", ".safetensors")):
        path = corpus_with(tmp_path, HOSTILE[name], name)
    else:
        path = tmp_path / name
        HOSTILE[name](path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2_000_000
    words = ["predict", "--model", "none", str(path)] if name == "wide.json" else ["corpus", "inspect", str(path)]
    code = f"""
import resource, sys
from erc_graph.cli.main import main
from erc_graph.data.files.transcripts import load_transcript
import erc_graph.data.corpus, erc_graph.data.files.manifest
before = resource.getrusage(resource.RUSAGE_SELF)
if {name == "wide.json"!r}:
    from erc_graph.errors import CorpusError
    try:
        load_transcript({str(path)!r})
        code = 0
    except CorpusError as error:
        print("error:", error, file=sys.stderr)
        code = 2
else:
    code = main({words!r})
after = resource.getrusage(resource.RUSAGE_SELF)
print(code, (after.ru_maxrss - before.ru_maxrss) // 1024, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.stdout, done.stderr
    answer, mebibytes, seconds = done.stdout.split()
    assert answer == "2", done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and len(done.stderr) < 500, done.stderr
    assert int(mebibytes) < 1024 and float(seconds) < 10


def test_transcripts_take_linear_time_per_line() -> None:
    """Long lines of white space and of what looks like a name, and many lines without a speaker: bounded work per character."""
    for line in (" " * 200_000 + "x", "a " * 100_000, "[00:12" + " " * 200_000, "00:1 " * 40_000):
        assert len(load_transcript(f"Ann: hi\n{line}\nBob: ho".encode())) == 1
    talk = load_transcript(("Ann: hi\n" + "and so on\n" * 100_000).encode())
    assert len(talk.texts) == 1 and len(talk.texts[0]) == 2 + 100_000 * 10


@pytest.mark.slow
@pytest.mark.parametrize("line", ["{0}: what was said in turn {1}", "and so on, line {1}", "[01:02:03] {0}: what was said"])
def test_a_million_lines_take_no_longer_each_than_ten_thousand(line: str) -> None:
    def seconds(lines: int, times: int) -> float:
        """Of the processor for a line, over several readings."""
        talk = "Ann: hi\n" + "".join(line.format(("Ann", "Bob")[i % 2], i) + "\n" for i in range(lines - 1))
        content, before = talk.encode(), time.process_time()
        for _ in range(times):
            load_transcript(content)
        return (time.process_time() - before) / lines / times

    few, many = seconds(10**4, 50), seconds(10**6, 1)
    assert many <= 1.3 * few, (many, few)
