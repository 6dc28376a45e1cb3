#!/bin/sh
# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# cut.sh SECONDS PORT...: takes these ports of a switch down for so long. They come up again whatever ends it.
seconds=$1
shift
up() { for port in "$@"; do ip link set "$port" up; done; }
trap 'kill $! 2> /dev/null; up "$@"' EXIT
trap 'exit 1' HUP INT TERM
for port in "$@"; do ip link set "$port" down || exit 1; done
# In the background: a shell that waits for it hears at once that it shall end.
sleep "$seconds" &
wait
