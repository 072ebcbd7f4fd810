"""The known spellings of table columns and JSON keys for each property of an utterance, for all file formats.

Spellings are compared by their letters and digits only, ignoring upper and lower case: `Scene_ID`, `sceneId` and `scene id` are equal. To
add a new spelling for all file formats, add one word to `SPELLINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What → its spellings, in the order in which they are tried. A column serves once, and `text` chooses before `utterance`: MELD calls
# the text `Utterance`, our own tables call the id so.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "text": (
        "text", "utterance", "sentence", "transcript", "transcription", "message", "content", "body", "msg", "raw_text", "utterance_text",
        "message_text", "caption", "nachricht", "äußerung", "texte", "texto", "testo", "tekst",
        "mensaje", "mensagem", "messaggio", "wiadomość",
    ),
    "speaker": (
        "speaker", "speaker_name", "speaker_id", "speaker_idx", "speaker_label", "sender", "sender_name", "sender_id", "participant",
        "participant_id", "participant_name", "participant_role", "author", "author_name", "from", "user", "username", "user_id",
        "user_name", "role", "name", "character", "party", "who",
        "sprecher", "sprecherin", "absender", "locuteur", "locutrice", "intervenant", "auteur", "hablante", "remitente", "autor", "falante",
        "remetente", "parlante", "mittente", "spreker", "afzender", "nadawca",
    ),
    "dialogue": (
        "dialogue", "dialogue_id", "dialog", "dialog_id", "conversation", "conversation_id", "conv", "conv_id", "convo_id",
        "conversation_idx", "dialogue_idx", "scene_id", "scene", "session", "session_id", "call", "call_id", "chat", "chat_id",
        "thread", "thread_id", "ticket", "ticket_id", "case_id", "video_id", "video",
    ),
    "turn": ("turn", "turn_id", "turn_no", "turn_number", "turn_idx", "utterance_id", "utterance_idx", "utterance_no", "position"),
    "utterance": ("utterance", "utterance_id", "utt_id", "utt", "uid", "id", "message_id", "segment_id", "clip"),
    "label": ("label", "emotion", "emotion_label", "emo", "emotions", "feeling", "gold", "label_emotion"),
    "sentiment": ("sentiment", "sentiment_label", "polarity"),
    "score": ("score", "sentiment_score"),
    "split": ("split", "set", "partition", "subset"),
    "start": ("start", "start_time", "begin", "onset", "timestamp", "time", "datetime", "date", "created_at", "sent_at", "ts", "offset",
        "zeit", "uhrzeit", "datum", "heure", "hora", "fecha", "orario", "czas"),
    "end": ("end", "end_time", "stop", "stop_time", "offset_end"),
}  # fmt: skip

# Tiers of annotation tools that say something about the speech, and are nobody's.
ABOUT_SPEECH = {
    *SPELLINGS["label"], *SPELLINGS["sentiment"], *SPELLINGS["score"], "valence", "arousal", "dominance", "affect", "mood",
    "gesture", "gestures", "gaze", "posture", "facial_expression", "notes", "note", "comment", "comments", "remarks", "translation",
    "free_translation", "gloss", "glosses", "topic", "topics", "laughter", "noise", "silence", "silences", "pauses", "pitch", "intonation",
    "prosody", "tones", "pos", "dialogue_act", "dialog_act", "kommentar", "kommentare", "übersetzung", "geste", "gesten",
    "commentaire", "traduction", "comentario", "traducción",
} - {"gold"}  # fmt: skip

SPLIT_NAMES = {
    "train": "train", "trn": "train", "training": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev",
    "development": "dev", "test": "test", "tst": "test", "testing": "test",
}  # fmt: skip


def plain(name: object) -> str:
    """Return the letters and digits of a name in lower case. Two names with the same result count as equal.

    >>> plain("Scene_ID"), plain(" start time")
    ('sceneid', 'starttime')
    """
    text = str(name).lower()
    return text if text.isalnum() else "".join(letter for letter in text if letter.isalnum())


_ABOUT = {plain(name) for name in ABOUT_SPEECH}


def is_about_speech(name: str) -> bool:
    """Return whether a tier (a layer in a file of an annotation tool) contains annotations instead of speech.

    The decision uses the name of the tier, or the first or last word of the name.

    >>> is_about_speech("Emotion"), is_about_speech("gesture@Ann"), is_about_speech("Ann - notes"), is_about_speech("Ann Berg")
    (True, True, True, False)
    """
    parts = [part for part in re.split(r"[@:/|_.\-\s]+", name[:200]) if part]
    return bool({plain(name), *map(plain, parts[:1] + parts[-1:])} & _ABOUT)


def find_columns(names: Iterable[object]) -> dict[str, str]:
    """Return a dictionary: property of an utterance → the column or key in `names` that contains this property.

    >>> find_columns(["Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID"])
    {'text': 'Utterance', 'speaker': 'Speaker', 'dialogue': 'Scene_ID', 'turn': 'Utterance_ID', 'label': 'Emotion'}
    >>> find_columns(["dialogue", "turn", "speaker", "text", "utterance"])["utterance"]
    'utterance'
    """
    there = {plain(name): str(name) for name in reversed([*names])}
    found = {}
    for what, spellings in SPELLINGS.items():
        name = next((plain(spelling) for spelling in spellings if plain(spelling) in there), None)
        if name is not None:
            found[what] = there.pop(name)
    return found
