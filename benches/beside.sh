#!/bin/sh
# Sends the same readings through this gateway and through another shipper, in one run, and prints one table
# of both with their ratios: benches/beside.sh fluent-bit /usr/bin/fluent-bit
# Takes about a quarter of an hour, and wants the machine for itself.
set -eu
cd "$(dirname "$0")/.."
usage() {
    echo "usage: benches/beside.sh SHIPPER BINARY, where SHIPPER is one of: $(ls benches/shippers | tr '\n' ' ')" >&2
    exit 2
}
[ $# = 2 ] && [ -f "benches/shippers/$1" ] || usage
BESIDE_SHIPPER=$1 BESIDE_BINARY=$(command -v "$2") || {
    echo "beside.sh: $2 is no program that can be run" >&2
    exit 2
}
export BESIDE_SHIPPER BESIDE_BINARY
exec cargo bench --locked --bench gateway -- beside
