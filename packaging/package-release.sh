#!/usr/bin/env bash
# Makes what people without a compiler need, into one folder: the packages, the Lambda functions, the scripts of the cloud side
# and the checksums of all. Prints the folder's path last.
#   packaging/package-release.sh [FOLDER]     by default target/release-VERSION
# In CloudShell or on a Mac, from what is in the folder:
#   sha256sum --check --ignore-missing SHA256SUMS && tar xf hr-gatewayd-cloud-*.tar.gz
#   hr-gatewayd-cloud-*/bin/deploy.sh --lambda-zip hr-indexer-*.zip --viewer 203.0.113.7/32
# The same commit gives the same bytes, where its parts do (build-deb.sh, build-lambda.sh).
set -euo pipefail
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
    sed -n 's/^#   //p' "$0" >&2
    [ "$1" = --help ] && exit
    exit 2
fi
[ $# -eq 0 ] || folder=$(realpath -m "$1")
cd "$(dirname "$(readlink -f "$0")")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
folder=${folder:-$PWD/target/release-$version}
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "$folder is not empty: name another, or empty it" >&2
    exit 1
fi
mkdir -p "$folder"
for arch in amd64 arm64; do
    cp "$(packaging/build-deb.sh $arch | tail -n 1)" "$folder/"
done
packaging/build-lambda.sh | tail -n 2 | while read -r zip; do
    cp "$zip" "$folder/$(basename "$zip" .zip)-$version-arm64.zip"
done
# What deploy.sh and the scripts beside it need; the function is built already. The time is the commit's.
tar --create --gzip --file "$folder/hr-gatewayd-cloud-$version.tar.gz" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" --exclude=indexer --exclude=__pycache__ \
    --transform "s,^packaging/cloud,hr-gatewayd-cloud-$version," packaging/cloud
cd "$folder"
sha256sum -- *.deb *.zip *.tar.gz >SHA256SUMS
echo "$folder"
