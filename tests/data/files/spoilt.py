"""Small valid files of every format, and how they are spoilt at random: in what they say, or anywhere in their bytes."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import re
import struct
import wave
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from erc_graph.data.files.saved_corpus import _digest
from tests.data.files.formats.test_records import sample
from tests.data.files.formats.test_tuples import IEMOCAP, MELD, fields, layout_of

ROWS = [
    {"dialogue": "d", "turn": i, "speaker": "ab"[i % 2], "text": f"hi {i}", "utterance": f"u{i}", "label": "xy"[i % 2], "split": "train"}
    for i in range(4)
]
IDS = [row["utterance"] for row in ROWS]
MANIFEST = 'annotations = "u.csv"\ndataset = "mine"\nlabels = ["x", "y"]\n'


def table(rows: list[dict[str, Any]]) -> str:
    return "\n".join([",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]) + "\n"


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(values))
    return stream.getvalue()


def sound() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 800, dtype=np.int16).tobytes())
    return stream.getvalue()


def picture() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(stream, "png")
    return stream.getvalue()


CASES, EXPORT = Path(__file__).with_name("cases"), "export "
TABLES = ("01", "02", "03", "11", "12", "13", "14", "18", "21", "29", "36", "37")  # the others hold transcripts


class Tensors(NamedTuple):
    """A safetensors file in its parts, so that what is spoilt is the header and not always the first byte."""

    header: dict[str, Any]
    body: bytes

    def encode(self) -> bytes:
        text = json.dumps(self.header).encode()
        return struct.pack("<Q", len(text)) + text + self.body


def tensors(values: dict[str, np.ndarray], metadata: dict[str, str]) -> Tensors:
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for name, value in values.items():
        kind = {"float32": "F32", "int64": "I64"}[str(value.dtype)]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    return Tensors(header, body)


class Array(NamedTuple):
    """An `.npy` in its parts."""

    header: str
    body: bytes

    def encode(self) -> bytes:
        text = self.header.encode("latin1", "replace")
        text += b" " * (-(len(text) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text[:65535] + self.body


def array(values: np.ndarray) -> Array:
    return Array(f"{{'descr': '{values.dtype.str}', 'fortran_order': False, 'shape': {values.shape}, }}", values.tobytes())


class Archive(NamedTuple):
    """An `.npz` of such arrays."""

    members: dict[str, Any]

    def encode(self) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as file:
            for name, value in self.members.items():
                file.writestr(f"{str(name)[:99] or 'x'}.npy", encode(value))
        return stream.getvalue()


class Pickled(NamedTuple):
    """What goes through pickle."""

    value: Any

    def encode(self) -> bytes:
        return pickle.dumps(self.value, protocol=4)


class Lines(NamedTuple):
    """JSON lines."""

    rows: list[Any]

    def encode(self) -> bytes:
        return "".join(json.dumps(row, default=str) + "\n" for row in self.rows).encode()


class Json(NamedTuple):
    value: Any

    def encode(self) -> bytes:
        return json.dumps(self.value, default=str).encode("utf-8", "replace")


def encode(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return value.encode() if hasattr(value, "encode") else str(value).encode("utf-8", "replace")


FLOATS = np.arange(8, dtype=np.float32).reshape(4, 2)
TURNS = [{key: row[key] for key in ("speaker", "text")} for row in ROWS]
VECTORS = [{**turn, "features": {"text": [0.1] * 16, "audio": [0.2] * 8}} for turn in TURNS]


class Signed(NamedTuple):
    """The manifest of a saved corpus with the digest that goes with it."""

    value: Any

    def encode(self) -> bytes:
        plain = json.loads(Json(self.value).encode())
        return json.dumps({**plain, "sha256": _digest(plain)} if isinstance(plain, dict) else plain).encode()


class Format(NamedTuple):
    """A command, the files that it reads, and the one of them that is spoilt; `{}` is the folder of the files, `{model}` a whole model."""

    command: list[str]
    files: dict[str, Any]
    spoilt: str


def formats(made: Path) -> dict[str, Format]:
    """Name → format.

    Args:
        made: A folder with a saved corpus, `corpus`, a model, `model`, and a run with one seed, `run`.
    """
    found: dict[str, Format] = {}

    def one(name: str, content: Any, *command: str) -> None:
        found[name] = Format(list(command) or ["corpus", "inspect", f"{{}}/{name}"], {name: content}, name)

    def part(name: str, line: str, files: dict[str, Any]) -> None:
        manifest = {"u.csv": table(ROWS), "corpus.toml": f"{MANIFEST}{line}\n", **files}
        found.update({f"{name}/{spoilt}": Format(["corpus", "inspect", "{}"], manifest, spoilt) for spoilt in files})

    def folder(name: str, *command: str, **contents: Any) -> None:
        own = {str(path.relative_to(made / name)): path.read_bytes() for path in (made / name).rglob("*") if path.is_file()}
        for path, content in contents.items():
            path = path.replace("__", "/").replace("_", ".")
            found[f"{name}/{path}"] = Format(list(command), {**own, path: content(own[path])}, path)

    def read(content: bytes) -> Any:
        return json.loads(content)

    for lengths, parts, layout in ((IEMOCAP, fields(IEMOCAP), "9"), (MELD, fields(MELD, meld=True), "MELD")):
        one(f"tuple-{len(lengths)}.pkl", Pickled(tuple(parts[name] for name in layout_of(layout))))
    parts = fields(IEMOCAP)
    named = {"speaker": parts["speakers"], "label": parts["labels"], "text": parts["text"], "sentence": parts["sentences"]}
    one("dnr.pkl", Pickled({**named, "trainVid": parts["train"], "testVid": parts["test"]}))
    one("corect.pkl", Pickled({"train": [sample("Ses01F_impro01", 2)], "test": [sample("Ses05F_impro01", 3)]}))
    clips = {"id": ["a$_$1", "a$_$2"], "text": np.ones((2, 3, 4)), "audio": np.ones((2, 3, 2)), "raw_text": ["x", "y"]}
    clips["regression_labels"] = np.array([0.5, -1.0])
    one("mmsa.pkl", Pickled({"train": clips, "test": {**clips, "id": ["b$_$1", "b$_$2"]}}))
    said = [
        {"text": "a", "speaker": "A", "label": "joy", "cls": [0.1, 0.2]},
        {"text": "b", "speaker": "B", "label": None, "cls": [0.3, 0.4]},
    ]
    one("dagerc_train.json", Json([said, said[:1]]))
    one("rows.json", Json(ROWS))
    one("rows.jsonl", Lines(ROWS))
    one("rows.csv", table(ROWS))
    one("rows.parquet", parquet(ROWS))

    rows, words, ids = array(FLOATS), array(np.array(IDS)), json.dumps(IDS)
    offsets = np.array([0, 1, 2, 3, 4])
    part("manifest", "", {"corpus.toml": MANIFEST})
    part("splits", 'splits = "s.json"', {"s.json": Json({"train": ["d"], "dev": [], "test": []})})
    part("npz", '[features]\ntext = "f.npz"', {"f.npz": Archive({"utterance": words, "features": rows})})
    part("npy", '[features]\ntext = "f.npy"', {"f.npy": rows, "f.ids.txt": "\n".join(IDS)})
    part("npy json", '[features]\ntext = "f.npy"', {"f.npy": rows, "f.ids.json": Json(IDS)})
    part("tensors", '[features]\ntext = "f.safetensors"', {"f.safetensors": tensors({"features": FLOATS}, {"utterance": ids})})
    part("rows", '[features]\ntext = "f"', {f"f/{name}.npy": array(row) for name, row in zip(IDS[:2], FLOATS[:2], strict=True)})
    part("sequences", '[sequences]\ntext = "f.npz"', {"f.npz": Archive({"utterance": words, "values": rows, "offsets": array(offsets)})})
    inner = tensors({"values": FLOATS, "offsets": offsets}, {"utterance": ids})
    part("sequences", '[sequences]\ntext = "f.safetensors"', {"f.safetensors": inner})
    part("sound", '[sequences]\naudio = "f"', {"f/u0.wav": sound()})
    part("pictures", '[sequences]\nvisual = "f"', {"f/u0/1.png": picture()})

    predict = ("predict", "--model", "{model}")
    one("talk.txt", "Ann: hello\nBob (angry): no\n[00:12] Ann: well\nand so on\n", *predict, "{}/talk.txt")
    one("talk.json", Json(VECTORS), *predict, "{}/talk.json")
    one("talk.jsonl", Lines(VECTORS), *predict, "{}/talk.jsonl")
    one("talk.csv", table(TURNS), *predict, "{}/talk.csv")
    recipe = (Path(__file__).parents[3] / "graphs" / "corect.toml").read_text()
    one("recipe.toml", recipe, "graph", "sample", "--recipe", "{}/recipe.toml", "--out", "{}/graph.graphml")
    own = 'method = "bigru"\n[training]\nepochs = 2\n[pipeline]\nwidth = 8\n'
    one("own.toml", own, "experiment", "bigru", "--data", "sample", "--dry-run", "--config", "{}/own.toml")
    folder(
        "corpus", "corpus", "inspect", "{}", corpus_json=lambda content: Signed({k: v for k, v in read(content).items() if k != "sha256"})
    )
    model = {"config_json": lambda content: Json(read(content)), "model_safetensors": parsed}
    folder("model", "predict", "--model", "{}", "{talk}", **model)
    run = {"config_json": lambda content: Json(read(content)), "seed-0__best_safetensors": parsed}
    folder("run", "predict", "--model", "{}", "{talk}", **run)
    results = {"result_json": lambda content: Json(read(content)), "predictions_csv": lambda content: content.decode()}
    folder("run", "compare", "{}", "{run}", **results)
    for path in sorted(CASES.rglob("*.*")):  # exports of the tools that people have
        if path.suffix not in (".toml", ".py"):
            content, words = path.read_bytes(), ("corpus", "inspect") if path.parent.name[:2] in TABLES else predict
            valid = path.suffix == ".json" and content.startswith((b"[", b"{"))
            found[f"{EXPORT}{path.relative_to(CASES)}"] = Format(
                [*words, f"{{}}/{path.name}"], {path.name: Json(json.loads(content)) if valid else content}, path.name
            )
    return found


def parsed(content: bytes) -> Tensors:
    """A safetensors file in its parts."""
    (size,) = struct.unpack("<Q", content[:8])
    return Tensors(json.loads(content[8 : 8 + size]), content[8 + size :])


# -- spoiling ----------------------------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def laughs() -> Any:
    value: Any = "ha" * 50
    for _ in range(9):
        value = [value] * 10
    return value


NUMBERS = (-1, 0, 300, 2**31, 2**62, 2**64, -(2**63), 10**30, 0.5, 1e300, 3e38, -1e39, float("nan"), float("inf"))
WORDS = ("", "x", "nan", "1e999", "a\nb\x1b[31m", "\0", "\ud800", "é" * 300, "9" * 5000, "../../x", "x" * 100_000)
PLAIN = (None, True, *NUMBERS, *WORDS, [], {}, [[]], [None], {"a": {"b": []}}, {"": 1})
OBJECTS = (
    10**5000, b"x", b"\xff" * 40, (1, 2), {1, 2}, 1j, bytearray(9), np.float32(3e38), np.zeros(()), np.zeros((0, 5)), np.zeros(3, "<U0"),
    np.empty((10**9, 0), np.float32), np.array("x"), np.array([object()], object), np.array([1 + 2j]), np.array(["2020"], "M8[Y]"),
)  # fmt: skip
TEXTS = (
    "[" * 5000, "{" * 5000, "9" * 5000, "a." * 5000, "(" * 3000, " " * 9000, "\n" * 9000, "1e999", "4000000000", "-", "\x00", "\r", '"',
    "\ufeff", "True", "NaN", ":", ",", "é",
)  # fmt: skip


def spoil(content: Any, random: random.Random) -> bytes:
    """The bytes of a file, changed in one to three places: in what it says, or anywhere."""
    structured = not isinstance(content, bytes | str)
    if structured and random.random() < 0.6:
        content = copy.deepcopy(content)
        for _ in range(random.choice((1, 1, 2))):
            content = replaced(content, random, objects=isinstance(content, Pickled))
        with suppress(TypeError, ValueError, OverflowError, RecursionError, struct.error, KeyError, AttributeError):
            return encode(content)
        return b""
    found = bytearray(encode(content))
    for _ in range(random.randint(1, 3)):
        at, end = sorted(random.randrange(len(found) + 1) for _ in range(2))
        kind = random.randrange(7)
        if kind == 0 and found:
            found[at % len(found)] = random.randrange(256)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            found[at:at] = found[at:end] * random.choice((1, 2, 50))
        elif kind == 3:
            del found[at : min(end, at + 20)]
        elif kind == 4:
            found[at:at] = random.choice(TEXTS).encode()
        elif kind == 5 and (numbers := list(re.finditer(rb"\d+", bytes(found)))):
            number = random.choice(numbers)
            found[slice(*number.span())] = random.choice(TEXTS).encode()
        elif found:
            found[at % len(found)] ^= 1 << random.randrange(8)
    return bytes(found)


def replaced(value: Any, random: random.Random, *, objects: bool, depth: int = 0) -> Any:
    """The value with something else in one place of it."""
    if depth and (random.random() < 0.25 or not isinstance(value, dict | list | tuple)):
        kinds = random.randrange(8)
        if kinds == 0:
            return nested(random.choice((3, 200)))
        if kinds == 1 and objects:
            return laughs()
        if kinds == 2 and isinstance(value, str | bytes):
            return spoil(value, random).decode("utf-8", "replace") if isinstance(value, str) else spoil(value, random)
        return copy.deepcopy(random.choice(PLAIN + OBJECTS if objects else PLAIN))
    if isinstance(value, dict) and value:
        key = random.choice(list(value))
        if random.random() < 0.15:
            rest = {name: item for name, item in value.items() if name != key}
            return (
                rest
                if random.random() < 0.5
                else {**rest, random.choice(("x", "", "y" * 999, *((3, None, (1, 2)) if objects else ()))): value[key]}
            )
        return {**value, key: replaced(value[key], random, objects=objects, depth=depth + 1)}
    if isinstance(value, list | tuple) and value:
        items, at = list(value), random.randrange(len(value))
        if random.random() < 0.15 and not hasattr(value, "_fields"):
            items = items * 2 if random.random() < 0.5 else items[:at]
        else:
            items[at] = replaced(items[at], random, objects=objects, depth=depth + 1)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
