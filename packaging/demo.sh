#!/usr/bin/env bash
# Builds hr-gatewayd and runs its main job with a simulated watch: no Bluetooth, no account.
# Installs what is missing. Arguments go to `hr-gatewayd demo` (try --help).
set -euo pipefail
called_from=$PWD
cd "$(dirname "$(readlink -f "$0")")/.."
. packaging/prepare.sh
prepare_build
# The debug build: the package's own takes several times as long to link, and a small machine's memory.
[ -n "${HR_GATEWAYD_IS_BUILT:-}" ] || cargo build --locked
binary=$PWD/target/debug/hr-gatewayd
cd "$called_from"
exec "$binary" demo "$@"
