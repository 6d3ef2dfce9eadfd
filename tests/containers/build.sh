#!/usr/bin/env bash
# Build the Dockerfile without Docker: its base image from Debian's packages, its stages by buildah, each command in a
# chroot. Debian, as root.
#   tests/containers/build.sh <folder>    installs what is missing; then <folder>/run <command> runs in the image,
#                                         as its user; tests/containers/remove.sh <folder> removes it all
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "build.sh: must be root" >&2; exit 1; }
here=$(realpath "$(dirname "$0")")
S=$(realpath -m "$1")
mkdir -p "$S/pip" "$S/tmp"
export TMPDIR=$S/tmp

if ! { command -v mmdebstrap && command -v buildah; } >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap buildah >/dev/null
fi
echo "exec buildah --root $S/images --runroot $S/state --storage-driver overlay \"\$@\"" >"$S/buildah"
B="bash $S/buildah"

image=$(awk '/^FROM debian:/ {print $2; exit}' "$here/../../Dockerfile") # debian:bookworm-slim
suite=${image#debian:}
mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=ca-certificates "${suite%-slim}" "$S/base.tar"
base=$($B from scratch)
$B add --quiet "$base" "$S/base.tar" / >/dev/null
$B commit --quiet "$base" "docker.io/library/$image" >/dev/null
rm "$S/base.tar"

# Packages come from where pip on this machine finds them.
mapfile -t volumes < <("${PYTHON:-python3}" "$here/pip_config.py" "$S/pip")
indexes=$("${PYTHON:-python3}" -m pip config get global.extra-index-url 2>/dev/null || true)
$B bud --isolation chroot --pull-never --layers=false --volume "$S/pip:/etc/xdg/pip:ro" "${volumes[@]}" \
    --build-arg "CPU_WHEELS=$indexes" --tag arc-experiments "$here/../.."
container=$($B from --pull-never localhost/arc-experiments)
echo "exec bash $S/buildah run --isolation chroot $container -- \"\$@\"" >"$S/run"
