#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, where they are missing: sh studies/deploy/secrets.sh
#
# Other users of this machine cannot open the folder. The files in it are readable, because a container runs as a user
# of its own and has to read the file that is mounted into it.
set -eu
cd "$(dirname "$0")/../.."
umask 022
mkdir -p secrets
chmod 700 secrets
# Containers read these files as users of their own, which a checkout made with a umask of 077 does not let them.
chmod a+r studies/deploy/roles.sql studies/deploy/Caddyfile

# Writes 192 random bits as hexadecimal digits, which need no quoting anywhere.
password() {
    if [ ! -s "secrets/$1" ]; then
        # Caddy reads a password up to a newline.
        printf '%s\n' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" > "secrets/$1"
    fi
    chmod 644 "secrets/$1"
}

# Writes a database URL. Arguments: role, file of its password, file to write.
storage() {
    printf 'postgresql://%s:%s@postgres/pairsearch\n' "$1" "$(cat "secrets/$2")" > "secrets/$3"
    chmod 644 "secrets/$3"
}

password owner_password
password worker_password
password reader_password
storage pairsearch owner_password owner_storage
storage pairsearch_worker worker_password worker_storage
storage pairsearch_reader reader_password reader_storage

# The dashboard has a password for people, and its bcrypt hash for Caddy. Caddy gets the password by standard input, as
# process lists show arguments.
password dashboard_password
chmod 600 secrets/dashboard_password
if [ ! -s secrets/dashboard_users ]; then
    hash=$(${CADDY:-docker run --rm --interactive --network none caddy:2 caddy} hash-password \
        < secrets/dashboard_password)
    printf 'pairsearch %s\n' "$hash" > secrets/dashboard_users
fi
chmod 644 secrets/dashboard_users
echo "secrets/ is complete; the dashboard's user is pairsearch, its password is in secrets/dashboard_password"
