#!/usr/bin/env bash
# Builds hr-gatewayd and runs its main job with a simulated watch: no Bluetooth, no account.
# Installs what is missing. Arguments go to `hr-gatewayd demo` (try --help).
set -euo pipefail
called_from=$PWD
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh
prepare_build
cargo build --release --locked
binary=$PWD/target/release/hr-gatewayd
cd "$called_from"
exec "$binary" demo "$@"
