"""The endpoints over real sockets: answers equal those of `predict` and `stream`, and what is wrong is one sentence."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.tasks import get_task
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.pairwise import Pairwise, PairwiseConfig
from erc_graph.methods.schema import Schema
from erc_graph.serving.limits import MIB, Limits
from erc_graph.serving.service import Service

Turns = Callable[[Corpus], list[dict[str, Any]]]
WIDTHS = {"audio": 8, "text": 16, "visual": 8}


def vector(width: int, value: float = 0.1) -> list[float]:
    return [value] * width


def test_it_says_what_it_is(client: Any) -> None:
    assert client("GET", "/health")[:2] == (200, {"status": "ok"})
    status, about, _ = client("GET", "/model")
    assert status == 200 and about["method"] == "BiGRU" and about["features"] == WIDTHS and about["live"] is True
    assert about["labels"] == list(get_task("sample6").labels) and about["encodes"] == [] and about["sequences"] == {}


def test_the_answers_are_those_of_predict(client: Any, pipeline: Pipeline, corpus: Corpus, turns: Turns) -> None:
    for dialogue in list(corpus)[:2]:
        sent = turns(dialogue.corpus)
        status, answer, _ = client("POST", "/predict", sent)
        rows = pipeline.predict(prepare(load_transcript(json.dumps(sent).encode()), pipeline))
        assert status == 200 and answer["turns"] == [row.as_dict() for row in rows]
        assert answer["notes"] == [f"no dialogues are named, so all {len(dialogue)} utterances are one conversation"]
        assert len(answer["turns"]) == len(dialogue)


def test_the_answers_are_those_of_the_command(pipeline: Pipeline, client: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    two = [[{"speaker": "Ann", "text": "a", "features": {"text": vector(16)}}], [{"text": "b", "features": {"text": vector(16, 0.2)}}]]
    (tmp_path / "two.json").write_text(json.dumps(two))
    assert main(["predict", "--model", str(tmp_path / "model"), "--json", str(tmp_path / "two.json")]) == 0
    printed = capsys.readouterr()
    _, answer, _ = client("POST", "/predict", two)
    assert answer == json.loads(printed.out) and [row["dialogue"] for row in answer["turns"]] == ["dialogue-0", "dialogue-1"]
    assert [f"note: {note}" for note in answer["notes"]] == printed.err.splitlines() and "audio, visual" in answer["notes"][-1]


def test_many_threads_share_one_graph_model(corpus: Corpus, turns: Turns, serve: Any) -> None:
    torch.manual_seed(0)
    config = PairwiseConfig(graph="causal_window", causal=True)
    pipeline = Pipeline(Pairwise(Schema.of(corpus), config))
    sent = [turns(dialogue.corpus) for dialogue in corpus] * 4
    before = [id(parameter) for parameter in pipeline.method.parameters()]
    limits = Limits(workers=4)
    service = Service(pipeline, limits)
    alone = [service.predict(json.dumps(talk).encode()) for talk in sent]
    with serve(service, limits) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda talk: client("POST", "/predict", talk), sent))
    assert [(status, answer) for status, answer, _ in answers] == [(200, answer) for answer in alone]
    assert [id(parameter) for parameter in pipeline.method.parameters()] == before and not pipeline.method.training


def test_live_answers_are_those_of_stream(client: Any, pipeline: Pipeline, corpus: Corpus, turns: Turns) -> None:
    talks = [turns(corpus[i].corpus)[:6] for i in (0, 1)]
    names = [client("POST", "/sessions")[1]["session"] for _ in talks]
    streams = [pipeline.stream() for _ in talks]
    for row in range(6):  # two at the same time
        for talk, name, stream in zip(talks, names, streams, strict=True):
            status, answer, _ = client("POST", f"/sessions/{name}/turns", talk[row])
            judged = stream.push(talk[row]["speaker"], talk[row]["features"])
            absent = [name for name in WIDTHS if name not in talk[row]["features"]]
            assert status == 200 and len(answer.pop("notes")) == bool(absent)
            same = {"emotion": judged.emotion, "probabilities": judged.probabilities}
            assert answer == {"turn": row, "speaker": judged.speaker, "text": talk[row]["text"], **same}
    assert client("DELETE", f"/sessions/{names[0]}")[0] == 204
    status, answer, _ = client("POST", f"/sessions/{names[0]}/turns", talks[0][0])
    assert status == 404 and answer["error"].startswith("no such live conversation")
    assert client("DELETE", f"/sessions/{names[0]}")[0] == 404


def test_live_is_offline_to_rounding(client: Any, corpus: Corpus, turns: Turns) -> None:
    talk = turns(corpus[0].corpus)
    name = client("POST", "/sessions")[1]["session"]
    live = [client("POST", f"/sessions/{name}/turns", turn)[1] for turn in talk]
    whole = client("POST", "/predict", talk)[1]["turns"]
    for heard, said in zip(live, whole, strict=True):
        assert heard["probabilities"] == pytest.approx(said["probabilities"], abs=1e-5)


def test_a_silent_turn_is_heard_and_a_wrong_one_was_not_said(client: Any) -> None:
    name = client("POST", "/sessions")[1]["session"]
    path = f"/sessions/{name}/turns"
    assert client("POST", path, {"speaker": "Ann", "text": ""})[1]["turn"] == 0
    for wrong, words in (
        ({"speaker": "Ann", "features": {"text": [1.0]}}, "expected vectors of 16 numbers, found 1"),
        (
            [{"text": "a"}, {"text": "b"}],
            "a live conversation: expected one utterance per request, found 2; send whole conversations to /predict",
        ),
        ({"speaker": "Ann", "features": {"sound": [1.0]}}, "found only sound"),
    ):
        status, answer, _ = client("POST", path, wrong)
        assert status == 422 and words in answer["error"]
    status, answer, _ = client("POST", path, {"speaker": "Ann", "text": "hm", "features": {"text": vector(16), "audio": None}})
    assert (status, answer["turn"]) == (200, 1) and "audio, visual: not in the input" in answer["notes"][0]


WRONG = [
    (b"", 422, "request: is empty"),
    (b"\xff\xfe\x00", 422, "begins like UTF-16 text, but its byte 2 is not valid"),
    (b"nobody speaks here", 422, "line 1: no speaker found"),
    (b'{"a": ', 422, "not valid JSON"),
    (b'[{"text": "a"}]', 422, "this model names no text encoder for the vectors that it uses"),
    (b"[" * 100_000, 422, "request:"),
    (b'[{"text": "a", "features": {"text": ["x"]}}]', 422, "expected a list of numbers"),
    (b'[{"text": "a", "features": {"text": [1, 2]}}]', 422, "expected vectors of 16 numbers, found 2"),
    (json.dumps([{"features": {"text": vector(16, 1e400)}}]).encode(), 200, ""),  # inf: counts as missing, with a note
    (b'[{"turn": 1, "text": "a"}, {"turn": 1, "text": "b"}]', 422, "turn 1 of dialogue 'request' occurs twice"),
    (b"a: b\n" * 2001, 422, "request: 2001 utterances; expected at most 2000; divide the file"),
    (b"speaker,text\n" + b"a," + b"x" * 200_000, 422, "request:"),
    (b'[{"speaker": "\\ud800\\u001b[31m", "text": "a\\nb", "features": {"text": [1]}}]', 422, "expected vectors of 16 numbers"),
]


@pytest.mark.parametrize(("body", "expected", "words"), WRONG)
def test_what_is_wrong_is_told_in_one_sentence(client: Any, body: bytes, expected: int, words: str) -> None:
    status, answer, _ = client("POST", "/predict", body)
    assert status == expected
    if status != 200:
        assert list(answer) == ["error"] and words in answer["error"] and "\n" not in answer["error"] and len(answer["error"]) < 500
        assert "Traceback" not in answer["error"]
    else:
        assert any(note.startswith("features.text: 1 utterance with NaN, inf or numbers beyond 1e15") for note in answer["notes"])


def test_half_a_surrogate_pair_comes_back(client: Any) -> None:
    sent = b'[{"speaker": "\\ud800", "text": "\\udc00", "features": {"text": %s}}]' % json.dumps(vector(16)).encode()
    status, answer, _ = client("POST", "/predict", sent)
    assert status == 200 and answer["turns"][0]["speaker"] == "\ud800"


@pytest.mark.parametrize(
    ("verb", "path", "status", "words"),
    [
        ("GET", "/nothing", 404, "GET /nothing: not found; / lists the endpoints"),
        ("GET", "/predict", 405, "GET /predict: method not allowed; / lists the endpoints"),
        ("POST", "/sessions/x/turns", 404, "no such live conversation; it was deleted, or 900 seconds passed without an utterance"),
        ("GET", "/docs", 404, "GET /docs: not found; / lists the endpoints"),
        ("GET", "/%1b%0a", 404, "not found"),
    ],
)
def test_paths_that_are_not_there(client: Any, verb: str, path: str, status: int, words: str) -> None:
    found, answer, _ = client(verb, path, b"a: b" if verb == "POST" else None)
    assert found == status and words in answer["error"] and "\n" not in answer["error"]


def test_too_many_bytes_and_compressed_ones_are_refused(pipeline: Pipeline, serve: Any) -> None:
    limits = Limits(workers=1, body=1)
    with serve(Service(pipeline, limits), limits) as client:
        status, answer, _ = client("POST", "/predict", b"a: b\n" * (MIB // 3))
        assert (status, answer) == (413, {"error": "the request has more than 1 MiB; send fewer conversations per request"})
        status, answer, _ = client("POST", "/predict", b"x", {"Content-Encoding": "gzip"})
        assert status == 415 and answer["error"] == "expected an uncompressed body, found Content-Encoding 'gzip'"
        connection = http.client.HTTPConnection("127.0.0.1", client.port)
        connection.putrequest("POST", "/predict")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for _ in range(3):  # nobody said before how long it would be
            connection.send(b"%x\r\n" % (MIB // 2) + b"x" * (MIB // 2) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.getresponse().status == 413
        connection.close()


def test_too_many_characters_are_refused_before_the_encoder_reads_them(pipeline: Pipeline, serve: Any) -> None:
    limits = Limits(workers=1)
    with serve(Service(pipeline, limits), limits) as client:
        status, answer, _ = client("POST", "/predict", b"Ann: " + b"word " * 300_000)
        assert (
            status == 413
            and answer["error"] == "found 1499999 characters of text; expected at most 1000000 per request; divide the request"
        )


def test_a_body_that_does_not_come_is_not_waited_for(pipeline: Pipeline, serve: Any) -> None:
    limits = Limits(workers=1, timeout=0.2, queue=0)
    with serve(Service(pipeline, limits), limits) as client:
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\nAnn")
            answer = slow.makefile("rb").read(300).decode()  # until it is closed, soon after
        assert answer.startswith("HTTP/1.1 408") and '{"error": "the request did not arrive within 0.2 seconds"}' in answer
        with socket.create_connection(("127.0.0.1", client.port)) as gone:
            gone.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAnn")
        time.sleep(0.1)
        sent = [{"features": {"text": vector(16)}}]
        assert client("POST", "/predict", sent)[0] == 200  # the place is free again


class Slow:
    """A service that answers when it is let."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), 0

    def predict(self, body: bytes) -> dict[str, Any]:
        self.asked += 1
        if body == b"fail":
            raise KeyError("inner")
        if body == b"full":
            raise MemoryError
        if body == b"torch":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        assert self.go.wait(20)
        return {"turns": [], "notes": []}


def test_more_than_the_queue_holds_is_asked_to_come_again(serve: Any) -> None:
    slow, limits = Slow(), Limits(workers=1, queue=2)
    with serve(slow, limits) as client, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client, "POST", "/predict", b"x") for _ in range(3)]
        while "erc_graph_requests_inside 3.0" not in client("GET", "/metrics")[1]:
            time.sleep(0.01)
        status, answer, headers = client("POST", "/predict", b"x")
        assert status == 503 and answer == {"error": "3 requests are waiting, the largest number allowed; try again later"}
        assert headers["retry-after"] == "1" and slow.asked == 1
        slow.go.set()
        assert [one.result()[0] for one in waiting] == [200, 200, 200] and slow.asked == 3


def test_who_waits_too_long_is_told_so(serve: Any) -> None:
    slow, limits = Slow(), Limits(workers=1, queue=5, timeout=0.2)
    with serve(slow, limits) as client, ThreadPoolExecutor(3) as pool:
        answers = [one.result() for one in [pool.submit(client, "POST", "/predict", b"x") for _ in range(3)]]
        assert {status for status, _, _ in answers} == {503}
        assert answers[0][1] == {"error": "no answer within 0.2 seconds; send less per request, or try again later"}
        assert "erc_graph_requests_inside 1.0" in client("GET", "/metrics")[1]  # the one that runs
        slow.go.set()
        time.sleep(0.1)
        assert slow.asked == 1 and "erc_graph_requests_inside 0.0" in client("GET", "/metrics")[1]


def test_what_nobody_foresaw_is_one_sentence_and_in_the_log(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serve(Slow(), Limits(workers=1)) as client:
        status, answer, _ = client("POST", "/predict", b"fail")
        assert (status, answer) == (500, {"error": "the service failed on this request; the log of the service has details"})
        for body in (b"full", b"torch"):
            status, answer, headers = client("POST", "/predict", body)
            assert (
                status == 503
                and answer["error"].startswith("not enough memory for this request at the moment")
                and headers["retry-after"] == "1"
            )


def test_live_conversations_expire_and_are_counted(pipeline: Pipeline, serve: Any) -> None:
    now, limits = [0.0], Limits(workers=1, sessions=2, idle=60)
    with serve(Service(pipeline, limits), limits, clock=lambda: now[0]) as client:
        opened = [client("POST", "/sessions")[1] for _ in range(2)]
        assert opened[0]["idle_seconds"] == 60 and opened[0]["session"] != opened[1]["session"]
        status, answer, headers = client("POST", "/sessions")
        assert status == 503 and answer["error"].startswith("there are 2 live conversations, the largest") and headers["retry-after"] == "1"
        now[0] = 40
        first, second = (f"/sessions/{one['session']}/turns" for one in opened)
        assert client("POST", first, {"features": {"text": vector(16)}})[0] == 200
        page = client("GET", "/metrics")[1]
        assert "erc_graph_sessions 2.0" in page and "erc_graph_session_bytes 0.0" not in page
        now[0] = 60
        assert client("POST", second, {"features": {"text": vector(16)}})[0] == 404
        assert client("POST", first, {"features": {"text": vector(16)}})[1]["turn"] == 1
        now[0] = 120
        assert client("GET", "/health")[0] == 200
        page = client("GET", "/metrics")[1]
        assert "erc_graph_sessions 0.0" in page and "erc_graph_session_bytes 0.0" in page


def test_a_model_that_reads_later_turns_does_not_listen(corpus: Corpus, serve: Any) -> None:
    pipeline = Pipeline(BiGRU(Schema.of(corpus), BiGRUConfig(width=8)))
    with serve(Service(pipeline, Limits(workers=1)), Limits(workers=1)) as client:
        assert client("GET", "/model")[1]["live"] is False
        status, answer, _ = client("POST", "/sessions")
        assert status == 409 and answer["error"].startswith("stream: expected a model that uses no later utterances")


def test_the_metrics_count_by_endpoint_and_never_without_end(pipeline: Pipeline, serve: Any) -> None:
    with serve(Service(pipeline, Limits(workers=1)), Limits(workers=1)) as client:
        for i in range(3):
            client("GET", f"/no/{i}")
        client("POST", "/predict", [{"features": {"text": vector(16)}}, {"features": {"text": vector(16)}}])
        client("POST", "/predict", b"")
        page, kind = client("GET", "/metrics")[1:]
        assert kind["content-type"].startswith("text/plain; version=0.0.4")
        for line in (
            'erc_graph_requests_total{endpoint="none",status="404"} 3.0',
            'erc_graph_requests_total{endpoint="/predict",status="200"} 1.0',
            'erc_graph_requests_total{endpoint="/predict",status="422"} 1.0',
            'erc_graph_request_seconds_count{endpoint="/predict"} 2.0',
            "erc_graph_turns_total 2.0",
        ):
            assert line in page.splitlines()
        assert "/no/" not in page and "process_resident_memory_bytes" in page


def test_the_page_explains_every_endpoint_and_loads_nothing(client: Any) -> None:
    status, page, _ = client("GET", "/")
    description = client("GET", "/openapi.json")[1]
    assert status == 200 and 'http-equiv="Content-Security-Policy"' in page
    assert set(description["paths"]) == {
        "/health",
        "/model",
        "/metrics",
        "/predict",
        "/sessions",
        "/sessions/{session}/turns",
        "/sessions/{session}",
    }
    for path, verbs in description["paths"].items():
        assert path in page
        for about in verbs.values():
            assert about["summary"] in page
    for outside in ("<script", "src=", "url(", "@import", 'href="http'):
        assert outside not in page
    assert 'href="openapi.json"' in page and page.count("<section") == 7 + len(description["components"]["schemas"])
    forms = {
        answer["content"]["application/json"]["schema"]["$ref"] for answer in description["paths"]["/predict"]["post"]["responses"].values()
    }
    assert forms == {"#/components/schemas/Conversation", "#/components/schemas/Problem"}
