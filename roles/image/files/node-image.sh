#!/bin/bash
# Disk image of a node: node-image.sh ROOT.tar.zst CONTAINERD BUNDLE OUT. OUT/programs has lines "file target", relative to
# BUNDLE and to the root. Makes OUT/node.raw.zst and OUT/figures.json.
#   ID KUBERNETES PAUSE BUNDLE_ID SOURCE_DATE_EPOCH LEVEL KERNEL_ARGS by environment.
# Without loop devices, mounts or a boot loader that runs in the root. All file systems are made with the tools of the image
# itself, so that they do not depend on the release of this machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tar=$1 containerd=$2 bundle=$3 out=$4
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root
mkdir -p "$root"
tar -C "$root" --xattrs --xattrs-include='*' -xf "$tar"
version=$(ls "$root/usr/lib/modules")
uuid() { # one for each name, of this image
  printf '%s %s' "$ID" "$1" | sha256sum | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/'
}

# Programs, checked by the caller; containers; configuration
while read -r file target; do
  install -D -m 0755 "$bundle/$file" "$root/$target"
done < "$out/programs"
rm -rf "$root/var/lib/containerd"
cp -a "$containerd" "$root/var/lib/containerd"
cp -R "$here/node/root/." "$root/"
sed -i "s|@PAUSE@|$PAUSE|" "$root/etc/containerd/config.toml"
mkdir -p "$root"/{boot/efi,etc/cni/net.d,etc/containerd/certs.d,etc/kiban,etc/kubernetes/manifests,var/lib/kubelet,var/log/journal}
mkdir -p "$root/root/.ssh"
chmod 0700 "$root/root" "$root/root/.ssh"
printf '{"id": "%s", "kubernetes": "%s", "bundle": "%s"}\n' "$ID" "$KUBERNETES" "$BUNDLE_ID" > "$root/etc/kiban/image.json"

# Nothing of this machine, nothing of one server
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/nvme/{hostid,hostnqn} "$root"/var/lib/dbus/machine-id "$root"/etc/hostname "$root"/{vmlinuz,initrd.img}*
rm -f "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/boot/initrd.img-* "$root"/var/lib/systemd/{random-seed,credential.secret}
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf,ldconfig}/* "$root"/var/log/*.log "$root"/var/log/apt
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
export SYSTEMD_OFFLINE=1
chroot "$root" systemctl enable --quiet containerd.service kubelet.service ssh.service systemd-networkd.service systemd-timesyncd.service
sed 's/#.*//' "$here/node/units.masked" | while read -r unit; do
  [ -z "$unit" ] || ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system-generators"
for name in cryptsetup getty gpt-auto hibernate-resume integritysetup rc-local run ssh system-update sysv tpm2 veritysetup; do
  ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done
# Nothing has to be updated at the first start.
for folder in etc var; do printf 'TIMESTAMP_NSEC=%s000000000\n' "$SOURCE_DATE_EPOCH" > "$root/$folder/.updated"; done
chroot "$root" ldconfig -X
rm -rf "$root/var/cache/ldconfig"
rm -rf "$root"/usr/lib/python3*/__pycache__
chroot "$root" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.* > /dev/null
chroot "$root" /usr/sbin/sshd -t -o HostKey=/dev/null 2>&1 | grep -v 'host key\|hostkeys' >&2 || true

# Initramfs: busybox, an init and the drivers of disks
initramfs=$work/initramfs
mkdir -p "$initramfs"/{bin,dev,proc,sys,usr/lib/modules/"$version"}
ln -s usr/lib "$initramfs/lib"
install -m 0755 "$root/usr/bin/busybox" "$initramfs/bin/busybox"
install -m 0755 "$here/node/init" "$initramfs/init"
modules=$initramfs/usr/lib/modules/$version
cp "$root/usr/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$modules/"
sed 's/#.*//' "$here/node/modules.list" | xargs -n1 | while read -r module; do
  modprobe -d "$root/usr" -S "$version" --show-depends "$module" || { echo "no kernel module $module" >&2; exit 1; }
done | sed -n "s|^insmod .*/$version/\([^ ]*\).*|\1|p" | sort -u | while read -r file; do
  mkdir -p "$modules/${file%/*}"
  xz -dc "$root/usr/lib/modules/$version/$file" > "$modules/${file%.xz}"
done
depmod -b "$initramfs/usr" "$version" 2> /dev/null
rm -f "$modules"/modules.*.bin "$modules"/modules.builtin.modinfo
find "$initramfs" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$work/esp"/{EFI/BOOT,EFI/systemd,loader/entries,kiban}
(cd "$initramfs" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --reproducible --quiet -R 0:0) |
  zstd -q -19 -T1 > "$work/esp/kiban/initrd"

# Start partition
boot=$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi
[ ! -e "$boot.signed" ] || boot=$boot.signed
cp "$boot" "$work/esp/EFI/BOOT/BOOTX64.EFI"
cp "$boot" "$work/esp/EFI/systemd/systemd-bootx64.efi"
cp "$root/boot/vmlinuz-$version" "$work/esp/kiban/vmlinuz"
printf 'timeout 0\ndefault kiban.conf\neditor no\n' > "$work/esp/loader/loader.conf"
printf 'title Kiban node\nversion %s\nlinux /kiban/vmlinuz\ninitrd /kiban/initrd\noptions root=PARTLABEL=kiban-root ro %s\n' \
  "$ID" "$KERNEL_ARGS" > "$work/esp/loader/entries/kiban.conf"
find "$work/esp" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
esp_mib=256
truncate -s ${esp_mib}M "$work/esp.img"
serial=$(uuid esp | cut -c1-8)
mkfs.vfat -F 32 -i "$serial" -n KIBAN-ESP --invariant "$work/esp.img" > /dev/null
(cd "$work/esp" && TZ=UTC MTOOLS_SKIP_CHECK=1 mcopy -s -m -i "$work/esp.img" EFI loader kiban ::)

# Root partition: what there is, and room for it to be seeded and started before it grows
rm -rf "${root:?}"/{dev,proc,sys,run,tmp}/* "${root:?}"/var/tmp/*
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
content=$(find "$root" -printf '%s\n' | awk '{sum += int(($1 + 4095) / 4096) * 4096 + 512} END {print int(sum / 1048576)}')
root_mib=$(((content * 108 / 100 + 320 + 63) / 64 * 64))
tool() { # a program of the image, with its own libraries
  local program=$1
  shift
  "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/sbin/$program" "$@"
}
export MKE2FS_CONFIG=$root/etc/mke2fs.conf E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
truncate -s ${root_mib}M "$work/root.img"
tool mke2fs -q -t ext4 -L kiban-root -U "$(uuid root)" -m 1 -d "$root" \
  -E "hash_seed=$(uuid hash),lazy_itable_init=1,root_owner=0:0" "$work/root.img"

# Disk
disk=$work/disk.raw
truncate -s $((1 + esp_mib + root_mib + 1))M "$disk"
sfdisk -q --no-tell-kernel "$disk" << EOF
label: gpt
label-id: $(uuid disk)
first-lba: 2048
start=1MiB, size=${esp_mib}MiB, type=uefi, name=kiban-esp, uuid=$(uuid part1)
start=$((1 + esp_mib))MiB, size=${root_mib}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=kiban-root, uuid=$(uuid part2)
EOF
dd if="$work/esp.img" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/root.img" of="$disk" bs=1M seek=$((1 + esp_mib)) conv=notrunc,sparse status=none
rm -f "$work/root.img"
zstd -q -T2 -"$LEVEL" "$disk" -o "$out/node.raw.zst"
printf '{"raw_size_bytes": %s, "raw_sha256": "%s", "initrd_bytes": %s}\n' "$(stat -c %s "$disk")" \
  "$(sha256sum < "$disk" | cut -d' ' -f1)" "$(stat -c %s "$work/esp/kiban/initrd")" > "$out/figures.json"
