"""The command as a process: it says where it listens, ends in order, and refuses in one line."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from erc_graph.cli import serve
from erc_graph.cli.main import main
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.starter import STARTER
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema
from erc_graph.serving.server import listen

TURN = {"speaker": "Ann", "text": "hm", "features": {"text": [0.1] * 16}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "model"
    Pipeline(BiGRU(Schema.of(sample_corpus(dialogues=3, seed=1)), BiGRUConfig(width=8, causal=True))).save_pretrained(folder)
    return folder


@pytest.fixture
def process(model: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, listening, and its port."""
    command = [sys.executable, "-m", "erc_graph", "serve", "--model", str(model), "--port", "0", "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            found = re.search(r": http://127\.0\.0\.1:(\d+)$", line.strip())
            assert found and line.startswith(str(model)), line
            yield started, int(found[1])
        finally:
            started.kill()


def metrics(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


@pytest.mark.slow
def test_running_requests_finish_when_it_is_told_to_end(process: tuple[subprocess.Popen[str], int]) -> None:
    started, port = process
    talk = json.dumps([TURN] * 2000).encode()
    answers: list[int] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/predict", talk)
        answer = connection.getresponse()
        answers.append(len(json.loads(answer.read())["turns"]) if answer.status == 200 else answer.status)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    inside, answered = 0.0, 0.0
    end = time.monotonic() + 20
    while inside + answered < len(threads) and time.monotonic() < end:
        page = metrics(port)
        inside = page["erc_graph_requests_inside"]
        answered = page.get('erc_graph_requests_total{endpoint="/predict",status="200"}', 0.0)
    assert inside >= 2 and inside + answered == len(threads)  # one is computed, others wait, and none is still on its way
    started.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert answers == [2000] * 6
    out, err = started.communicate(timeout=20)
    assert (started.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_ctrl_c_is_130(process: tuple[subprocess.Popen[str], int]) -> None:
    started, _ = process
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=20)
    assert (started.returncode, err) == (130, "stopped\n")


def test_the_starter_model_answers_where_none_is_named() -> None:
    assert serve.make_parser().parse_args([]).model == STARTER


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--modle", "MODEL"], "unrecognized arguments: --modle"),
        (["--modle", "MODEL"], "(nearest: --model); see erc-graph serve --help"),
        (["--model", "./nowhere"], "no such file or folder"),
        (["--model", "MODEL", "--body", "0"], "serve.body: expected 1 to 1024 MiB, found 0"),
        (["--model", "MODEL", "--host", "192.0.2.1"], "serve: cannot listen on 192.0.2.1:8000"),
        (["--model", "MODEL", "--port", "70000"], "serve: expected a port of 0 to 65535, found 70000"),
        (["--model", "MODEL", "--extractor", "text"], "--extractor: expected NAME=ENCODER"),
        (["--model", "MODEL", "--extractor", "face=x", "--port", "0"], "extractor: expected a modality of the model"),
    ],
)
def test_one_line_and_two(options: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "./nowhere" in options:
        options = [*options, "--port", "0"]
    assert main(["serve", *(str(model) if option == "MODEL" else option for option in options)]) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1 and out == ""


def test_a_port_that_is_taken(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert main(["serve", "--model", str(model), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use); choose another address or port" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert main(["serve", "--model", str(model)]) == 2
    expected = "error: serve: the package uvicorn is not installed; install it with pip install 'erc_graph[serve]'\n"
    assert capsys.readouterr().err == expected


def test_other_machines_are_warned_of(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.serving.server.run", lambda app, sock, timeout: app.state.close())
    assert main(["serve", "--model", str(model), "--host", "0.0.0.0", "--port", "0"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("note: other machines can reach 0.0.0.0, and everyone who reaches port ") and "http://0.0.0.0:" in out
