"""Names come from others: nothing in them reaches the terminal as an instruction."""

import io
import os
import subprocess
import sys

import pytest
import torch
from rich.table import Table

from skyfan import logs
from skyfan.cli.console import PlainConsole
from skyfan.plain_text import printable

HOSTILE = {
    "colour": ("a\x1b[31mred", r"a\x1b[31mred"),
    "title": ("\x1b]0;PWNED\x07", r"\x1b]0;PWNED\x07"),
    "one-byte control": ("\x9b2J", r"\x9b2J"),
    "NUL": ("a\0b", r"a\x00b"),
    "carriage return": ("safe\rfake", r"safe\rfake"),
    "surrogate": ("a\udc80b", r"a\udc80b"),
    "right to left": ("tp.\u202exe", r"tp.\u202exe"),
    "isolate": ("\u2066x", r"\u2066x"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_printable_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["sky.pt", "Größe – 3 × 4 ± 1", "銀河", "emoji 🌌", "back\\slash", ""])
def test_other_text_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_consoles_escape_lines_and_tables(text, shown, terminal):
    stream = io.StringIO()
    console = PlainConsole(
        file=stream, force_terminal=terminal, color_system="standard" if terminal else None, width=80
    )
    console.print(f"name {text}")
    table = Table(title=text)
    table.add_column("tensor", style="red", min_width=40)
    table.add_row(text)
    console.print(table)
    written = stream.getvalue()
    for dropped in (r"\x07", r"\r"):  # rich leaves these out by itself
        shown = shown.replace(dropped, "")
    assert written.count(shown) == 3
    assert text not in written
    assert ("\x1b[" in written) is terminal  # its own colours are still there
    stream.getvalue().encode()


def test_names_are_no_instructions_to_rich():
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=80)
    console.print("[red]sky[/red]:star:.pt")
    console.print(Table("[b]z, spectroscopic", title="[i]:star:"))
    assert [part in stream.getvalue() for part in ("[red]sky[/red]:star:.pt", "[b]z", "[i]:star:")] == [True] * 3


def test_logs_for_people_escape_names_and_errors(capsys, monkeypatch):
    monkeypatch.setenv("SKYFAN_LOG_FORMAT", "text")
    logs.configure("test")
    error = ValueError("bad \x1b[2J name")
    logs.structlog.get_logger().error("failed on \x1b]0;x\x07", file="\x9b31m", exc_info=error)
    written = capsys.readouterr().err
    assert r"\x1b[2J" in written
    assert r"\x1b]0;x\x07" in written
    assert "\x1b" not in written
    assert "\x9b" not in written


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"\x1b[31mred.pt", b"\xff\xfe.pt", "\u202etp.x".encode()])
@pytest.mark.parametrize("command", ["inspect", "clean"])
def test_file_names_of_the_command_line(tmp_path, name, command):
    path = tmp_path / os.fsdecode(name)
    torch.save({"x": torch.zeros(3, 2), "note": "text"}, tmp_path / "plain.pt")
    (tmp_path / "plain.pt").rename(path)
    arguments = [path] if command == "inspect" else [path, tmp_path / "out.pt"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "skyfan", "data", command, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    text = (done.stdout + done.stderr).decode()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "Traceback" not in text
    assert done.returncode in (0, 2)
