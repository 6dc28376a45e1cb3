# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubectl that expects certain calls in a certain order, and answers as it was told."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """\
#!{python}
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "expected.json")) as file:
    expected = json.load(file)
done = len(os.listdir(os.path.join(here, "calls")))
stdin = sys.stdin.read()
record = {{"args": sys.argv[1:], "stdin": stdin, "env": dict(os.environ)}}
with open(os.path.join(here, "calls", f"{{done:03}}.json"), "w") as file:
    json.dump(record, file)
answer = expected[min(done, len(expected) - 1)] if expected else None
if answer is None or (done >= len(expected) and not answer["again"]):
    sys.exit("unexpected call: " + " ".join(sys.argv[1:]))
if [word for word in answer["words"] if word not in sys.argv]:
    sys.exit("expected " + " ".join(answer["words"]) + ", got " + " ".join(sys.argv[1:]))
sys.stdout.write(answer["out"])
sys.stderr.write(answer["err"])
sys.exit(answer["rc"])
"""


@dataclass
class Call:
    """Words that must be in the command line, and the answer. C(again): also for every further call."""

    words: tuple[str, ...]
    out: str = ""
    err: str = ""
    rc: int = 0
    again: bool = False


class FakeKubectl:
    def __init__(self, folder: Path, *calls: Call) -> None:
        folder.mkdir()
        (folder / "calls").mkdir()
        self.folder, self.expected = folder, calls
        self.path = folder / "kubectl"
        self.path.write_text(_PROGRAM.format(python=sys.executable))
        self.path.chmod(0o755)
        (folder / "expected.json").write_text(json.dumps([asdict(call) for call in calls]))
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text("{}")

    @property
    def options(self) -> dict[str, str]:
        return {"kubectl": str(self.path), "kubeconfig": str(self.kubeconfig)}

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.folder / "calls").iterdir())]

    def assert_all_made(self) -> None:
        assert len(self.calls) == len(self.expected), [call["args"] for call in self.calls]
