#!/bin/sh
# Builds the container image without a registry or a Docker daemon: scripts/image.sh NAME ARCHIVE
# buildah runs the Containerfile in a chroot; its base is made here from Debian's packages, for none can be pulled.
# ARCHIVE becomes an OCI archive. Needs root (or a user namespace), buildah and debootstrap: apt-get install buildah debootstrap
set -eu
cd "$(dirname "$0")/.."
name=$1 archive=$2
for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null || { echo "image: no $tool here; apt-get install $tool" >&2; exit 3; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }

echo "making the base from Debian's packages"
debootstrap --variant=minbase --include=python3,python3-dev,python3-venv,ca-certificates bookworm "$work/root" >"$work/log" 2>&1 ||
  { tail -n 5 "$work/log" >&2; exit 1; }
ln -s python3 "$work/root/usr/bin/python"
rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/root" / >/dev/null
buildah commit --quiet --rm "$base" localhost/base >/dev/null
rm -rf "$work/root"

# A mirror and certificates that this machine was told of are told to the build; nothing of them stays in the image.
set --
for given in /etc/ssl/certs /etc/pip.conf; do [ -e "$given" ] && set -- "$@" --volume "$given:$given:ro"; done
printf 'system-certs = true\n' >"$work/uv.toml"
set -- "$@" --volume "$work/uv.toml:/etc/uv/uv.toml:ro"
if [ -n "${PIP_CONFIG_FILE:-}" ]; then set -- "$@" --volume "$PIP_CONFIG_FILE:/etc/pip.conf:ro"; fi
echo "building $name"
buildah build --quiet --layers=false --build-arg BASE=localhost/base "$@" --file Containerfile --tag "$name" . >"$work/log" 2>&1 ||
  { tail -n 30 "$work/log" >&2; exit 1; }
buildah push --quiet "$name" "oci-archive:$archive:$name"
buildah inspect --type image --format '{{range .OCIv1.History}}{{.CreatedBy}}{{"\n"}}{{end}}' "$name" | grep . | cut -c1-100
du -h "$archive"
