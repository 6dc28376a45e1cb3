# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: it may change in any release.
# Do not use it from outside the collection.

"""Many BMCs in one process: one thread and one connection for each that is being read."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import sys
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from .client import Bmc, connect
from .errors import BmcBadAnswer, BmcError
from .options import Options

__all__ = ("AT_ONCE", "Found", "scan")

# Measured with 1,000 BMCs at 0.25 s a request on 2 cores: 250 wait for BMCs, 1,000 wait for each other.
AT_ONCE = 500
_OTHER_FILES = 64
# Seconds that a thread may compute before others want its place. With hundreds of threads Python's 5 ms cost a third
# of all CPU time in changing places.
_TURN = 0.05
_Name = t.TypeVar("_Name", bound=t.Hashable)
_Value = t.TypeVar("_Value")


@dataclasses.dataclass(frozen=True)
class Found(t.Generic[_Value]):
    """What came of one BMC: a value, or the reason why there is none."""

    value: _Value | None
    error: BmcError | None
    notes: tuple[str, ...]
    requests: int
    seconds: float


def scan(
    targets: t.Mapping[_Name, Options], read: t.Callable[[Bmc], _Value], at_once: int = AT_ONCE
) -> dict[_Name, Found[_Value]]:
    """`read` every BMC, at most `at_once` side by side. One that fails, in whatever way, is an error of that one."""
    if not targets:
        return {}
    threads = max(1, min(at_once, len(targets), _open_files()))
    with _long_turns(), ThreadPoolExecutor(max_workers=threads) as pool:
        return dict(zip(targets, pool.map(lambda options: _one(options, read), targets.values())))


def _one(options: Options, read: t.Callable[[Bmc], _Value]) -> Found[_Value]:
    began = time.monotonic()
    bmc: Bmc | None = None
    value: _Value | None = None
    error: BmcError | None = None
    try:
        bmc = connect(options)
        with bmc:
            value = read(bmc)
    except BmcError as exc:
        error = exc
    except Exception as exc:  # pylint: disable=broad-exception-caught
        # A BMC whose answers nobody foresaw must not cost the others their results.
        error = BmcBadAnswer(
            options.address,
            f"its answers could not be understood ({type(exc).__name__}: {exc})",
            hint="This is a defect of kiban.baremetal: report it with the resource tree of this BMC",
        )
    notes = tuple(bmc.notes) if bmc else ()
    return Found(value, error, notes, bmc.requests if bmc else 0, round(time.monotonic() - began, 3))


def _open_files() -> int:
    """How many connections the limit of open files leaves room for."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - _OTHER_FILES)


@contextlib.contextmanager
def _long_turns() -> t.Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(max(before, _TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
