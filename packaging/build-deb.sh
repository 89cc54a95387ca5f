#!/usr/bin/env bash
# Builds the Debian package; installs what that takes. Prints the package's path last.
#   packaging/build-deb.sh [amd64|arm64|armhf]     the default is this machine's architecture
# The same commit, built with the same Rust and Debian release, gives the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh
. packaging/cross.sh

choose_target "${1:-$(dpkg --print-architecture)}" || {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}
out=target/debian
stage=$out/stage-$arch
binary=target/$target/release/hr-gatewayd

prepare_build
install_packages debhelper

# The changelog and Cargo.toml agree on the version, or there is no package.
version=$(dpkg-parsechangelog --file packaging/debian/changelog --show-field Version)
grep -qxF "version = \"$version\"" Cargo.toml || {
    echo "packaging/debian/changelog is at $version, Cargo.toml is not" >&2
    exit 1
}
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file packaging/debian/changelog --show-field Timestamp)
export SOURCE_DATE_EPOCH

# list_crates: what is compiled in and under which licences, and the notices that come with it.
list_crates() {
    local crates name number file
    crates=$(cargo tree --locked --edges normal --prefix none --format '{p} {l}' --target "$target" |
        sed 's/ (\*)$//; s/ (proc-macro)//; /^hr-gatewayd /d' | LC_ALL=C sort -u)
    printf 'Compiled into hr-gatewayd: crate, version, licence. Their notices follow.\n\n%s\n' "$crates"
    while read -r name number _; do
        find "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-${number#v}" -maxdepth 1 -type f \
            -iregex '.*/\(licen[cs]e\|unlicense\|copying\|copyright\|notice\)[^/]*' | LC_ALL=C sort
    done <<<"$crates" | while read -r file; do
        # The Apache licence is on every Debian system.
        grep -q 'TERMS AND CONDITIONS FOR USE, REPRODUCTION' "$file" || sha256sum "$file"
    done | awk '!seen[$1]++ { print substr($0, 67) }' | while read -r file; do
        printf '\n---- %s\n' "$(basename "$(dirname "$file")")"
        cat "$file"
    done
}

# stage_package: what debian/ and *.install name, as build_binary and the repository have it.
stage_package() {
    rm -rf "$stage"
    mkdir -p "$stage"
    cp -r packaging/debian "$stage/debian"
    cp systemd/hr-gatewayd.service "$stage/debian/"
    cp packaging/debian/config.toml "$binary" "$stage/"
    list_crates >"$stage/crates.txt"
}

# build_package: debhelper's part.
build_package() (
    QUEUE_FORMAT=$(sed -n 's/^.*const FORMAT: u8 = \([0-9]*\);$/\1/p' src/queue/durable/layout.rs)
    [ -n "$QUEUE_FORMAT" ] || {
        echo "src/queue/durable/layout.rs does not say its FORMAT" >&2
        exit 1
    }
    if [ "$arch" != "$native" ]; then
        # No package list tells whose the libraries in the sysroot are.
        cp packaging/debian/shlibs.cross "$stage/debian/shlibs.local"
        export LIBRARY_FOLDERS="../sysroot-$arch/lib/$gnu ../sysroot-$arch/usr/lib/$gnu"
    fi
    export QUEUE_FORMAT
    cd "$stage"
    dpkg-buildpackage --build=binary --host-arch "$arch" --no-sign --no-check-builddeps >&2
)

[ "$arch" = "$native" ] || prepare_cross
build_binary --package hr-gatewayd
stage_package
build_package
echo "$out/hr-gatewayd_${version}_$arch.deb"
