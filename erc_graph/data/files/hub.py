"""Files of a model from the Hugging Face hub or its local cache. Files that contain code are never downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from erc_graph.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def hub_name(name: str) -> bool:
    """Return whether a name could be a model on the hub: `owner/model`, or an old name without an owner.

    >>> hub_name("sentence-transformers/all-MiniLM-L6-v2"), hub_name("../model"), hub_name("runs/meld/seed-0")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(name)) and ".." not in name and "--" not in name


def hub_folder(name: str, patterns: Sequence[str]) -> Path:
    """Return a folder with the files of a model; only files whose names match `patterns` are included. Files in the local cache are not
    downloaded again.

    Args:
        name: Name of the model, `owner/model`.
        patterns: Names of the files; `*` matches any characters.

    Raises:
        CheckpointError: the model does not exist, or there is no network connection and the cache lacks the files. The message says which
            files to download, and where to put them.
    """
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=list(patterns), etag_timeout=5))
    except Exception as error:  # the hub's own classes, those of two HTTP libraries, and OSError: all mean that it cannot be had
        reason = (str(error).strip().splitlines() or [""])[0][:160]
        raise CheckpointError(
            f"{name}: neither a local folder nor a name on the Hugging Face hub ({type(error).__name__}: {reason}); download its files "
            f"({', '.join(patterns)}) to a folder and give that folder"
        ) from None
