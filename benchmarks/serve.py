"""`python -m benchmarks.serve`: test `erc-graph serve` under load, and measure the overhead of HTTP for a conversation of 20 utterances.

The service runs in a separate process with its default limits. The model is a causal pairwise model of three modalities with the feature
widths of the sample corpus. Its weights are random, because the weights do not affect the time. The clients are threads of the benchmark
process, on the same machine and CPU cores. The `floor` is the time for labelling the same conversation without HTTP, from JSON to labels.

- `200 at once`: 200 clients send one conversation each. A request without an answer of status 200 counts as lost.
- `memory`: memory of the service in bytes, after a quarter of the requests and after all requests of 8 clients.
- `shutdown`: the service gets SIGTERM while it processes 200 requests. It must answer accepted requests and exit with code 0.
- `whole`: time in seconds for a conversation of 20 utterances, sent in one request to `/predict`.
- `live`: time in seconds for the same conversation, sent utterance by utterance as a live conversation.
- `turn`: time in seconds per utterance of the live conversation.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import RESULTS, Row, arguments
from erc_graph.data.files.storage import write_json
from erc_graph.data.tasks import get_task
from erc_graph.experiments.environment import environment
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.pairwise import Pairwise, PairwiseConfig
from erc_graph.methods.schema import Schema
from erc_graph.report.text_tables import text_table
from erc_graph.serving.limits import Limits
from erc_graph.serving.service import Service

WIDTHS = {"audio": 8, "text": 16, "visual": 8}
RESIDENT = "process_resident_memory_bytes"
TURNS, AT_ONCE, CLIENTS = 20, 200, (1, 32)


def talk() -> list[dict[str, Any]]:
    """Return a conversation of 20 utterances."""
    random = np.random.default_rng(0)
    vectors = lambda: {name: random.standard_normal(width).round(4).tolist() for name, width in WIDTHS.items()}  # noqa: E731
    return [{"speaker": "AB"[i % 2], "text": f"turn {i}", "features": vectors()} for i in range(TURNS)]


class Client:
    """A client with one persistent connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def __call__(self, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        self.connection.request(verb, path, body)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self.connection.close()


@contextmanager
def service(model: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the service, and yield its process and its port."""
    command = [sys.executable, "-m", "erc_graph", "serve", "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, cwd=RESULTS.parents[1], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+)$", process.stdout.readline().strip())
            if not found:
                raise SystemExit("serve: expected a port in the first line of the service, found none")
            yield process, int(found[1])
        finally:
            process.kill()


def metric(port: int, name: str) -> float:
    client = Client(port)
    page = client("GET", "/metrics")[1].decode()
    client.close()
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.M)
    return float(found[1]) if found else 0.0


def ask(port: int, body: bytes) -> tuple[bool, float]:
    """Send a conversation on a new connection; return whether all utterances were answered, and the seconds."""
    start, client = time.perf_counter(), Client(port)
    try:
        status, answer = client("POST", "/predict", body)
        return status == 200 and len(json.loads(answer)["turns"]) == TURNS, time.perf_counter() - start
    except (OSError, http.client.HTTPException):
        return False, time.perf_counter() - start
    finally:
        client.close()


def crowd(port: int, body: bytes) -> Row:
    """Measure 200 clients at the same time."""
    start = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: ask(port, body), range(AT_ONCE)))
    row = {"case": f"{AT_ONCE} at once", "requests": AT_ONCE, "lost": sum(not good for good, _ in answers)}
    return {**row, **spread([seconds for _, seconds in answers]), "wall_seconds": time.perf_counter() - start}


def memory(port: int, body: bytes, requests: int) -> Row:
    """Measure the resident memory of the service over many requests."""
    held, lost = [int(metric(port, RESIDENT))], 0
    start = time.perf_counter()
    for share in (requests // 4, requests - requests // 4):
        with ThreadPoolExecutor(8) as pool:
            lost += sum(not good for good, _ in pool.map(lambda _: ask(port, body), range(share)))
        held.append(int(metric(port, RESIDENT)))
    row: Row = {"case": "memory", "requests": requests, "lost": lost, "resident_bytes_before": held[0], "resident_bytes_quarter": held[1]}
    return {**row, "resident_bytes": held[2], "growth_bytes": held[2] - held[1], "wall_seconds": time.perf_counter() - start}


def shutdown(model: Path, body: bytes) -> Row:
    """Send SIGTERM to the service while it processes 200 requests, and return the outcome."""
    with service(model) as (process, port), ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [pool.submit(ask, port, body) for _ in range(AT_ONCE)]
        done = inside = 0.0
        while done + inside < AT_ONCE:  # the last ones may still be on their way: no server has heard of them
            inside = metric(port, "erc_graph_requests_inside")
            done = metric(port, 'erc_graph_requests_total{endpoint="/predict",status="200"}')
        start = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        lost = sum(not answer.result()[0] for answer in answers)
        code = process.wait(60)
        return {"case": "shutdown", "requests": AT_ONCE, "inside": int(inside), "lost": lost, "exit_code": code,
                "wall_seconds": time.perf_counter() - start}  # fmt: skip


def whole(client: Client, turns: list[dict[str, Any]]) -> list[float]:
    status, answer = client("POST", "/predict", json.dumps(turns).encode())
    assert status == 200 and len(json.loads(answer)["turns"]) == TURNS
    return []


def live(client: Client, turns: list[dict[str, Any]]) -> list[float]:
    """Hold a live conversation, and return the seconds of every utterance."""
    name = json.loads(client("POST", "/sessions")[1])["session"]
    seconds = []
    for turn in turns:
        start = time.perf_counter()
        status, _ = client("POST", f"/sessions/{name}/turns", json.dumps(turn).encode())
        seconds.append(time.perf_counter() - start)
        assert status == 200
    assert client("DELETE", f"/sessions/{name}")[0] == 204
    return seconds


def spread(seconds: list[float]) -> Row:
    return {"median_seconds": float(np.median(seconds)), "p99_seconds": float(np.percentile(seconds, 99))}


def latency(
    port: int, kind: str, hold: Callable[[Client, list[dict[str, Any]]], list[float]], clients: int, conversations: int
) -> list[Row]:
    """Measure conversations of several clients at the same time; each client holds its conversations one after the other."""
    turns = talk()

    def one(_: int) -> tuple[list[float], list[float]]:
        client, each, of_turns = Client(port), [], []
        hold(client, turns)  # connects
        for _ in range(-(-conversations // clients)):
            start = time.perf_counter()
            of_turns += hold(client, turns)
            each.append(time.perf_counter() - start)
        client.close()
        return each, of_turns

    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(one, range(clients)))
    rows: list[Row] = []
    for case, place in ((kind, 0), ("turn", 1)):
        if seconds := [value for parts in found for value in parts[place]]:
            rows.append({"case": case, "clients": clients, "requests": len(seconds), **spread(seconds)})
    return rows


def main(argv: list[str] | None = None) -> int:
    options = arguments("serve", __doc__.split("\n")[0], argv, threads=1)
    if options.device != "cpu":
        raise SystemExit("serve: the service computes on the CPU; use --device cpu")
    torch.manual_seed(0)
    pipeline = Pipeline(Pairwise(Schema(widths=WIDTHS, task=get_task("sample6")), PairwiseConfig(graph="causal_window", causal=True)))
    body, rows = json.dumps(talk()).encode(), []
    here = Service(pipeline, Limits(workers=1))
    here.warm()
    alone = []
    for _ in range(20 * options.repeats):
        start = time.perf_counter()
        here.predict(body)
        alone.append(time.perf_counter() - start)
    rows.append({"case": "floor", "clients": 1, "requests": len(alone), **spread(alone)})
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        pipeline.save_pretrained(model)
        with service(model) as (_, port):
            rows.append(crowd(port, body))
            for clients in CLIENTS:
                rows += latency(port, "whole", whole, clients, 32 * options.repeats)
                rows += latency(port, "live", live, clients, 8 * options.repeats)
            rows.append(memory(port, body, 5000))
        rows.append(shutdown(model, body))
    cells = []
    for row in rows:
        times = [f"{1e3 * row[key]:.1f}" if key in row else "" for key in ("median_seconds", "p99_seconds")]
        cells.append([row["case"], row.get("clients", ""), row["requests"], row.get("lost", ""), *times, remarks(row)])
    print(text_table(["case", "clients", "requests", "lost", "median ms", "99 % ms", ""], cells))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.json, {"environment": environment("cpu"), "rows": rows})
    return 0


def remarks(row: Row) -> str:
    if row["case"] == "memory":
        return f"{row['resident_bytes'] / 2**20:.0f} MiB resident, {row['growth_bytes'] / 2**20:+.1f} MiB since the first quarter"
    return f"{row['inside']} inside at SIGTERM, exit code {row['exit_code']}" if row["case"] == "shutdown" else ""


if __name__ == "__main__":
    sys.exit(main())
