"""`python -m starter.shared_dialogues --emorynlp FOLDER --meld FOLDER`: list dialogues of EmoryNLP that share texts with MELD.

Both corpora are from the same television series. A training or development dialogue of EmoryNLP is left out of the training if it shares a
text of more than 20 characters with the development or test split of MELD. The starter model is therefore evaluated on unseen text of MELD.
The comparison of texts ignores case and punctuation. `shared_dialogues.json` contains names of scenes and no text. `--check` writes
nothing, and returns exit code 1 if the list has changed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import write_json
from erc_graph.errors import CorpusError

LIST = Path(__file__).with_name("shared_dialogues.json")
LONGER = 20  # characters; shorter texts (`Oh my God!`) are said in any conversation


def words(text: str) -> str:
    """Return the words of a text in lower case.

    >>> words("I\\x92m SO happy...")
    'i m so happy'
    """
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def scene(dialogue: str) -> str:
    """Return the name of a scene of EmoryNLP in a uniform format.

    Raises:
        CorpusError: the name does not consist of season, episode and scene.

    >>> scene("4_21_7"), scene("s04_e21_c07")
    ('s04_e21_c07', 's04_e21_c07')
    """
    numbers = re.fullmatch(r"s?(\d+)_e?(\d+)_c?(\d+)", dialogue)
    if numbers is None:
        raise CorpusError(f"emorynlp: expected season, episode and scene as the name of a dialogue (s01_e02_c03), found {dialogue[:60]!r}")
    return "s{:02d}_e{:02d}_c{:02d}".format(*map(int, numbers.groups()))


def shared_dialogues(emorynlp: Corpus, meld: Corpus) -> list[str]:
    """Return the scenes of EmoryNLP's training and development splits that share a text with MELD's development or test split."""
    said = {words(text) for split in ("dev", "test") for text in meld.split(split).texts}
    learned = emorynlp.subset([*emorynlp.splits["train"], *emorynlp.splits["dev"]])
    found = set()
    for row, text in enumerate(map(words, learned.texts)):
        if len(text) > LONGER and text in said:
            found.add(scene(learned.dialogue_ids[int(learned.dialogue_of[row])]))
    return sorted(found)


def listed() -> frozenset[str]:
    """Return the scenes of the committed list."""
    return frozenset(json.loads(LIST.read_text(encoding="ascii")))


def main(argv: list[str] | None = None) -> int:
    """Write or check the list, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m starter.shared_dialogues", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--emorynlp", required=True)
    parser.add_argument("--meld", required=True)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    found = shared_dialogues(load_corpus(options.emorynlp), load_corpus(options.meld))
    if options.check:
        return int(frozenset(found) != listed())
    write_json(LIST, found)
    print(f"{len(found)} dialogues")
    return 0


if __name__ == "__main__":
    sys.exit(main())
