# Runs podman where no systemd runs: without the unified cgroup hierarchy, which it could not use. $1 is its storage.
# To be run under "unshare --mount --propagation private".
umount /sys/fs/cgroup/unified 2>/dev/null || true
storage=$1
shift
exec podman --root "$storage/store" --runroot "$storage/run" --cgroup-manager cgroupfs --events-backend file "$@"
