# shellcheck shell=bash disable=SC2154
# The server's part of deploy, which puts id, how, nginx and unit before it. Sources are in /srv/bench/src.
set -euo pipefail
cd /srv/bench

# put FILE CONTENT: true if it had to be written.
put() {
    [[ ! -e $1 || $(<"$1") != "$2" ]] || return 1
    printf '%s\n' "$2" >"$1"
}
# due NAME FILE...: true if what that step is made from has changed since `completed NAME`; the hash is kept for it.
due() {
    hash=$(cat "${@:2}" | sha256sum)
    [[ ! -e .$1 || $(<".$1") != "$hash" ]]
}
completed() { printf '%s\n' "$hash" >".$1"; }
manage() { runuser -u bench -- env "${environment[@]}" PYTHONDONTWRITEBYTECODE=1 venv/bin/python "$release/manage.py" "$@" >/dev/null; }

id -u bench >/dev/null 2>&1 || useradd --system --home-dir /srv/bench --shell /usr/sbin/nologin bench
if [[ ! -e /etc/bench.env ]]; then
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 <<SQL
CREATE ROLE bench LOGIN PASSWORD '$password';
CREATE DATABASE bench OWNER bench;
SQL
    (
        umask 077
        cat >/etc/bench.env <<ENV
SECRET_KEY=$(od -An -N48 -tx1 /dev/urandom | tr -d ' \n')
DATABASE_URL=postgres://bench:$password@127.0.0.1:5432/bench
ALLOWED_HOSTS=*
STATIC_ROOT=/srv/bench/static
ENV
    )
fi
mapfile -t environment </etc/bench.env

release=releases/$id
changed=
if [[ ! -d $release ]]; then
    mkdir -p releases static
    chown bench: static
    cp -a src "$release.new"
    mv "$release.new" "$release"
fi
if due requirements src/requirements.txt; then
    [[ -x venv/bin/pip ]] || python3 -m venv venv
    venv/bin/pip install -q --disable-pip-version-check --no-input -r src/requirements.txt
    completed requirements
    changed=yes
fi
if due migrations .requirements src/*/migrations/*.py; then
    manage migrate --noinput
    completed migrations
fi
if due static .requirements src/shelf/settings.py src/*/static/*/*; then
    manage collectstatic --noinput
    completed static
fi

if put /etc/systemd/system/bench.service "$unit"; then
    systemctl daemon-reload
    changed=yes
fi
if [[ $(readlink current || true) != "$release" ]]; then
    ln -sfn "$release" current.new
    mv -T current.new current
    changed=yes
fi
if [[ -n $changed ]]; then
    systemctl is-enabled -q bench 2>/dev/null || systemctl enable -q bench
    if [[ $how == reload ]] && systemctl is-active -q bench; then systemctl reload bench; else systemctl restart bench; fi
fi
if put /etc/nginx/sites-available/bench "$nginx"; then
    rm -f /etc/nginx/sites-enabled/default
    ln -sfn ../sites-available/bench /etc/nginx/sites-enabled/bench
    nginx -t -q
    systemctl reload nginx
fi
# The last five releases stay.
find releases -mindepth 1 -maxdepth 1 -printf '%C@ %p\n' | sort -rn | tail -n +6 | cut -d ' ' -f 2 | xargs -r rm -rf
