#!/usr/bin/env bash
# Remove what build.sh has left in a folder: images, containers, and the folder itself.
set -uo pipefail
S=$(realpath -m "$1")
bash "$S/buildah" rm --all >/dev/null
bash "$S/buildah" rmi --all --force >/dev/null
mountpoint --quiet "$S/images/overlay" && umount "$S/images/overlay"
rm -rf "$S"
