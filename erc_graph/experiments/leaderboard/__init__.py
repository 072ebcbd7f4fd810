"""The leaderboard, which evaluates every method with the same corpora, features, seeds, epoch selection and search budget."""
