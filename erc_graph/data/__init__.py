"""Corpora, utterances, speakers, labels, features, splits and file formats. This subpackage is independent of graphs and models."""
