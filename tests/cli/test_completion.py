from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from erc_graph.cli.completion import SHELLS, whole_parser
from erc_graph.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shtab

    path = tmp_path_factory.mktemp("completion") / "erc-graph.bash"
    path.write_text(shtab.complete(whole_parser(), "bash"))
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["erc-graph", "co"], {"corpus", "compare", "completion"}),
        (["erc-graph", "corpus", ""], {"inspect", "validate", "convert", "save"}),
        (["erc-graph", "corpus", "inspect", "--st"], {"--strict"}),
        (["erc-graph", "graph", "sample", "--spl"], {"--split"}),
        (["erc-graph", "experiment", ""], {"pairwise", "bigru"}),
        (["erc-graph", "experiment", "pairwise", "--pipeline.de"], {"--pipeline.depth"}),
        (["erc-graph", "list", "rec"], {"recipes"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str], script: Path) -> None:
    """The script is sourced by a real bash and asked as the shell asks it."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
        source '{script}'
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
        function=$(complete -p erc-graph | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function erc-graph '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert expected <= {line.strip() for line in done.stdout.splitlines()}, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_every_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS) and "--pipeline.depth" in shown


def test_shells_are_those_of_shtab() -> None:
    import shtab

    assert set(SHELLS) <= set(shtab.SUPPORTED_SHELLS)
