#!/usr/bin/env bash
# Asks the lake one of the queries of queries/ and prints the answer as a table.
#
#   packaging/cloud/bin/query.sh                                          which there are, and what each takes
#   packaging/cloud/bin/query.sh sessions --from 2025-07-01 --to 2025-07-31
#   packaging/cloud/bin/query.sh range --from "2025-07-15 17:00" --to "2025-07-15 18:00" --zone Asia/Kolkata
#   packaging/cloud/bin/query.sh zones --from 2025-07-15 --to 2025-07-15 --highest 185 --csv
#
#   NAME             the query, or a part of its name that no other has
#   --from, --to     days, or local times where the query takes times
#   --zone           where the query takes one: whose local times these are
#   --highest        a highest heart rate, where the query takes one; 190
#   --table NAME     over the table of another delivery, hr_sessions or hr_raw, instead of the lake's: all of its folders are
#                    read, as a folder's day is that of the arrival
#   --csv            comma-separated values instead of a table
#   --plot FILE.svg  a line for each sensor (or whatever the answer tells apart), besides
#   --dry-run        print the SQL text, and ask nothing
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# Athena bills what a query reads, 10 MB at least: the header of each file in queries/ says what it reads. How much it was is
# said at the end. The workgroup's bound (ScanLimitBytes) holds here too.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"

words=()
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --from | --to | --zone | --highest | --plot | --table)
            value_of "$@"
            words+=("$1=$2")
            shift
            ;;
        --csv) words+=("$1") ;;
        -*) usage "unknown option \"$1\"" ;;
        *) words+=("$1") ;;
    esac
    shift
done
need python3 "apt-get install python3"
export PYTHONDONTWRITEBYTECODE=1
if [ ${#words[@]} -gt 0 ] && [ -z "$DRY_RUN" ]; then
    connect
    need_lake
    export WORK_GROUP=${OUTPUT[WorkGroup]} LAKE_DATABASE=${OUTPUT[Database]} LAKE_TABLE=${OUTPUT[Table]} LAKE_FIRST_DAY=${OUTPUT[FirstDay]:-2025-01-01}
fi
"$cloud/lib/query.py" ${DRY_RUN:+--dry-run} "${words[@]}"
