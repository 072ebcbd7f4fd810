"""The command `erc-graph features`: compute a feature file for a corpus from its text, audio or video."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erc_graph.cli.command import Formatter, command
from erc_graph.data.printable import printable

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from erc_graph.features.extract import Extraction
    from erc_graph.features.features_config import FeaturesConfig
    from erc_graph.features.fine_tuning import TuningConfig

DESCRIPTION = """Compute features of a corpus and write them to a file. To use the features,
name this file in corpus.toml.

After an interruption, the same command continues the computation.
`accelerate launch --module erc_graph features ...` uses several processes.
"""
EXAMPLES = """examples:
  erc-graph features --data corpora/meld --model all-MiniLM-L6-v2 \\
      --out corpora/meld/text.safetensors
      write sentence vectors of a pretrained encoder
  erc-graph features --data corpora/meld --model models/roberta-large \\
      --pooling words --layer -2 --out corpora/meld/words.safetensors
      write token states of the second-last layer of a model in a folder
  erc-graph features --data corpora/meld --model all-MiniLM-L6-v2 \\
      --fine-tune --cross-fit 3 --output log-probabilities \\
      --out corpora/meld/text_logp.safetensors
      fine-tune on the utterances of the training split, in three folds
  erc-graph features --data corpora/meld --model models/llama \\
      --pooling last --layer -4 --pca 256 --half --out lm.safetensors
      write 256 principal components of the states of a language model
"""


def make_parser() -> ArgumentParser:
    """Return the argument parser of `erc-graph features`, in which every field of the configuration is an option."""
    from jsonargparse import ActionYesNo

    from erc_graph.experiments.options import OptionParser
    from erc_graph.features.features_config import FeaturesConfig
    from erc_graph.features.fine_tuning import TuningConfig

    parser = OptionParser(
        prog="erc-graph features", usage="%(prog)s [options]", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=Formatter,
        unwritten=("config",),
    )  # fmt: skip
    parser.add_argument("--config", action="config", help="TOML file with any of the options below.")
    switches = {
        "fine_tune": "First fine-tune the text encoder on the single utterances of the training split.",
        "half": "Write 16-bit numbers (float16).",
        "strict": "Stop if an input is too long or a file cannot be read. Without --strict, long inputs are cut, unreadable files are left "
        "out, and a note gives their numbers.",
    }
    parser.add_class_arguments(FeaturesConfig, skip=set(switches))
    for name, words in switches.items():
        parser.add_argument(f"--{name}", action=ActionYesNo(no_prefix="no_"), help=words)
    parser.add_class_arguments(TuningConfig, "tuning", skip={"lora", "quantize"})
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph features` and return its exit code (0 success, 2 error, 130 stopped)."""
    from erc_graph.errors import ConfigError
    from erc_graph.features.features_config import FeaturesConfig
    from erc_graph.features.fine_tuning import TuningConfig

    values = vars(make_parser().parse_args(argv))
    tuning = TuningConfig(**vars(values.pop("tuning")))
    values.pop("config")
    config = FeaturesConfig(**values)
    if not config.fine_tune and tuning != TuningConfig():
        raise ConfigError("tuning: expected --fine-tune as well, because the options --tuning.* are settings of fine-tuning")
    return _features(config, tuning)


def _features(config: FeaturesConfig, tuning: TuningConfig) -> int:
    from erc_graph.data.files.load import load_corpus
    from erc_graph.features.extract import check_target, extract
    from erc_graph.features.of_pictures import picture_extraction
    from erc_graph.features.of_sound import sound_extraction
    from erc_graph.features.of_text import text_extraction
    from erc_graph.features.processes import Share

    check_target(Path(config.out))
    share = Share.of_launcher()
    quiet = None if share.first else True
    corpus = load_corpus(config.data, task=config.task)
    if config.modality == "text":
        extraction = text_extraction(corpus, config, tuning, share, quiet)
    else:
        extraction = {"audio": sound_extraction, "visual": picture_extraction}[config.modality](corpus, config, share)
    reasons = extract(Path(config.out), extraction, share=share, quiet=quiet)
    if share.first:
        for note in [*_remarks(extraction), *(f"{name}: {reason}" for name, reason in list(reasons.items())[:5])]:
            print(printable(f"note: {note}"), file=sys.stderr)
        if len(reasons) > 5:
            print(f"note: {len(reasons) - 5} more utterances have no features", file=sys.stderr)
        print(f"written: {config.out} ({len(extraction.ids) - len(reasons)} utterances)")
    return 0


def _remarks(extraction: Extraction) -> Iterator[str]:
    """Notes about changed or missing inputs, for example about texts that were cut."""
    note, number = extraction.note, len(extraction.ids)
    if cut := note.get("cut_to_length"):
        most = f"{note['longest']} tokens that the model reads" if "longest" in note else f"{note['seconds']:g} seconds"
        yield f"{cut} of {number} {'texts' if 'longest' in note else 'recordings'} are longer than the {most}, and were cut"
    for rate, count in note.get("resampled", {}).items():
        yield f"{count} of {number} recordings have a sampling rate of {rate} and were resampled to {note['sampling_rate']} Hz"
    if absent := note.get("without_file"):
        yield f"{absent} utterances have no file; they count as missing"
