"""The environment in which results were computed: package versions, git commit and device."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from erc_graph import __version__

PACKAGES = ("torch", "torch-geometric", "dgl", "transformers", "accelerate", "numpy", "scikit-learn", "scipy", "safetensors")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return package versions, git commit, device, and whether compiled graph layers are available, for `result.json`."""
    import torch

    from erc_graph.conv.angular import compiled

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "erc_graph": __version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "compiled": device == "cpu" and compiled.ready(),
        "packages": versions,
    }


def git_commit() -> str | None:
    """Return the git commit of the package, with `+changes` at its end if files have changed; `None` without a git repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")
