"""Experiments: training over several seeds, ablation tables, comparison of runs, leaderboards and bulk labelling."""
