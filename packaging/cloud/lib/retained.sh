# shellcheck shell=bash disable=SC2154  # given is deploy.sh's: the parameters that a person named.
# Sourced by deploy.sh and destroy.sh: what a stack leaves behind (stream, bucket and key outlive it), found by its tag.
# What must hold: the history stays where queries look; a stranger's stream or bucket is never taken nor deleted.

# kept_streams: names of the streams that carry this stack's tag.
kept_streams() {
    local name
    aws kinesis list-streams --query 'StreamNames[].[@]' --output text | sed '/^None$/d' | while read -r name; do
        if is_kept_stream "$name"; then echo "$name"; fi
    done
}

is_kept_stream() {
    local tag
    tag=$(aws kinesis list-tags-for-stream --stream-name "$1" --query "Tags[?Key=='$STACK_TAG'].Value" --output text) ||
        die "cannot tell whether the stream $1 is this stack's"
    [ "$tag" = "$STACK" ]
}

# tagged TYPE: ARNs of what carries this stack's tag. The index still knows for a while what was deleted.
tagged() {
    aws resourcegroupstaggingapi get-resources --tag-filters "Key=$STACK_TAG,Values=$STACK" --resource-type-filters "$1" \
        --query 'ResourceTagMappingList[].[ResourceARN]' --output text | sed '/^None$/d'
}

kept_buckets() {
    local arn answer
    tagged s3 | while read -r arn; do
        if answer=$(aws s3api head-bucket --bucket "${arn##*:}" 2>&1); then
            echo "${arn##*:}"
        else
            [[ $answer == *"(404)"* ]] || die "cannot look at the bucket ${arn##*:}: $answer"
        fi
    done
}

# kept_keys: ARNs; not those that wait for their deletion.
kept_keys() {
    local arn
    tagged kms | while read -r arn; do
        [ "$(aws kms describe-key --key-id "$arn" --query KeyMetadata.KeyState --output text)" = PendingDeletion ] || echo "$arn"
    done
}

# wanted NAME: what was given for the lake's parameter, or its default.
wanted() {
    local pair
    for pair in "${given[@]}"; do
        [ "${pair%%=*}" != "$1" ] || {
            printf '%s\n' "${pair#*=}"
            return
        }
    done
    declared lake | awk -F '\t' -v name="$1" '$1 == name && $2 != "None" { print $2 }'
}

# adopt_what_was_kept: fills `adopted` with parameters for a lake that is about to be made.
adopt_what_was_kept() {
    [ -n "$(wanted ExistingStreamArn)" ] || adopt_stream
    if [ -n "$(wanted ExistingBucket)" ]; then keep_apart; else adopt_bucket; fi
}

# keep_apart: in a bucket that is not this stack's alone, all that it writes lies under its name.
keep_apart() {
    local bucket own
    bucket=$(wanted ExistingBucket)
    [ -n "$bucket" ] && [ -z "$(wanted Prefix)" ] || return 0
    lines_of own kept_buckets
    [[ " ${own[*]} " != *" $bucket "* ]] || return 0
    adopted+=("Prefix=$STACK/")
    echo "the bucket $bucket is not this stack's alone: all that this stack writes lies under $STACK/ in it"
}

adopt_stream() {
    local name arn key
    name=$(wanted StreamName)
    IFS=$'\t' read -r arn key < <(aws kinesis describe-stream-summary --stream-name "$name" --output text \
        --query 'StreamDescriptionSummary.[StreamARN,KeyId]' 2>"$WORK/error") || {
        grep -q ResourceNotFound "$WORK/error" || die "cannot look for the stream $name: $(cat "$WORK/error")"
        return 0
    }
    is_kept_stream "$name" ||
        die "there is a stream $name already, and not of an earlier stack $STACK. To use it: --parameter ExistingStreamArn=$arn
    (and ExistingStreamKeyArn, if it has a KMS key of yours); for another: --parameter StreamName=OTHER"
    adopted+=("ExistingStreamArn=$arn")
    case $key in None | alias/aws/kinesis) ;; *) adopted+=("ExistingStreamKeyArn=$key") ;; esac
    echo "the stream $name of an earlier stack is used again, as it is: its retention, shards and key are no longer the stack's to change"
}

adopt_bucket() {
    local found=() key
    lines_of found kept_buckets
    [ ${#found[@]} -gt 0 ] || return 0
    [ ${#found[@]} -eq 1 ] || die "earlier stacks $STACK left several buckets: ${found[*]}. Choose: --parameter ExistingBucket=NAME"
    adopted+=("ExistingBucket=${found[0]}")
    echo "the bucket ${found[0]} of an earlier stack is used again, with what is in it"
    # What is in it is encrypted with its key.
    key=$(aws s3api get-bucket-encryption --bucket "${found[0]}" --output text \
        --query 'ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.KMSMasterKeyID')
    [ "$key" = None ] || [ -n "$(wanted ExistingKeyArn)" ] || adopted+=("ExistingKeyArn=$key")
}
