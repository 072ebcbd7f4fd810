"""Corpora that are made, not read: dialogues with known structure, as vectors and as words, audio and video."""
