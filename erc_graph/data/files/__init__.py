"""Reading and writing of files: corpora, features, audio, video and transcripts."""
