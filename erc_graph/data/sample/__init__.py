"""Synthetic corpora: dialogues that are generated from a known model, as feature vectors or as words, audio and video."""
