//! What must be the same on a server however it got there, as lines of text.
//!
//! Left out, because it differs between two undisturbed deploys as well: the keys and passwords that a server makes for
//! itself, times (of files, in logs, in `releases.jsonl`, in compiled Python, which records its source's), host
//! keys and the machine's identity, its address in `ship.yml`, apt's and uv's caches, journals; whether systemd itself
//! would answer at the socket if nobody else did; the empty `sources.list` that unattended upgrades leave when their time
//! comes; and the number of a release, which says how often somebody tried, with the stamp `empty`, which says that this
//! try made the database's first tables.

use crate::boxes::TestBox;

const SCRIPT: &str = r#"
export LC_ALL=C
digest() { xargs -0r sha256sum -- ; }
{
# Everything in /etc by content, what holds random keys by name only.
cd /etc
find . -xdev \( -path './ssh' -o -path './ssl' -o -path './alternatives' -o -path './ca-certificates' -o -path ./apt/sources.list \) -prune -o -type f \
  ! -name '*-' ! -name '.pwd.lock' ! -name 'machine-id' ! -name 'shadow' ! -name 'gshadow' ! -name 'resolv.conf' ! -name 'ld.so.cache' \
  ! -name 'hosts' ! -name 'hostname' ! -path './ship/*' ! -path './systemd/system/*' -print0 | sort -z | digest
find ship systemd/system -printf '%p %y %m %u:%g %l\n'
for file in $(find systemd/system ship/*/gunicorn.py ship/*/config/10-plain.env ship/postgresql.conf -type f); do
  printf '%s %s\n' "$file" "$(sed -E 's/\bv[0-9]+\b/vN/g' "$file" | sha256sum)"
done
# The site: what is there, and the live release's files.
cd /srv/library
find . -maxdepth 2 ! -path './static/*' ! -path './shared/media/*' -printf 'srv %p %y %m %u:%g %l\n'
cd /srv/library/current/
find . ! -name '*.pyc' ! -name __pycache__ ! -path './catalog/migrations/*' -printf 'release %p %y %m %u:%g %l\n'
find . -type f ! -name '*.pyc' ! -path './catalog/migrations/*' ! -name marker.html ! -path ./ship.yml -print0 | digest
cd /srv/library/static && find . -type f -print0 | digest
cd /srv/library/venvs && find . ! -name '*.pyc' ! -name __pycache__ -printf 'venv %p %y %m %u:%g %l\n'
find . -type f ! -name '*.pyc' -print0 | digest
cd /var/lib/ship/library && find . -maxdepth 1 ! -name apply -printf 'state %p %m %u:%g\n'
find releases/"$(basename "$(readlink /srv/library/current)")" ! -name empty -printf 'state %p %y %m %u:%g\n'
sed -E 's/.*"what":"([^"]*)".*/record \1/' releases.jsonl | sort -u
# Nothing half-done is left.
find /srv/library /etc/ship /etc/systemd/system /var/lib/ship \( -name '*.new' -o -name '*.ship-new' \) -printf 'half-done %p\n'
flock -n lock true || echo 'the lock is held'
[ ! -e applying ] || echo 'applying'
[ ! -s pending ] || echo 'pending'
systemctl list-units --all --plain --no-legend 'ship-library-*' | cut -d' ' -f1
dpkg --audit
dpkg-query -W -f 'package ${Package} ${Version} ${Status}\n'
systemctl list-unit-files --plain --no-legend --state=enabled | sed 's/^/enabled /'
systemctl list-units --all --plain --no-legend 'library*' 'nginx*' 'postgresql*' | awk '{ print "unit", $1, $2, $3, ($1 ~ /socket$/ ? "" : $4) }'
cd /
sql() { runuser -u postgres -- psql -At -d "$1" -c "$2" ; }
sql postgres 'select rolname, rolsuper, rolcreatedb, rolcanlogin from pg_roles order by 1'
sql postgres 'select datname, pg_get_userbyid(datdba) from pg_database order by 1'
runuser -u postgres -- pg_dump --schema-only library | grep -vE '^(--|\\restrict|\\unrestrict|$)'
sql library 'select title, author_id, published from catalog_book order by id'
} 2>&1 | sed -E 's/\bv[0-9]+\b/vN/g'
"#;

/// The state as sorted lines.
pub fn of(server: &TestBox) -> Vec<String> {
    let mut lines: Vec<String> = server.exec(SCRIPT).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The lines that only one of both has.
pub fn difference(expected: &[String], found: &[String]) -> String {
    let only = |these: &[String], others: &[String], mark: &str| {
        let lines = these.iter().filter(|line| others.binary_search(line).is_err());
        lines.map(|line| format!("{mark} {line}\n")).collect::<String>()
    };
    let counts =
        if expected.len() == found.len() { String::new() } else { "another number of lines\n".into() };
    let text = only(expected, found, "-") + &only(found, expected, "+");
    if text.is_empty() { counts } else { text }
}
