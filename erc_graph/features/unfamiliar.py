"""What a text encoder does not read as it was made for: ends of long utterances, and words that its vocabulary does not have."""

from __future__ import annotations

from collections.abc import Sequence

from erc_graph.features.context import Reading
from erc_graph.features.tokens import CHARACTERS, Tokens

ENOUGH = 10  # words, to judge a text by
LARGE = 60_000  # entries of a vocabulary for many languages, which cuts words of all of them
# Share of words that are cut or unknown. With all-MiniLM-L6-v2: at most 0.15 in each of MELD's 249 test dialogues of 20 words or more, at
# least 0.44 in samples of fourteen other languages.
MOST = 0.3
_SAMPLE = 500  # turns


def reading_remarks(tokens: Tokens, texts: Sequence[str], readings: Sequence[Reading], name: str) -> list[str]:
    """Say what the encoder cuts, and whether the text looks like another language than its own.

    Args:
        tokens: Of the encoder.
        texts: What is said, per utterance.
        readings: What the encoder reads of it, with what was said before where it reads that.
        name: Name of the encoder, for messages.

    Returns:
        No more than two sentences.
    """
    said = []
    _, cut = tokens(readings)
    if cut:
        turns = "1 turn is longer" if len(cut) == 1 else f"{len(cut)} turns are longer"
        said.append(f"{turns} than the {tokens.longest} tokens that {name} reads: the rest is not read (first: turn {cut[0]})")
    share, words = unfamiliar(tokens, texts)
    if share > MOST and words >= ENOUGH:
        said.append(
            f"{share:.0%} of the words are cut or unknown to {name}: another language or domain than the encoder's? "
            "Then the labels mean little"
        )
    return said


def unfamiliar(tokens: Tokens, texts: Sequence[str]) -> tuple[float, int]:
    """Return the share of words that the tokenizer cuts into pieces or does not know, and how many words there are.

    The share is zero for vocabularies of many languages.
    """
    tokenizer = tokens.tokenizer
    if tokenizer.get_vocab_size() > LARGE:
        return 0.0, 0
    unknown = {tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>")} - {None}
    cut = words = 0
    most = CHARACTERS * tokens.longest
    spoken = [text[:most].encode("utf-8", "replace").decode() for text in texts if text.strip()][:_SAMPLE]
    for text, one in zip(spoken, tokenizer.encode_batch(spoken, add_special_tokens=False), strict=True):
        pieces: dict[int, list[int]] = {}
        for word, (start, end), id in zip(one.word_ids, one.offsets, one.ids, strict=True):
            if word is not None and any(map(str.isalpha, text[start:end])):
                pieces.setdefault(word, []).append(id)
        words += len(pieces)
        cut += sum(len(ids) > 1 or ids[0] in unknown for ids in pieces.values())
    return cut / max(words, 1), words
