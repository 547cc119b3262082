# shellcheck shell=bash
# whitenoise WORKERS: serves the shell floor's release on port 8001 as Heroku's guide has it, too: gunicorn alone, static
# files by WhiteNoise, packed and named by their content. Runs on the box.
set -euo pipefail
cd /srv/bench/current
mapfile -t environment < <(sed 's|^STATIC_ROOT=.*|STATIC_ROOT=/srv/bench/whitenoise|' /etc/bench.env)
environment+=(WHITENOISE=1)
install -d -o bench -g bench /srv/bench/whitenoise
runuser -u bench -- env "${environment[@]}" /srv/bench/venv/bin/python manage.py collectstatic --noinput >/dev/null
(
    umask 077
    printf '%s\n' "${environment[@]}" >/etc/whitenoise.env
)
cat >/etc/systemd/system/whitenoise.service <<UNIT
[Service]
Type=notify
User=bench
WorkingDirectory=/srv/bench/current
EnvironmentFile=/etc/whitenoise.env
ExecStart=/srv/bench/venv/bin/gunicorn --workers $1 --bind 0.0.0.0:8001 shelf.wsgi
KillMode=mixed
UNIT
systemctl daemon-reload
systemctl restart whitenoise
