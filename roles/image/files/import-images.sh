#!/bin/bash
# Container images into a containerd root that a node starts with: import-images.sh BIN ROOT IMAGE...
# Runs the containerd that the nodes will run, without its CRI part. SOURCE_DATE_EPOCH by environment.
set -euo pipefail
bin=$1 root=$2
shift 2
# Every recipe has a mount namespace of its own. This gives short paths for the sockets.
mount -t tmpfs tmpfs /run
run=/run/kiban
mkdir -p "$run" "$root"
cat > "$run/config.toml" << EOF
version = 3
root = '$root'
state = '$run/state'
disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',
  'io.containerd.nri.v1.nri', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.zfs', 'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.native', 'io.containerd.internal.v1.opt', 'io.containerd.tracing.processor.v1.otlp']
[grpc]
  address = '$run/sock'
[ttrpc]
  address = '$run/sock.ttrpc'
# Layers go away once, at the end, and not when a clock says so.
[plugins.'io.containerd.gc.v1.scheduler']
  startup_delay = '24h'
  schedule_delay = '0s'
  mutation_threshold = 0
  deletion_threshold = 0
EOF
"$bin/containerd" --config "$run/config.toml" > "$run/log" 2>&1 &
daemon=$!
stop() {
  kill "$daemon" 2> /dev/null || true
  wait "$daemon" 2> /dev/null || true
}
trap stop EXIT
ctr=("$bin/ctr" --address "$run/sock" --namespace k8s.io)
for _ in $(seq 300); do
  "${ctr[@]}" version > /dev/null 2>&1 && break
  kill -0 "$daemon" 2> /dev/null || { tail -n 5 "$run/log" >&2; echo "containerd ended while it started" >&2; exit 1; }
  sleep 0.2
done
for image; do
  # Pinned: a node without a registry must never lose an image to the kubelet's garbage collection.
  "${ctr[@]}" images import --local --discard-unpacked-layers --snapshotter overlayfs \
    --label io.cri-containerd.pinned=pinned --label io.cri-containerd.image=managed "$image" > "$run/import" 2>&1 ||
    { tail -n 5 "$run/import" "$run/log" >&2; echo "$image was not imported" >&2; exit 1; }
done
"${ctr[@]}" content prune references > /dev/null
"${ctr[@]}" images list --quiet | sort > "$root/../images.list"
stop
trap - EXIT
for name in "$root"/*; do
  case ${name##*/} in
    io.containerd.content.v1.content | io.containerd.metadata.v1.bolt | io.containerd.snapshotter.v1.overlayfs) ;;
    *) rm -rf "$name" ;;
  esac
done
