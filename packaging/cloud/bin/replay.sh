#!/usr/bin/env bash
# Puts what Firehose could not deliver (the objects under errors/ in the bucket) back on the stream.
#
#   packaging/cloud/bin/replay.sh --dry-run     counts what would be sent, by kind of error
#   packaging/cloud/bin/replay.sh               sends it; each object moves to replayed/ once all its lines were accepted
#
#   --prefix PREFIX  only these objects; default errors/
#   --all            also lines that are no readings: without this they stay where they are, and are named, since they
#                    would only fail again
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# First put right what made them fail: the log group of the delivery says what. A line can arrive twice (if this is
# stopped half-way, or if it had been delivered after all); its reading_id makes that harmless.
# Exit status: 0 all sent, 1 something is left.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"

prefix=errors/ all=
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --all) all=--all ;;
        --prefix)
            value_of "$@"
            prefix=$2
            shift
            ;;
        *) usage "unknown option \"$1\"" ;;
    esac
    shift
done
[[ $prefix == errors/* ]] || usage "--prefix begins with errors/"
connect
need_lake
"$cloud/lib/replay.py" "${OUTPUT[Bucket]}" "${OUTPUT[StreamArn]##*/}" "${OUTPUT[Prefix]:-}" "$prefix" ${all:+"$all"} ${DRY_RUN:+--dry-run}
