"""Corpora that are made, not read: dialogues with known structure, as vectors and as words, sound and faces."""
