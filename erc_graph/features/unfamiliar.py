"""Warnings about texts that do not suit a text encoder: utterances that are too long, and words outside its vocabulary."""

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
    """Return warnings about texts that the encoder cuts, and about text that seems to be in another language.

    Args:
        tokens: Tokenizer of the encoder.
        texts: Text of each utterance.
        readings: Input of the encoder for each utterance, which can include preceding utterances.
        name: Name of the encoder, used in messages.

    Returns:
        A list of at most two sentences.
    """
    said = []
    _, cut = tokens(readings)
    if cut:
        turns = "1 utterance is longer" if len(cut) == 1 else f"{len(cut)} utterances are longer"
        said.append(
            f"{turns} than {tokens.longest} tokens, the limit of {name}, so the rest of the text is not used (first: utterance {cut[0]})"
        )
    share, words = unfamiliar(tokens, texts)
    if share > MOST and words >= ENOUGH:
        said.append(
            f"{share:.0%} of the words are split or unknown for {name}; if the language or domain differs from that of the encoder, "
            "the labels are unreliable"
        )
    return said


def unfamiliar(tokens: Tokens, texts: Sequence[str]) -> tuple[float, int]:
    """Return the share of words that the tokenizer splits into several tokens or does not know, and the number of words.

    Both results are zero if the vocabulary is so large that it covers many languages.
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
