"""Experiments: training, repetition over seeds, ablation and comparison (`erc-graph experiment METHOD`)."""
