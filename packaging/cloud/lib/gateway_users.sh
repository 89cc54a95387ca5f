# shellcheck shell=bash disable=SC2034  # KEYS_MAX is for the scripts that source it.
# Sourced by add-gateway.sh, deploy.sh and destroy.sh: the IAM users of gateways with an access key (GatewayIdentity=user).
# What must hold: a user is a stack's by its path, which add-gateway.sh alone gives; no other is ever touched.

KEYS_MAX=2             # IAM: access keys of one user.
USER_CHARACTERS_MAX=64 # IAM: of its name.

# name_user GATEWAY: sets USER_NAME. No stack's name has a dot in it, so none is two stacks' gateways'.
name_user() {
    USER_NAME=$STACK.$1
    [ ${#USER_NAME} -le $USER_CHARACTERS_MAX ] ||
        usage "the IAM user would be $USER_NAME, which is longer than $USER_CHARACTERS_MAX characters: a shorter name, or certificates (ca.sh)"
}

# user_exists: USER_NAME is there. The end if it is somebody else's.
user_exists() {
    local path
    path=$(aws iam get-user --user-name "$USER_NAME" --query User.Path --output text 2>"$WORK/error") || {
        grep -q NoSuchEntity "$WORK/error" || die "cannot look for the user $USER_NAME: $(cat "$WORK/error")"
        return 1
    }
    [ "$path" = "/$STACK/" ] || die "there is a user $USER_NAME that is no gateway's (its path is $path, not /$STACK/): nothing was changed"
}

# gateway_users: their names.
gateway_users() {
    aws iam list-users --path-prefix "/$STACK/" --query 'Users[].[UserName]' --output text | sed '/^None$/d'
}

# access_keys USER: the ids.
access_keys() {
    aws iam list-access-keys --user-name "$1" --query 'AccessKeyMetadata[].[AccessKeyId]' --output text | sed '/^None$/d'
}

# make_user GROUP: USER_NAME, in the group; one that is there keeps what it has.
make_user() {
    user_exists ||
        aws iam create-user --path "/$STACK/" --user-name "$USER_NAME" --tags "Key=$STACK_TAG,Value=$STACK" --output json >/dev/null
    aws iam add-user-to-group --group-name "$1" --user-name "$USER_NAME"
}

# delete_user USER: with its access keys; IAM deletes nobody who has some, or is in a group. Begun, it can be run again.
delete_user() {
    local key keys group groups
    lines_of keys access_keys "$1"
    for key in "${keys[@]}"; do
        aws iam delete-access-key --user-name "$1" --access-key-id "$key"
    done
    lines_of groups aws iam list-groups-for-user --user-name "$1" --query 'Groups[].[GroupName]' --output text
    for group in "${groups[@]}"; do
        [ "$group" = None ] || aws iam remove-user-from-group --group-name "$group" --user-name "$1"
    done
    aws iam delete-user --user-name "$1"
}
