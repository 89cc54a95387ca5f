#!/usr/bin/env bash
# Takes the cloud side down: the live stack, the curated table's, the lake's. The readings stay, unless told otherwise.
#
#   packaging/cloud/bin/destroy.sh                  asks for the stack's name; stream, bucket and key stay
#   packaging/cloud/bin/destroy.sh --delete-data    asks once more, and deletes these too
#
#   --yes            do not ask
#   --dry-run        say what would go and what would stay
#   --stack NAME     default hr-gatewayd
#   --region, --profile   as the AWS CLI takes them
#
# The curated table goes with its catalogue; a later deploy.sh makes it again from what landed.
# What stays costs money: the stream by the hour, the bucket by the byte, the key by the month. A later deploy.sh with
# the same stack name uses it again. An index in OpenSearch goes with its domain; the lake has what was in it.
# After a failure half-way, run the same command again. Nothing that the stack did not make is ever deleted.
set -euo pipefail
cloud=$(dirname "$(dirname "$(readlink -f "$0")")")
# shellcheck source=packaging/cloud/lib/common.sh
. "$cloud/lib/common.sh"
# shellcheck source=packaging/cloud/lib/cloudformation.sh
. "$cloud/lib/cloudformation.sh"
# shellcheck source=packaging/cloud/lib/retained.sh
. "$cloud/lib/retained.sh"
# shellcheck source=packaging/cloud/lib/gateway_users.sh
. "$cloud/lib/gateway_users.sh"

KEY_DAYS=30 # In which the deletion of the key, and so of all that it encrypts, can be called off; 30 is the most.

delete_data=
while [ $# -gt 0 ]; do
    if common_option "$@"; then
        shift "$TAKEN"
        continue
    fi
    case $1 in
        --delete-data) delete_data=yes ;;
        *) usage "unknown option \"$1\"" ;;
    esac
    shift
done

# count_objects BUCKET [PREFIX]: all versions of them, and the marks of deletion.
count_objects() {
    "$cloud/lib/object_versions.py" count "$@"
}

# find_curated: in `curated_place` the prefix of the curated table's files, if they are this stack's and nobody else's:
# the bucket is its own, or the prefix has its name, or its own catalogue alone says that a table is there.
find_curated() {
    local bucket=${OUTPUT[Bucket]} database=${OUTPUT[Database]:-} place others other found
    place=${OUTPUT[Prefix]:-}curated/hr_readings/
    if [[ " ${buckets[*]} " != *" $bucket "* && ${OUTPUT[Prefix]:-} != "$STACK/" ]]; then
        # Apart from the comparison: there its failure would be nobody's.
        found=$(table_place "$database")
        [ "$found" = "s3://$bucket/$place" ] || return 0
        lines_of others aws glue get-databases --query 'DatabaseList[].[Name]' --output text
        for other in "${others[@]}"; do
            found=$(table_place "$other")
            [ "$other" = "$database" ] || [ "$found" != "s3://$bucket/$place" ] || {
                echo "stays:  s3://$bucket/$place is also the table of the database $other"
                return 0
            }
        done
    fi
    curated_place=$place
}

# table_place DATABASE: where its table hr_readings lies, with a / at its end; nothing if there is none.
table_place() {
    local place
    place=$(aws glue get-table --database-name "$1" --name hr_readings --query Table.StorageDescriptor.Location \
        --output text 2>"$WORK/error") || {
        grep -q EntityNotFound "$WORK/error" || die "cannot look for the table hr_readings of $1: $(cat "$WORK/error")"
        return 0
    }
    echo "${place%/}/"
}

list_what_goes() {
    local name status
    echo "account $ACCOUNT, region $AWS_REGION"
    for name in "$STACK-live" "$STACK-streaming" "$STACK-transform" "$STACK-events" "$STACK-curated" "$STACK"; do
        status=$(stack_status "$name")
        [ "$status" = NONE ] || {
            stacks+=("$name")
            echo "goes:   the stack $name ($status)"
        }
    done
    [ ${#stacks[@]} -eq 0 ] || echo "goes:   the table hr_readings; a later deploy.sh makes it again from what landed"
    lines_of users gateway_users
    for name in "${users[@]}"; do echo "goes:   the gateway's user $name, with its access keys"; done
    lines_of streams kept_streams
    lines_of buckets kept_buckets
    lines_of keys kept_keys
    local word=stays:
    [ -z "$delete_data" ] || word=goes:
    local number
    objects=0
    for name in "${streams[@]}"; do printf '%-7s the stream %s, with what it holds\n' $word "$name"; done
    for name in "${buckets[@]}"; do
        number=$(count_objects "$name")
        objects=$((objects + number))
        printf '%-7s the bucket %s\n' $word "$name"
    done
    for name in "${keys[@]}"; do printf '%-7s the key %s\n' $word "$name"; done
    [ ${#buckets[@]} -eq 0 ] || printf '%-7s %s objects, old versions counted\n' $word "$objects"
    list_what_lies_beside
}

# list_what_lies_beside: what is in the lake's bucket; a bucket that is not this stack's own is named too.
list_what_lies_beside() {
    local number
    load_stack "$STACK" && [ -n "${OUTPUT[Bucket]:-}" ] || return 0
    lake_bucket=${OUTPUT[Bucket]}
    find_curated
    if [ -n "$curated_place" ]; then
        # On a line of its own: as an argument its failure would be nobody's.
        number=$(count_objects "$lake_bucket" "$curated_place")
        echo "goes:   $number objects of the curated table, s3://$lake_bucket/$curated_place"
    fi
    [[ " ${buckets[*]} " == *" $lake_bucket "* ]] ||
        echo "stays:  the bucket $lake_bucket, which this stack did not make, with its readings in s3://$lake_bucket/${OUTPUT[Prefix]:-}heart_rate_data/"
}

# What was made beside the lake's stack and does not go with it. Nobody writes to the curated table any more; where its
# files stayed, Athena would make no new one.
make_way() {
    local user
    for user in "${users[@]}"; do
        delete_user "$user"
        echo "deleted: the gateway's user $user and its access keys"
    done
    load_stack "$STACK" || return 0
    [ -z "$curated_place" ] || "$cloud/lib/object_versions.py" delete "$lake_bucket" "$curated_place"
}

# For good. The key last: without it nothing could be read.
delete_what_is_kept() {
    local name
    for name in "${streams[@]}"; do
        aws kinesis delete-stream --stream-name "$name" --enforce-consumer-deletion
        echo "deleted: the stream $name"
    done
    for name in "${buckets[@]}"; do
        "$cloud/lib/object_versions.py" delete "$name"
        aws s3api delete-bucket --bucket "$name"
        echo "deleted: the bucket $name"
    done
    for name in "${keys[@]}"; do
        aws kms schedule-key-deletion --key-id "${name##*/}" --pending-window-in-days $KEY_DAYS >/dev/null
        echo "in $KEY_DAYS days: the key $name (until then: aws kms cancel-key-deletion --key-id $name)"
    done
}

connect
stacks=() users=() streams=() buckets=() keys=() objects=0 lake_bucket='' curated_place=''
list_what_goes
if [ ${#stacks[@]} -eq 0 ]; then
    [ -n "$delete_data" ] || {
        echo "There is no stack $STACK."
        exit 0
    }
    [ $((${#streams[@]} + ${#buckets[@]} + ${#keys[@]})) -gt 0 ] || {
        echo "There is no stack $STACK, and nothing is left of it."
        exit 0
    }
fi
[ -z "$DRY_RUN" ] || exit 0
confirm "$STACK" "This takes down the stacks above."
[ -z "$delete_data" ] || confirm "$objects" "And it deletes ALL READINGS for good: $objects objects, and the stream."
for name in "${stacks[@]}"; do
    echo "$name"
    [ "$name" != "$STACK" ] || make_way
    delete_stack "$name"
done
[ -z "$delete_data" ] || delete_what_is_kept
echo "Done. The gateways keep their readings until they can send again; to stop one: systemctl disable --now hr-gatewayd"
