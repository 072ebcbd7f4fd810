from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from erc_graph.serving.heap import give_back, one_heap

HOSTILE = """
import json, re, threading
from pathlib import Path
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError
from erc_graph.serving.heap import one_heap
from erc_graph.serving.web import _light

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10

def read():  # a hundred thousand modalities of 1900 turns
    many = b",".join(b'"m%d":[1]' % i for i in range(100_000))
    body = b'[{"text":"x","features":{' + many + b'}},' + b'{"text":"a"},' * 1900 + b'{"text":"b"}]'
    for _ in range(3):
        try:
            work(body)
        except CorpusError:
            pass
        held.append(resident())

held = []
assert one_heap()
work = _light(load_transcript)
load_transcript(b"Ann: hi")
held.append(resident())
thread = threading.Thread(target=read)
thread.start()
thread.join()
print(json.dumps(held))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_a_refused_request_took_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=120, check=True)
    held = json.loads(done.stdout)
    assert len(held) == 4 and max(held) - held[0] < 150  # MiB; each took more than 700


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, name: object) -> None: ...

    monkeypatch.setattr(ctypes, "CDLL", Other)
    assert one_heap() is False
    give_back()
