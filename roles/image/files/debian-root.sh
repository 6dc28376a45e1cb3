#!/bin/sh
# Debian root as a tar file: debian-root.sh TAR. Everything comes by environment, so that a module can hash it.
#   SUITE MIRROR COMPONENTS KEYRING PACKAGES (comma separated) SOURCE_DATE_EPOCH TMPDIR
# With RESOLVE=1 nothing is built: TAR gets the list "package version architecture" that would be installed.
set -eu
out=$1
set -- --mode=root --variant=minbase --components="$COMPONENTS" --include="$PACKAGES" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"'
[ -z "$KEYRING" ] || set -- "$@" --keyring="$KEYRING"
if [ "${RESOLVE:-}" = 1 ]; then
  # shellcheck disable=SC2086
  mmdebstrap --simulate --verbose "$@" "$SUITE" /dev/null ${MIRROR:-} > "$out.log" 2>&1 || { tail -n 20 "$out.log" >&2; exit 1; }
  sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*\[\([a-z0-9]*\)\]).*$/\1 \2 \3/p' "$out.log" | sort -u > "$out"
  rm -f "$out.log"
  [ -s "$out" ] || { echo "no packages in the output of mmdebstrap --simulate" >&2; exit 1; }
  exit 0
fi
# The kernel's own initramfs is never used here and takes a minute to make.
export INITRD=No
# shellcheck disable=SC2086
exec mmdebstrap "$@" "$SUITE" "$out" ${MIRROR:-}
