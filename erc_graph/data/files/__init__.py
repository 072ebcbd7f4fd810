"""Reading and writing: corpora, features, sound, pictures and transcripts as files; the only room that opens a file of a user."""
