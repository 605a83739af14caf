# Boots systemd in a container over an overlay of the running system: $1 is a folder for the overlay, $2 a checkout.
# To be run under "unshare --mount --propagation private", so that nothing of it stays behind.
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=2g,mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
: > "$1/merged/etc/machine-id"
# Only what was asked for starts, whatever the machine below has enabled.
rm -rf "$1/merged/etc/systemd/system" && mkdir -p "$1/merged/etc/systemd/system"
cp -a "$2" "$1/merged/checkout"
exec systemd-nspawn --register=no --keep-unit --directory="$1/merged" --boot --console=passive --link-journal=no \
  systemd.unit=basic.target
