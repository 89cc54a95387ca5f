#!/usr/bin/env bash
# Generates the events of an app: sessions as walks through a Markov decision process whose policy is fixed. On average
# a session has 7 of them. The same options give the same bytes, everywhere.
#
#   packaging/cloud/bin/generate-events.sh --sessions 1000 >events.ndjson
#   packaging/cloud/bin/generate-events.sh --stream hr-app-events      puts them on a stream; some minutes for 700,000
#
#   --sessions N        default 100000
#   --seed N            another number, other sessions; default 1
#   --duplicates SHARE  so many of the events come twice, as from an app that got no answer; default 0.01
#   --from DAY          on which the first session begins; default 2025-07-01
#   --days N            over which the sessions begin, 90 at most; default 10
#   --stream NAME       a Kinesis stream, such as the one of the events stack
#   --dry-run           with --stream: generates and counts, and puts nothing
#   --region, --profile   as the AWS CLI takes them
#
# What the stream refuses is put again, later each time. After a failure run the same command again: what comes twice
# has the same event_id. Without --stream nothing but Python 3.9 is needed.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"

words=() stream=
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --sessions | --seed | --duplicates | --from | --days)
            value_of "$@"
            words+=("$1=$2")
            shift
            ;;
        --stream)
            value_of "$@"
            [[ $2 =~ ^[a-zA-Z0-9_.-]{1,128}$ ]] || usage "--stream takes the name of a stream, not \"$2\""
            stream=$2
            shift
            ;;
        *) usage "unknown option \"$1\"" ;;
    esac
    shift
done
need python3 "apt-get install python3"
export PYTHONDONTWRITEBYTECODE=1
if [ -n "$stream" ] && [ -n "$DRY_RUN" ]; then
    "$cloud/lib/generate_events.py" "${words[@]}" >/dev/null
elif [ -n "$stream" ]; then
    connect
    "$cloud/lib/generate_events.py" "${words[@]}" --stream="$stream"
else
    "$cloud/lib/generate_events.py" "${words[@]}"
fi
