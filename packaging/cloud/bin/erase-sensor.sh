#!/usr/bin/env bash
# Erases what one sensor (one person's watch or strap) ever sent, wherever the cloud side keeps it.
#
#   packaging/cloud/bin/erase-sensor.sh adi-forerunner --dry-run    counts what would go
#   packaging/cloud/bin/erase-sensor.sh adi-forerunner              asks for the name once more, and erases
#
#   --yes            do not ask
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# Where: the index, the landed Parquet, the curated table with its snapshots, raw/, errors/, replayed/, the results of
# earlier queries; with all older versions of these objects. Other people's lines stay. It asks each place again at the
# end and reports what was found and what is left. Interrupted, run it again: it goes on.
#
# First take the sensor out of its gateway's configuration, or it sends on. Meanwhile the curated table's maintenance
# is paused. Not within reach, and said again at the end: the stream until its retention is over, the automatic
# snapshots of the domain for 14 days, the gateway's own queue, copies that people made.
# Needs the rights of an administrator, and to be inside --viewer for the index (see deploy.sh).
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"

sensor=
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        -*) usage "unknown option \"$1\"" ;;
        *)
            [ -z "$sensor" ] || usage "one sensor at a time"
            sensor=$1
            ;;
    esac
    shift
done
# As src/reading.rs has it: no character of a name means anything to SQL or JSON.
[[ $sensor =~ ^[A-Za-z0-9._-]{1,64}$ ]] || usage "\"$sensor\" is no sensor's name: 1 to 64 letters, digits, \".\", \"_\" or \"-\""
connect
need_lake
stream=${OUTPUT[StreamArn]##*/}
export LAKE_BUCKET=${OUTPUT[Bucket]} LAKE_PREFIX=${OUTPUT[Prefix]:-} LAKE_DATABASE=${OUTPUT[Database]} LAKE_TABLE=${OUTPUT[Table]} FIRST_DAY=${OUTPUT[FirstDay]}
export WORK_GROUP=${OUTPUT[WorkGroup]} STATE_MACHINE='' SNAPSHOT_SECONDS='' ENDPOINT=''
if load_stack "$STACK-curated" && [ -n "${OUTPUT[StateMachineArn]:-}" ]; then
    WORK_GROUP=${OUTPUT[WorkGroup]} STATE_MACHINE=${OUTPUT[StateMachineArn]}
    days=${PARAMETER[KeepSnapshotsDays]}
    SNAPSHOT_SECONDS=$((days * 86400))
fi
if load_stack "$STACK-live" && [ -n "${OUTPUT[Endpoint]:-}" ]; then
    ENDPOINT=${OUTPUT[Endpoint]}
    master_credentials || die "the index asks for a password: put your domain's OPENSEARCH_USER and OPENSEARCH_PASSWORD into the environment"
fi
[ -n "$DRY_RUN" ] || confirm "$sensor" "This erases all readings of $sensor in the stack $STACK for good."
status=0
"$cloud/lib/erase.py" "$sensor" ${DRY_RUN:+--dry-run} || status=$?
hours=$(aws kinesis describe-stream-summary --stream-name "$stream" --query StreamDescriptionSummary.RetentionPeriodHours --output text)
cat <<EOF

Not within reach of this script:
  the stream $stream, until what it holds is $hours hours old; a reader that starts anew (replay, a new stack) would bring it back
  the domain's automatic snapshots, for 14 days; old versions of landed Parquet that somebody deleted by hand, for 30 days
  the gateway: hr-gatewayd queue status shows what waits there; copies that people made of the bucket or of a result
EOF
exit $status
