"""Reading and writing of files: corpora, features, audio, video and transcripts. No other module opens files of the user."""
