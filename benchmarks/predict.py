"""Time of `erc-graph predict` for a transcript of 50 utterances in a new process, and of one conversation with a model already in memory.

    python -m benchmarks.predict --model RUN [--out FILE]

RUN is a text-only model with the encoder all-MiniLM-L6-v2, for example
`erc-graph experiment pairwise --data corpora/meld --modalities '["text"]' --out runs/meld-text`. Every new process must import PyTorch. The
time of this import is measured in alternation with the command, so that other load on the machine affects both times.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SENTENCES = (
    "Hey! I got the job!",
    "What?! No way, that is amazing!",
    "I start on Monday, and we move in two weeks.",
    "Oh. I am going to miss you, really.",
    "Why did nobody tell me? I cannot believe you two!",
    "Calm down, please.",
)
TURNS = 50
FORBIDDEN = ("torch_geometric", "transformers", "torch._dynamo", "matplotlib")


def seconds(command: list[str]) -> tuple[float, float]:
    """Return elapsed and processor seconds of a command; on a busy machine, only the processor time is reliable."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(model: str, talk: Path, repeats: int) -> dict[str, float]:
    """Return median milliseconds for encoding the text of a conversation, and for everything else."""
    from erc_graph import Pipeline, load_transcript, prepare
    from erc_graph.features.text import TextEncoder

    pipeline, corpus = Pipeline.from_pretrained(model), load_transcript(talk)
    encoder = TextEncoder("all-MiniLM-L6-v2")
    vectors = encoder(corpus.texts)
    timed: dict[str, list[float]] = {"encode": [], "predict": [], "predict_cpu": []}
    for repeat in range(repeats + 3):
        start = time.perf_counter()
        encoder(corpus.texts)
        middle, spent = time.perf_counter(), time.process_time()
        pipeline.predict(prepare(load_transcript(talk), pipeline, encode=lambda _: vectors))
        if repeat >= 3:
            timed["encode"].append(1e3 * (middle - start))
            timed["predict"].append(1e3 * (time.perf_counter() - middle))
            timed["predict_cpu"].append(1e3 * (time.process_time() - spent))
    return {name: statistics.median(values) for name, values in timed.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/predict.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        talk = Path(folder) / "talk.txt"
        talk.write_text("\n".join(f"{'Ann' if i % 2 else 'Bob'}: {SENTENCES[i % len(SENTENCES)]}" for i in range(TURNS)), encoding="utf-8")
        command = [sys.executable, "-m", "erc_graph", "predict", "--model", options.model, str(talk)]
        loaded = subprocess.run([sys.executable, "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True).stderr
        imported = {line.rsplit("|", 1)[-1].strip() for line in loaded.splitlines()}
        found = [name for name in FORBIDDEN if name in imported]
        torch_alone, cold = [], []
        for _ in range(options.repeats):
            torch_alone.append(seconds([sys.executable, "-c", "import torch"]))
            cold.append(seconds(command))
        milliseconds = warm(options.model, talk, 4 * options.repeats)
    import torch

    from erc_graph.data.files.storage import write_json

    result = {
        "turns": TURNS,
        "cold_seconds": statistics.median(clock for clock, _ in cold),
        "cold_seconds_least": min(clock for clock, _ in cold),
        "cold_cpu_seconds": statistics.median(cpu for _, cpu in cold),
        "import_torch_seconds": statistics.median(clock for clock, _ in torch_alone),
        "import_torch_cpu_seconds": statistics.median(cpu for _, cpu in torch_alone),
        "cold_over_import_torch": statistics.median(c[0] / t[0] for c, t in zip(cold, torch_alone, strict=True)),
        "warm_predict_ms": milliseconds["predict"],
        "warm_predict_cpu_ms": milliseconds["predict_cpu"],
        "warm_encode_ms": milliseconds["encode"],
        "imported_though_heavy": found,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(
        f"cold process, {TURNS} turns     {result['cold_seconds']:.2f} s   (importing torch alone {result['import_torch_seconds']:.2f} s)"
    )
    print(f"warm, a conversation       {result['warm_predict_ms']:.1f} ms  (without the text encoder, {result['warm_encode_ms']:.0f} ms)")
    print(f"processor time             {result['cold_cpu_seconds']:.2f} s, {result['warm_predict_cpu_ms']:.1f} ms")
    print(f"heavy libraries imported   {', '.join(found) or 'none'}")
    write_json(options.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
