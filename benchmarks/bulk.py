"""`python -m benchmarks.bulk`: bulk labelling of many conversations by one worker, by two workers, by Ray, and with two interruptions.

- Case `vectors`: a Parquet file with a vector of 16 numbers per utterance, for a model without a text encoder.
- Case `text`: a JSON-lines file of sentences, for a model with the encoder all-MiniLM-L6-v2 (extra [minilm]).
- Case `files`: a folder of 200 transcripts in one process. The result is the time per file in milliseconds, without the encoder.
- Case `lines`: one long transcript in one process.

The input is generated. The models are untrained, because training does not change the time. All runs of a case must write files with the
same bytes. The memory is read from /proc. It is given for the largest process, and as the sum over all processes at one moment; the sum
counts a shared memory page once.

`--turns 10000 --encoded 300 --lines 500` gives a short trial. `--cases vectors` measures only this case; the rows of other cases remain.
`make tables` writes the rows into docs/predict.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS
from erc_graph.data.files.storage import write_json
from erc_graph.report.text_tables import markdown_table, text_table

WORDS = ("well", "so", "I", "you", "we", "they", "really", "never", "think", "want", "love", "hate", "miss", "work", "please", "sorry")
WIDTH, FILES, EACH = 16, 200, 10
FORMS = {"vectors": "Parquet", "text": "JSON lines"}
CASES, ORDER = ("vectors", "text", "files"), ("vectors", "text", "files", "lines")
Row = dict[str, Any]


def turns(count: int, vectors: bool) -> Iterator[Row]:
    """Yield the utterances of conversations with 2 to 40 utterances and 2 or 3 speakers."""
    chance, number = random.Random(0), 0
    while count > 0:
        for turn in range(min(count, chance.randint(2, 40))):
            row: Row = {
                "dialogue": f"d{number}",
                "turn": turn,
                "speaker": chance.choice("ABC"),
                "text": sentence(chance),
                "message": number,
            }
            if vectors:
                row["features"] = {"text": [round(chance.gauss(0, 1), 4) for _ in range(WIDTH)]}
            yield row
            count -= 1
        number += 1


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(2, 20))) + chance.choice(".!?")


def write_vectors(path: Path, count: int) -> None:
    import pyarrow
    import pyarrow.parquet

    rows, writer = turns(count, True), None
    while part := [row for row, _ in zip(rows, range(20_000), strict=False)]:
        table = pyarrow.Table.from_pylist(part)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def write_text(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in turns(count, False))


def save_models(folder: Path) -> None:
    import torch

    from erc_graph import METHODS, Pipeline, Schema
    from erc_graph.data.tasks import TASKS

    torch.manual_seed(0)
    for name, width, made in (("vectors", WIDTH, {}), ("text", 384, {"text": "all-MiniLM-L6-v2"})):
        schema = Schema(widths={"text": width}, task=TASKS["meld7"], provenance={"extractors": made})
        Pipeline(METHODS["pairwise"](schema)).save_pretrained(folder / name)


def command(model: Path, given: Path, out: Path, workers: int, launcher: str = "local") -> subprocess.Popen[bytes]:
    """Start the command in a separate session, so that all its processes can be found and killed."""
    words = ["predict", "--model", str(model), str(given), "--out", str(out), "--workers", str(workers), "--launcher", launcher]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "erc_graph", *words]
    return subprocess.Popen(
        arguments, env=environment, cwd=RESULTS.parents[1], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def members(session: int) -> dict[int, tuple[int, int]]:
    """Return the processes of a session, each with peak resident memory and current proportional memory (Pss), in bytes."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            status, rollup = (dict(line.split(":", 1) for line in text.splitlines() if ":" in line) for text in (
                (path / "status").read_text(), (path / "smaps_rollup").read_text(),
            ))  # fmt: skip
            found[int(path.name)] = 1024 * int(status["VmHWM"].split()[0]), 1024 * int(rollup["Pss"].split()[0])
        except (OSError, LookupError):
            continue
    return found


def run(model: Path, given: Path, out: Path, workers: int, launcher: str = "local") -> Row:
    """Run the command, and return its seconds and its peak memory: of one process, and of all processes, including servers of Ray."""
    start = time.perf_counter()
    process = command(model, given, out, workers, launcher)
    one = together = 0
    while process.poll() is None:
        found = members(process.pid)
        one = max([one, *(most for most, _ in found.values())])
        together = max(together, sum(share for _, share in found.values()))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"bulk: expected exit code 0 of `erc-graph predict`, found {process.returncode}")
    return {"seconds": time.perf_counter() - start, "peak_bytes": one, "peak_bytes_together": together}


def killed(model: Path, given: Path, out: Path, shards: int) -> Row:
    """Run the command, kill it with all workers after one and two thirds of the shards, and continue it each time."""
    start = time.perf_counter()
    for share in (1, 2):
        process = command(model, given, out, 2)
        while process.poll() is None and finished(out) < max(share, shards * share // 3):
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = run(model, given, out, 2)
    return {**last, "seconds": time.perf_counter() - start}


def finished(out: Path) -> int:
    path = out / "shards.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def digest(folder: Path) -> str:
    """Return the digest of names and contents of all files in a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def ways(folder: Path, kind: str, given: Path, count: int) -> list[Row]:
    """Return one row per way of running a case."""
    rows, digests = [], {}

    def add(way: str, row: Row, out: Path) -> None:
        digests[way] = digest(out)
        rows.append({"case": f"{kind} {count}", "way": way, "turns": count, **row, "turns_per_second": count / row["seconds"]})
        print(f"{kind} {count}: {way}: {row['seconds']:.1f} s", file=sys.stderr)

    outs = {way: folder / f"{kind}-{way.replace(' ', '-')}" for way in ("workers 1", "workers 2", "killed twice", "ray 2")}
    add("workers 1", run(folder / kind, given, outs["workers 1"], 1), outs["workers 1"])
    add("workers 2", run(folder / kind, given, outs["workers 2"], 2), outs["workers 2"])
    add("killed twice", killed(folder / kind, given, outs["killed twice"], finished(outs["workers 2"])), outs["killed twice"])
    add("ray 2", run(folder / kind, given, outs["ray 2"], 2, "ray"), outs["ray 2"])
    if len({*digests.values()}) > 1:
        raise SystemExit(f"{kind}: expected the same bytes in all ways, found {digests}")
    rows[1]["times_as_fast"] = rows[0]["seconds"] / rows[1]["seconds"]
    return rows


def files(folder: Path, long: int) -> list[Row]:
    """Return rows of the cases `files` and `lines`, run in this process; the time of the encoder is subtracted."""
    from erc_graph import Pipeline
    from erc_graph.data.files.shards import cut, find_sources
    from erc_graph.inference.label_files import write_labels
    from erc_graph.inference.labeller import Labeller

    chance, spent = random.Random(1), [0.0]
    for name, number, length in (("warm", 1, EACH), ("files", FILES, EACH), ("lines", 1, long)):
        (folder / name).mkdir()
        for file in range(number):
            said = "".join(f"{chance.choice(('Ann', 'Bob'))}: {sentence(chance)}\n" for _ in range(length))
            (folder / name / f"talk-{file:03d}.txt").write_text(said, encoding="utf-8")
    pipeline = Pipeline.from_pretrained(folder / "text")
    labeller = Labeller(pipeline)
    load = labeller.kept

    def timed(name: str) -> Any:
        encoder = load(name)

        class Timed:
            def __getattr__(self, name: str) -> Any:
                return getattr(encoder, name)

            def __call__(self, *given: Any) -> Any:
                start = time.perf_counter()
                vectors = encoder(*given)
                spent[0] += time.perf_counter() - start
                return vectors

        return Timed()

    labeller.kept = timed  # type: ignore[assignment]
    rows = []
    for name, number, count in (("warm", 1, EACH), ("files", FILES, FILES * EACH), ("lines", 1, long)):
        spent[0], start = 0.0, time.perf_counter()
        for source in find_sources([str(folder / name)]):
            for shard in cut(source):
                said = labeller(shard)
                write_labels(folder / f"{name}-out" / f"{shard.name}.jsonl", "jsonl", said.rows, pipeline.task.labels)
        taken = time.perf_counter() - start
        if name != "warm":  # what is loaded once
            row: Row = {
                "case": f"{name} {long if name == 'lines' else number}",
                "way": "this process",
                "turns": count,
                "seconds": taken,
                "encoder_seconds": spent[0],
            }
            rows.append({**row, "turns_per_second": count / taken, "milliseconds_per_file": 1e3 * (taken - spent[0]) / number})
    return rows


def plan(path: Path, count: int) -> float:
    """Return utterances per second for dividing a file into shards, which one process does for all workers."""
    from erc_graph.data.files.shards import Source, cut

    start = time.perf_counter()
    for _ in cut(Source(path=path, name=path.name, size=path.stat().st_size)):
        pass
    return count / (time.perf_counter() - start)


def page(result: dict[str, Any]) -> str:
    """Return the generated block of docs/predict.md: the rows, and an extrapolation to a billion utterances."""
    rows = [[row["case"], row["way"], *cells(row)] for row in result["rows"]]
    text = markdown_table(["case", "way", "s", "utterances/s", "MiB of one process", "MiB of all at once", "ms a file"], rows)
    best = {row["case"].split()[0]: row for row in result["rows"] if row["way"] == "workers 2"}
    faster = [f"{row['times_as_fast']:.2f} times as fast as one on `{case}`" for case, row in best.items() if "times_as_fast" in row]
    load = max(row["load_average"] for row in result["rows"])
    text += f"\n\nRecorded at a load average of {load:.1f} on {result['cores']} cores. Two workers are "
    text += f"{' and '.join(faster)}. Their start is included."
    if max(row["turns"] for row in result["rows"]) < 1_000_000 or load > 1:
        text += "\nThis was a short run or a busy machine. Starting takes most of the time, so the following hours are an upper bound."
    hours = [f"{1e9 / row['turns_per_second'] * 2 / 3600:.0f} core hours for `{case}`" for case, row in best.items()]
    text += f"\nAt these rates a billion utterances would take {' and '.join(hours)}."
    kinds = result["plan_turns_per_second"]
    feeds = {case: kinds[case] / (row["turns_per_second"] / 2) for case, row in best.items()}
    size = f"{result['bytes_per_turn']:.0f}"
    text += f" Their labels would take {size} GB as Parquet ({size} bytes each).\nThe process that divides the files reaches "
    text += " and ".join(f"{rate:.0f} utterances/s in {FORMS[case]}" for case, rate in kinds.items())
    return text + ".\nThat is enough for " + " and ".join(f"{feeds[case]:.0f} cores of `{case}`" for case in kinds) + "."


def cells(row: Row) -> list[str]:
    """Return the measurements of a row as text; a missing measurement is empty."""
    memory = [f"{row[name] / 2**20:.0f}" if name in row else "" for name in ("peak_bytes", "peak_bytes_together")]
    each = f"{row['milliseconds_per_file']:.1f}" if "milliseconds_per_file" in row else ""
    return [f"{row['seconds']:.1f}", f"{row['turns_per_second']:.0f}", *memory, each]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    parser.add_argument("--turns", type=int, default=1_000_000, help="utterances of the case `vectors` (default: a million)")
    parser.add_argument("--encoded", type=int, default=100_000, help="utterances of the case `text` (default: a hundred thousand)")
    parser.add_argument("--lines", type=int, default=5000, help="lines of the long transcript (default: 5000)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="cases to run (default: all)")
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk.json", metavar="FILE", help="file of the rows")
    options = parser.parse_args(argv)
    import torch

    from erc_graph.experiments.environment import environment

    torch.set_num_threads(1)  # as the workers
    kept = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() and len(options.cases) < len(CASES) else {}
    load, rows = os.getloadavg()[0], list[Row]()
    plans, size = dict(kept.get("plan_turns_per_second", {})), kept.get("bytes_per_turn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_models(folder)
        for case in options.cases:
            found: list[Row] = []
            if case == "vectors":
                write_vectors(folder / "talks.parquet", options.turns)
                write_vectors(folder / "tenth.parquet", tenth := options.turns // 10)
                row = run(folder / "vectors", folder / "tenth.parquet", folder / "tenth-out", 2)
                found.append(
                    {"case": f"vectors {tenth}", "way": "workers 2", "turns": tenth, **row, "turns_per_second": tenth / row["seconds"]}
                )
                found += ways(folder, "vectors", folder / "talks.parquet", options.turns)
                plans["vectors"] = plan(folder / "talks.parquet", options.turns)
                size = sum(path.stat().st_size for path in (folder / "vectors-workers-2").rglob("*.parquet")) / options.turns
            elif case == "text":
                write_text(folder / "talks.jsonl", options.encoded)
                found += ways(folder, "text", folder / "talks.jsonl", options.encoded)
                plans["text"] = plan(folder / "talks.jsonl", options.encoded)
            else:
                found += files(folder, options.lines)
            rows += [{**row, "load_average": load} for row in found]
            others = [row for row in kept.get("rows", []) if row["case"].split()[0] not in {row["case"].split()[0] for row in rows}]
            ordered = sorted([*others, *rows], key=lambda row: ORDER.index(row["case"].split()[0]))
            result = {"environment": environment("cpu"), "cores": os.cpu_count(), "bytes_per_turn": size}
            write_json(options.json, {**result, "plan_turns_per_second": plans, "rows": ordered})
    print(
        text_table(
            ["case", "way", "s", "turns/s", "MiB of one", "MiB of all", "ms a file"], [[r["case"], r["way"], *cells(r)] for r in rows]
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
