# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real runs of ansible-playbook on this machine alone, into a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLAYBOOK = """\
- name: Work
  hosts: all
  gather_facts: false
  strategy: {strategy}
  tasks:
    - name: Take a while
      ansible.builtin.command: sleep {{{{ seconds }}}}
      changed_when: inventory_hostname == 'h1'
    - name: Say something
      ansible.builtin.debug:
        msg: "first line\\nsecond line of {{{{ inventory_hostname }}}}"
      run_once: true
    - name: Break
      ansible.builtin.fail:
        msg: "this broke on {{{{ inventory_hostname }}}}"
      when: inventory_hostname in broken
    - name: Go on
      ansible.builtin.raw: sleep 1.2
      changed_when: false
- name: Nobody
  hosts: none
  tasks: []
"""
INVENTORY = """\
all:
  vars: {ansible_connection: local, ansible_python_interpreter: PYTHON, broken: [h2]}
  hosts: {h1: {seconds: 0.2}, h2: {seconds: 1.1}, h3: {seconds: 0.1}}
  children: {none: {}}
""".replace("PYTHON", sys.executable)


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    (tmp_path / "play.yml").write_text(PLAYBOOK.format(strategy=getattr(request, "param", "linear")))
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    playbook = Path(sys.executable).with_name("ansible-playbook")
    return [str(playbook), "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")]


@pytest.fixture
def environment(checkout: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "kiban.baremetal.progress",
        "TERM": "xterm",
        "LINES": "24",
        "COLUMNS": "100",
    }


def screen(raw: str) -> str:
    """What a terminal keeps of it, with all that scrolled off. Fails for a sequence that it does not know."""
    lines, row, column = [""], 0, 0
    for match in re.finditer(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", raw):
        text, number, letter = match[0], int(match[1] or 0), match[2]
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif letter == "A":
            row -= number or 1
            assert row >= 0
        elif letter == "K":
            lines[row] = lines[row][:column]
        elif letter == "J":
            lines[row:] = [lines[row][:column]]
        elif letter == "m" or (text.endswith("m") and text.startswith("\x1b")):
            pass
        else:
            assert not text.startswith("\x1b"), text
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in lines)


def on_a_terminal(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    main, other = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdin=other, stdout=other, stderr=other, close_fds=True)
    os.close(other)
    raw = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            break
        if not part:
            break
        raw += part
    os.close(main)
    return process.wait(), raw.decode()


both = pytest.mark.parametrize("command", ["linear", "free"], indirect=True)


@both
def test_plain_lines_in_a_pipe(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    out = done.stdout
    assert "\x1b" not in out
    assert "== Work\n" in out and re.search(r"^ +\d+:\d\d  h1: Work$", out, re.MULTILINE)
    assert re.search(r"h1: Take a while: changed \(\d+:\d\d\)", out)
    assert "first line\nsecond line of h" in out
    assert "fatal: [h2]: FAILED!" in out and "this broke on h2" in out
    assert re.search(r"== \d+:\d\d: 3 hosts, 1 changed, 1 failed\nchanged: h1\nfailed: h2\n", out)
    assert "skipping" not in out and "PLAY RECAP" not in out


@both
def test_a_board_on_a_terminal_hides_nothing(command: list[str], environment: dict[str, str]) -> None:
    code, raw = on_a_terminal(command, environment)
    assert code == 2
    drawn = re.sub(r"\x1b\[\d*[A-Za-z]", "", raw)
    assert re.search(r"h2  Work +\d+:\d\d  Take a while", drawn), "the board was drawn while a server was at work"
    if "linear" in Path(command[-1]).read_text():
        assert "waits for the others" in drawn
    kept = screen(raw)
    assert "this broke on h2" in kept and "fatal: [h2]: FAILED!" in kept
    assert "first line\nsecond line of h" in kept
    assert kept.rstrip().endswith("changed: h1\nfailed: h2")
    assert not re.search(r"^h[13] +Work", kept, re.MULTILINE), "the board is gone at the end"


def test_a_warning_of_a_worker_is_kept(command: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(
        """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.raw: sleep 1.2
      changed_when: false
    - ansible.builtin.file: {path: "%s", mode: '0644', state: touch}
    - ansible.builtin.raw: sleep 1.2
      changed_when: false
    - ansible.builtin.debug: {msg: "{{ q('ansible.builtin.pipe', 'echo; exit 3', errors='warn') }}"}
      run_once: true
"""
        % (tmp_path / "file")
    )
    code, raw = on_a_terminal(command, environment)
    assert code == 0
    assert "[WARNING]" in screen(raw)


def test_a_dumb_terminal_gets_plain_lines(command: list[str], environment: dict[str, str]) -> None:
    _code, raw = on_a_terminal(command, {**environment, "TERM": "dumb"})
    assert "\x1b[J" not in raw and re.search(r"h1: Take a while: changed", raw)
