"""The leaderboard: every method on the same corpora, features, seeds, rule for the epoch and budget of settings."""
