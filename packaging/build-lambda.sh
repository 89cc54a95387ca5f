#!/usr/bin/env bash
# Builds the Lambda functions for arm64, hr-indexer and the delivery's hr-transform; installs what that takes. Prints the
# paths of their zips last, the indexer's as the last one.
#   packaging/build-lambda.sh [--help]
# The same commit, built with the same Rust and Debian release, gives the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh
. packaging/cross.sh

# What the runtime provided.al2023 has: glibc 2.34 and gcc's own library. Amazon Linux 2023 keeps that glibc for life.
GLIBC_MAX=2.34
LIBRARIES='ld-linux-aarch64.so.1 libc.so.6 libdl.so.2 libgcc_s.so.1 libm.so.6 libpthread.so.0'

if [ $# -gt 0 ]; then
    sed -n 's/^#   //p' "$0" >&2
    [ "$1" = --help ] && exit
    exit 2
fi
choose_target arm64
out=target/lambda

# runs_there BINARY: whether what it is linked with is there, in a version that is there. Says what is not.
runs_there() {
    local libraries symbols library symbol version unmet=0
    libraries=$(readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    symbols=$(readelf --dyn-syms --wide "$1" | sed -n 's/.* UND \([^ @]*@GLIBC_[0-9.]*\).*/\1/p')
    for library in $libraries; do
        case " $LIBRARIES " in
            *" $library "*) ;;
            *) unmet=1 && echo "$1 needs $library, which provided.al2023 does not have" >&2 ;;
        esac
    done
    for symbol in $symbols; do
        version=${symbol#*@GLIBC_}
        [ "$(printf '%s\n' "$version" $GLIBC_MAX | sort -V | tail -n 1)" = $GLIBC_MAX ] && continue
        unmet=1 && echo "$1 needs ${symbol%@*} of glibc $version; provided.al2023 has glibc $GLIBC_MAX" >&2
    done
    [ $unmet -eq 0 ]
}

# pack BINARY ZIP: as `bootstrap`, the name that Lambda starts; the time is not in it.
pack() {
    python3 -B - "$1" "$2" <<'EOF'
import sys, zipfile

binary, package = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
entry.create_system, entry.external_attr, entry.compress_type = 3, 0o100755 << 16, zipfile.ZIP_DEFLATED
with zipfile.ZipFile(package, "w") as file:
    file.writestr(entry, open(binary, "rb").read(), compresslevel=9)
EOF
}

prepare_build
install_packages binutils python3
[ "$arch" = "$native" ] || prepare_cross
build_binary --package hr-indexer
mkdir -p "$out"
for name in hr-transform hr-indexer; do
    runs_there "target/$target/release/$name"
    pack "target/$target/release/$name" "$out/$name.zip"
    echo "$out/$name.zip"
done
