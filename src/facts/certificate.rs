//! The site's certificate: what is there, whether its names lead here, and what became of the last try to get one.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use crate::apply::heredoc;
use crate::shell::{Cmd, Script};
use crate::tls::x509::Leaf;

use super::FactError;

/// What is asked of a site's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The application.
    pub app: String,
    /// Where the certificate is.
    pub certificate: String,
    /// Where its key is.
    pub key: String,
    /// For one that an authority gives: the site's names, which must lead to this server.
    pub names: Vec<String>,
    /// Addresses of the server that it may not know itself.
    pub addresses: Vec<IpAddr>,
    /// Whether to look where the names lead. Not while their records are being changed: what a resolver does not find
    /// then, it does not look for again for a while.
    pub look: bool,
}

/// What is known of a site's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The server's clock, in seconds since 1970.
    pub now_s: i64,
    /// The certificate.
    pub leaf: Option<Leaf>,
    /// Whether its key is there.
    pub has_key: bool,
    /// The directory of the authority that it is renewed from.
    pub directory: Option<String>,
    /// The server's own addresses, as far as it knows them.
    pub addresses: BTreeSet<IpAddr>,
    /// Where names lead, of those that the certificate lacks; all of them when it is about to end.
    pub leads_to: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Names that lead elsewhere, to something that passes requests on to this server.
    pub passed_on: BTreeSet<String>,
    /// When the last try failed, in seconds since 1970, and what certbot printed.
    pub failed: Option<(i64, String)>,
    /// The same of the last try of a renewal.
    pub renewal_failed: Option<(i64, String)>,
    /// What the last try of a renewal that went well was for.
    pub tried: Option<String>,
}

/// Where the server answers an authority's questions.
pub const WEBROOT: &str = "/var/lib/ship/acme";

/// What says that requests for a name come to this server, though its address is another's.
pub fn token(app: &str) -> String {
    format!("/.well-known/acme-challenge/ship-{app}")
}

/// How certbot knows the certificate.
pub fn lineage(app: &str) -> String {
    format!("ship-{app}")
}

/// Where names lead. Prints `leads`, the name and its addresses, and `passed` and the name of one behind a proxy.
const NAMES: &str = r#"import http.client, os, socket, sys, threading
token, own, names = sys.argv[1], set(sys.argv[2].split()), sys.argv[3:]
found, passed = {}, []

def look(name):
    try:
        found[name] = {one[4][0].split("%")[0] for one in socket.getaddrinfo(name, 80, 0, socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        found[name] = set()
    # Of this machine's own hosts file.
    found[name] -= {one for one in found[name] if one.startswith("127.") or one == "::1"}
    if found[name] and not found[name] <= own:
        try:
            with open(sys.argv[1], encoding="ascii") as file:
                expected = file.read()
            connection = http.client.HTTPConnection(name, timeout=3)
            connection.request("GET", token[token.index("/.well-known"):])
            if connection.getresponse().read(200).decode("ascii", "replace") == expected:
                passed.append(name)
        except (OSError, http.client.HTTPException):
            pass

threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(8)
for name in names:
    if name in found:
        print("leads\t%s\t%s" % (name, " ".join(sorted(found[name]))))
for name in passed:
    print("passed\t" + name)
sys.stdout.flush()
os._exit(0)
"#;

/// Asks for [`Certificate`].
pub fn script(question: &Question) -> Script {
    let Question { app, certificate, key, names, addresses, look } = question;
    let script = Script::new()
        .set("app", app)
        .set("certificate", certificate)
        .set("key", key)
        .set("lineage", lineage(app))
        .set("own", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .set("token", format!("{WEBROOT}{}", token(app)))
        .line(
            r#"printf 'now\t%s\n' "$(date +%s)"
if [ -s "$certificate" ]; then printf 'pem\t%s\n' "$(head -c 65536 "$certificate" | base64 -w0)"; fi
[ ! -s "$key" ] || printf 'key\tyes\n'"#,
        );
    if names.is_empty() {
        return script;
    }
    let remember = Cmd::new("set").arg("--").args(names.iter().filter(|_| *look));
    script
        .line(
            r#"sed -n 's/^server = /directory\t/p' "/etc/letsencrypt/renewal/$lineage.conf" 2>/dev/null
local=$(ip -o addr show scope global 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print $4 }')
printf 'address\t%s\n' $local
for failed in certificate renewal; do
  file=/var/lib/ship/$app/$failed.failed
  [ ! -s "$file" ] || printf '%s.failed\t%s\t%s\n' "$failed" "$(head -n 1 "$file")" "$(tail -n +2 "$file" | head -c 8192 | base64 -w0)"
done
[ ! -s "/var/lib/ship/$app/renewal.tried" ] || printf 'tried\t%s\n' "$(head -n 1 "/var/lib/ship/$app/renewal.tried")"
has=$(openssl x509 -in "$certificate" -noout -ext subjectAltName 2>/dev/null | tr -d '\n '),
openssl x509 -in "$certificate" -noout -checkend 1296000 >/dev/null 2>&1 || has=
[ -s "$key" ] || has="#,
        )
        .cmd(remember)
        .line(
            r#"for name do
  shift
  case "$has" in *"DNS:$name,"*) ;; *) set -- "$@" "$name" ;; esac
done"#,
        )
        .line("if [ $# -gt 0 ] && command -v python3 >/dev/null; then")
        .then(&heredoc("python3 -I - \"$token\" \"$own $local\" \"$@\"", NAMES))
        .line("elif [ $# -gt 0 ]; then")
        .line(r#"  for name do printf 'leads\t%s\t%s\n' "$name" "$(timeout 8 getent ahosts "$name" | cut -d' ' -f1 | sort -u | tr '\n' ' ')"; done"#)
        .line("fi")
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Result<Certificate, FactError> {
    let mut found = Certificate::default();
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let failure = |value: &str| {
        let (at, said) = value.split_once('\t')?;
        Some((at.parse().ok()?, String::from_utf8_lossy(&decode(said)?).into_owned()))
    };
    for line in body.lines() {
        let bad = || FactError::new("certificate", line);
        let (key, value) = line.split_once('\t').ok_or_else(bad)?;
        match key {
            "now" => found.now_s = value.parse().map_err(|_| bad())?,
            // A damaged file is as good as none.
            "pem" => found.leaf = Leaf::parse(&decode(value).ok_or_else(bad)?),
            "key" => found.has_key = true,
            "directory" => found.directory = Some(value.trim().to_owned()),
            "address" => found.addresses.extend(value.parse::<IpAddr>()),
            "certificate.failed" => found.failed = failure(value),
            "renewal.failed" => found.renewal_failed = failure(value),
            "tried" => found.tried = Some(value.to_owned()),
            "leads" => {
                let (name, addresses) = value.split_once('\t').ok_or_else(bad)?;
                let addresses = addresses.split_whitespace().filter_map(|one| one.parse().ok()).collect();
                found.leads_to.insert(name.to_owned(), addresses);
            }
            "passed" => {
                found.passed_on.insert(value.to_owned());
            }
            _ => return Err(bad()),
        }
    }
    Ok(found)
}
