"""Reading and writing of files: corpora, features, audio, video and transcripts; only these modules open files of a user."""
