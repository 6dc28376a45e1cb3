#!/bin/bash
# Deploy ramdisk from a Debian root: deploy-ramdisk.sh ROOT.tar OUTDIR. Makes vmlinuz, initrd.zst, systemd-bootx64.efi and
# esp.img, the start partition that a server's medium is made from.
#   ID SOURCE_DATE_EPOCH LEVEL (of zstd) KERNEL_ARGS by environment. Needs root for device nodes and owners only.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tar=$1 out=$2
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root full=$work/full stage=$work/stage
mkdir -p "$root" "$full" "$stage"
tar -C "$full" -xf "$tar"
version=$(ls "$full/usr/lib/modules")

# Everything but what only builds, installs, documents or runs a full system.
tar -C "$full" --exclude-from="$here/ramdisk/exclude.list" -cf - . | tar -C "$root" -xf -
mkdir -p "$root"/{boot,dev,etc/kiban,proc,root/.ssh,run,sys,tmp,usr/lib/kiban,var/lib,var/log}
chmod 0700 "$root/root" "$root/root/.ssh"

# Modules, unpacked: squashfs compresses them better than each for itself, and modprobe has less to do at start.
modules=$root/usr/lib/modules/$version
mkdir -p "$modules"
cp "$full/usr/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$modules/"
sed 's/#.*//' "$here/ramdisk/modules.list" | xargs -n1 | while read -r module; do
  modprobe -d "$full/usr" -S "$version" --show-depends "$module" 2>> "$out/modules.log" || echo "missing $module" >> "$out/modules.log"
done | sed -n "s|^insmod .*/$version/\([^ ]*\).*|\1|p" | sort -u > "$work/modules"
while read -r file; do
  mkdir -p "$modules/${file%/*}"
  xz -dc "$full/usr/lib/modules/$version/$file" > "$modules/${file%.xz}"
done < "$work/modules"
depmod -b "$root/usr" "$version" 2>/dev/null || depmod -b "$root" "$version"

install -m 0755 "$here"/ramdisk/{start,network} "$root/usr/lib/kiban/"
for name in reboot poweroff halt shutdown; do install -m 0755 "$here/ramdisk/power" "$root/usr/sbin/$name"; done
install -m 0600 "$here/ramdisk/sshd_config" "$root/etc/ssh/sshd_config"
rm -f "$root"/etc/ssh/ssh_host_*
printf '%s\n' "$ID" > "$root/usr/lib/kiban/ramdisk-id"
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
# Python never compares a source with its byte code here.
rm -rf "$root"/usr/lib/python3*/__pycache__
chroot "$root" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.* > /dev/null
chroot "$root" ldconfig -X
rm -rf "$root/var/cache/ldconfig"
# shellcheck disable=SC2016
missing=$(chroot "$root" sh -c 'for file in /usr/bin/* /usr/sbin/* /usr/lib/openssh/* /usr/lib/python3*/lib-dynload/*; do
  ldd "$file" 2> /dev/null | grep -q "not found" && echo "$file"; done' || true)
[ -z "$missing" ] || { echo "exclude.list takes away libraries of: $missing" >&2; exit 1; }
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mksquashfs "$root" "$stage/root.squashfs" -quiet -no-progress -noappend -no-exports -no-xattrs -comp zstd \
  -Xcompression-level "$LEVEL" -b 256K -processors 2 > "$out/squashfs.log"

# First stage: busybox and the modules that it takes to mount the above.
mkdir -p "$stage"/{bin,dev,proc,sys,lib/modules}
install -m 0755 "$full/usr/bin/busybox" "$stage/bin/busybox"
install -m 0755 "$here/ramdisk/init" "$stage/init"
for module in loop squashfs overlay; do
  modprobe -d "$root/usr" -S "$version" --show-depends "$module" | sed -n 's|^insmod \([^ ]*\).*|\1|p'
done | awk '!seen[$0]++' | while read -r file; do
  cp "$file" "$stage/lib/modules/"
  echo "${file##*/}" >> "$stage/lib/modules/order"
done
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# The squashfs is compressed already: the kernel only copies this archive.
(cd "$stage" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --reproducible --quiet -R 0:0) > "$work/initrd"
zstd -q -f -1 "$work/initrd" -o "$out/initrd.zst"
install -m 0644 "$full/boot/vmlinuz-$version" "$out/vmlinuz"
boot=$full/usr/lib/systemd/boot/efi/systemd-bootx64.efi
[ ! -e "$boot.signed" ] || boot=$boot.signed
install -m 0644 "$boot" "$out/systemd-bootx64.efi"

# Start partition with all that servers have in common. 1 MiB is left for what one server adds.
size=$(($(stat -c %s "$out/initrd.zst") + $(stat -c %s "$out/vmlinuz") + $(stat -c %s "$out/systemd-bootx64.efi")))
truncate -s $(((size / 1048576 + 3) * 1048576)) "$out/esp.img"
mkfs.vfat -F 16 -s 16 -i 4B49424E -n KIBAN --invariant "$out/esp.img" > /dev/null
mkdir -p "$work"/esp/{EFI/BOOT,loader/entries,kiban}
ln "$out/systemd-bootx64.efi" "$work/esp/EFI/BOOT/BOOTX64.EFI"
ln "$out/vmlinuz" "$work/esp/kiban/vmlinuz"
ln "$out/initrd.zst" "$work/esp/kiban/initrd"
printf 'timeout 0\neditor no\n' > "$work/esp/loader/loader.conf"
find "$work/esp" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
export MTOOLS_SKIP_CHECK=1 TZ=UTC
mcopy -s -m -i "$out/esp.img" "$work/esp/EFI" "$work/esp/loader" "$work/esp/kiban" ::
# A server that panics starts again, and with it the deployment; a console that nobody reads must not slow it down.
printf '{"id": "%s", "kernel_args": "%s"}\n' "$ID" "$KERNEL_ARGS" > "$out/ramdisk.json"
rm -f "$out/modules.log" "$out/squashfs.log"
