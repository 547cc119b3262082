//! What follows from the certificate that is there: what nginx serves, whether another one is due, and what is in the way.
//!
//! Invariant: pure. HTTPS is what is there, never what is wished for: a name without a certificate is served by HTTP, and
//! nothing leads it to HTTPS.

pub mod trouble;
pub mod x509;

use core::net::IpAddr;
use std::collections::BTreeSet;

use minijinja::Value;

use crate::config::Config;
use crate::config::tls::{Acme, LETS_ENCRYPT, Origin};
use crate::facts::certificate::{Certificate, Question, WEBROOT, lineage};
use crate::facts::host::Host;
use crate::human::count;
use crate::plan::{Action, Change, ResourceId};
use crate::playbook::Vars;
use crate::shell::{Cmd, Script};

use self::trouble::Trouble;
use self::x509::Leaf;

/// The kind of changes that an authority has a say in: that one of them fails is told, and stops nothing else.
pub const KIND: &str = "certificate";

const DAY_S: i64 = 86_400;

/// A certificate and its key on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, followed by those between it and its root.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Where the certificate is, whether or not it is there yet; `None` without TLS.
pub fn files(config: &Config) -> Option<Files> {
    let app = &config.app;
    let (certificate, key) = match &config.tls.origin {
        Origin::None => return None,
        Origin::Acme(_) => {
            let live = format!("/etc/letsencrypt/live/{}", lineage(app));
            (format!("{live}/fullchain.pem"), format!("{live}/privkey.pem"))
        }
        Origin::SelfSigned => {
            (format!("/etc/ship/{app}/tls/self-signed.pem"), format!("/etc/ship/{app}/tls/self-signed.key"))
        }
        Origin::Own { .. } => {
            (format!("/etc/ship/{app}/tls/certificate.pem"), format!("/etc/ship/{app}/tls/key.pem"))
        }
    };
    Some(Files { certificate, key })
}

/// What must be known of the certificate. Without `look`, nobody looks where the names lead.
pub fn question(config: &Config, addresses: &[IpAddr], look: bool) -> Option<Question> {
    let files = files(config)?;
    let acme = matches!(config.tls.origin, Origin::Acme(_));
    Some(Question {
        app: config.app.clone(),
        certificate: files.certificate,
        key: files.key,
        names: if acme { config.domains.clone() } else { Vec::new() },
        addresses: if acme { addresses.to_vec() } else { Vec::new() },
        look,
    })
}

/// What nginx serves by HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The names; none stands for any.
    pub names: Vec<String>,
    /// With what.
    pub files: Files,
    /// Whether nginx may staple what the authority says of the certificate.
    pub stapling: bool,
    /// Until when the certificate holds, in seconds since 1970, if that is known.
    pub until_s: Option<i64>,
}

/// A name that no certificate can be had for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The name.
    pub name: String,
    /// Where it leads.
    pub leads_to: BTreeSet<IpAddr>,
    /// Where it must lead: one of them.
    pub must: Vec<IpAddr>,
}

/// Everything about the certificate that something follows from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What is served by HTTPS.
    pub served: Option<Served>,
    /// The certificate that is due: its names, and why.
    pub due: Option<(Vec<String>, String)>,
    /// Whether a renewal should be tried.
    pub try_renewal: bool,
    /// Names that are yet to lead here.
    pub waiting: Vec<Waiting>,
    /// Why the last try failed.
    pub trouble: Option<Trouble>,
    /// Why the last try of a renewal failed.
    pub renewal_trouble: Option<Trouble>,
    /// The certificate itself.
    pub leaf: Option<Leaf>,
    /// The server's clock.
    pub now_s: i64,
}

/// Compares. `own` is the certificate on this computer, if there is to be one of the user's.
pub fn look(config: &Config, addresses: &[IpAddr], found: &Certificate, own: Option<&Leaf>) -> State {
    let Some(files) = files(config) else { return State::default() };
    let mut state = State { now_s: found.now_s, leaf: found.leaf.clone(), ..State::default() };
    let serve = |names: Vec<String>, leaf: Option<&Leaf>, stapling: bool| Served {
        names,
        files: files.clone(),
        stapling: stapling && leaf.is_some_and(|leaf| leaf.ocsp),
        until_s: leaf.map(|leaf| leaf.not_after_s),
    };
    match &config.tls.origin {
        Origin::None => {}
        // Before nginx is told of it, it was made.
        Origin::SelfSigned => {
            state.served = Some(serve(config.domains.clone(), found.leaf.as_ref(), false));
        }
        Origin::Own { .. } => {
            let leaf = own.or(found.leaf.as_ref().filter(|_| found.has_key));
            state.served = leaf.map(|leaf| serve(config.domains.clone(), Some(leaf), true));
            state.leaf = leaf.cloned();
        }
        Origin::Acme(acme) => {
            let leaf = found.leaf.as_ref().filter(|_| found.has_key);
            if let Some(leaf) = leaf {
                let names: Vec<String> =
                    config.domains.iter().filter(|name| leaf.covers(name)).cloned().collect();
                state.served = (!names.is_empty()).then(|| serve(names, Some(leaf), true));
            }
            decide(&mut state, config, acme, addresses, found, leaf);
        }
    }
    state
}

/// Whether a certificate of an authority is due.
fn decide(
    state: &mut State,
    config: &Config,
    acme: &Acme,
    addresses: &[IpAddr],
    found: &Certificate,
    leaf: Option<&Leaf>,
) {
    let here = |name: &String| {
        found.passed_on.contains(name)
            || found.leads_to.get(name).is_some_and(|leads| {
                let ours = |one: &IpAddr| addresses.contains(one) || found.addresses.contains(one);
                !leads.is_empty() && leads.iter().all(ours)
            })
    };
    let covered = |name: &String| leaf.is_some_and(|leaf| leaf.names.contains(name));
    let asked = |name: &String| found.leads_to.contains_key(name);
    // A name that has a certificate is believed to lead here as long as nobody has looked.
    let wanted: Vec<String> =
        config.domains.iter().filter(|name| here(name) || (covered(name) && !asked(name))).cloned().collect();
    let must: Vec<IpAddr> =
        if addresses.is_empty() { found.addresses.iter().copied().collect() } else { addresses.to_vec() };
    state.waiting = config
        .domains
        .iter()
        .filter(|name| asked(name) && !here(name))
        .map(|name| Waiting {
            name: name.clone(),
            leads_to: found.leads_to.get(name).cloned().unwrap_or_default(),
            must: must.clone(),
        })
        .collect();
    let read = |failed: &Option<(i64, String)>| {
        failed.as_ref().map(|(_, said)| Trouble::read(said, &acme.directory))
    };
    state.trouble = read(&found.failed);
    state.renewal_trouble = read(&found.renewal_failed);
    if wanted.is_empty() {
        return;
    }
    if let Some(why) = reason(acme, found, leaf, &wanted, &config.domains) {
        let in_vain = state.trouble.as_ref().and_then(|trouble| trouble.until_s);
        if in_vain.is_none_or(|until| until <= found.now_s) {
            state.due = Some((wanted, why));
        }
        return;
    }
    state.trouble = None;
    let tried = found.tried.as_deref() == Some(&*tried_for(acme, &wanted));
    state.try_renewal = leaf.is_some() && !tried;
    if tried {
        state.renewal_trouble = None;
    }
}

/// Why another certificate is due.
fn reason(
    acme: &Acme,
    found: &Certificate,
    leaf: Option<&Leaf>,
    wanted: &[String],
    domains: &[String],
) -> Option<String> {
    let Some(leaf) = leaf else {
        return Some(if found.leaf.is_some() { "its key is missing" } else { "the first one" }.to_owned());
    };
    let new: Vec<&str> =
        wanted.iter().filter(|name| !leaf.names.contains(*name)).map(String::as_str).collect();
    if !new.is_empty() {
        return Some(format!("it lacks {}", new.join(", ")));
    }
    let gone: Vec<&str> =
        leaf.names.iter().filter(|name| !domains.contains(name)).map(String::as_str).collect();
    if !gone.is_empty() {
        return Some(format!("it is still for {}", gone.join(", ")));
    }
    if found.directory.as_deref().is_some_and(|from| from != acme.directory) {
        return Some(format!("it is one of {}'s", leaf.issuer));
    }
    if leaf.not_after_s <= found.now_s {
        return Some(format!("it ended {}", ago(found.now_s - leaf.not_after_s)));
    }
    // The timer renews what has less than a third of its time left; half of that says that it didn't.
    if leaf.not_after_s - found.now_s < (leaf.not_after_s - leaf.not_before_s) / 6 {
        return Some(format!(
            "it ends in {}, and the timer has not renewed it",
            span(leaf.not_after_s - found.now_s)
        ));
    }
    None
}

/// `12 days`, `5 hours`.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let whole = |number: i64, noun: &str| count(usize::try_from(number).unwrap_or(0), noun);
    match seconds {
        0..120 => whole(seconds, "second"),
        120..7200 => whole(seconds / 60, "minute"),
        7200..172_800 => whole(seconds / 3600, "hour"),
        _ => whole(seconds / DAY_S, "day"),
    }
}

fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds))
}

/// What a try of a renewal stands for.
fn tried_for(acme: &Acme, names: &[String]) -> String {
    let mut names = names.to_vec();
    names.sort();
    format!("{} {}", acme.directory, names.join(" "))
}

impl Waiting {
    /// `shop.example.com leads to 203.0.113.9, and must lead to 203.0.113.7`.
    pub fn text(&self) -> String {
        let list = |addresses: Vec<String>| addresses.join(" and ");
        let leads = if self.leads_to.is_empty() {
            "has no address yet".to_owned()
        } else {
            format!("leads to {}", list(self.leads_to.iter().map(ToString::to_string).collect()))
        };
        let must = match self.must.as_slice() {
            [] => "must lead to this server".to_owned(),
            some => format!("must lead to {}", list(some.iter().map(ToString::to_string).collect())),
        };
        format!("{} {leads}, and {must}", self.name)
    }
}

impl Served {
    /// Whether visitors are shown a certificate that has ended.
    pub fn has_ended(&self, now_s: i64) -> bool {
        self.until_s.is_some_and(|until| until <= now_s)
    }
}

impl State {
    /// Whether the site, or a part of it, is served by HTTPS.
    pub fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// Whether visitors are shown a certificate that has ended.
    pub fn is_broken(&self) -> bool {
        self.served.as_ref().is_some_and(|served| served.has_ended(self.now_s))
    }

    /// What is in the way of HTTPS for all names, each with what to do.
    pub fn obstacles(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.waiting.iter().map(|waiting| format!("no certificate yet: {}", waiting.text())).collect();
        lines.extend(self.troubles().into_iter().map(|(what, mend)| format!("{what}; {mend}")));
        lines
    }

    /// What went wrong when a certificate or a renewal was asked for, each with what to do.
    pub fn troubles(&self) -> Vec<(String, String)> {
        let first = self.trouble.as_ref().map(|trouble| {
            let until = trouble.until_s.map(|at| format!(" (until {})", moment(at))).unwrap_or_default();
            (format!("the certificate could not be had: {}{until}", trouble.cause), trouble.hint.clone())
        });
        let renewal = self.renewal_trouble.as_ref().map(|trouble| {
            (
                format!("renewing the certificate was tried and failed: {}", trouble.cause),
                trouble.hint.clone(),
            )
        });
        first.into_iter().chain(renewal).collect()
    }

    /// How things stand, in a line.
    pub fn line(&self) -> String {
        match (&self.served, &self.leaf) {
            (None, _) => "no certificate: the site is served by HTTP".to_owned(),
            (Some(served), Some(leaf)) => {
                let left = leaf.not_after_s - self.now_s;
                let until = if left > 0 {
                    format!("{} left, until {}", span(left), moment(leaf.not_after_s))
                } else {
                    format!("ended {}, on {}", ago(-left), moment(leaf.not_after_s))
                };
                let names = if served.names.is_empty() { "any name".into() } else { served.names.join(", ") };
                format!("{until}, for {names}, by {}, {}", leaf.issuer, leaf.key)
            }
            (Some(_), None) => "not there yet".to_owned(),
        }
    }
}

/// A moment as people read it: `2026-05-04 03:02 UTC`.
pub fn moment(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s)
        .map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
        .unwrap_or_else(|_| "an unknown time".to_owned())
}

/// What playbooks and templates know of it. `asking` is for what must be asked before anything is known: whatever may be
/// there.
pub fn vars(config: &Config, state: &State, ca: Option<&str>, host: Option<&Host>, asking: bool) -> Vars {
    let acme = matches!(config.tls.origin, Origin::Acme(_));
    let server = |https: bool, names: Vec<String>| {
        Value::from_pairs([("https", Value::from(https)), ("names", Value::from(names))])
    };
    let mut servers = Vec::new();
    if let Some(served) = &state.served {
        servers.push(server(true, served.names.clone()));
    }
    let plain: Vec<String> = match &state.served {
        Some(served) => config.domains.iter().filter(|name| !served.names.contains(name)).cloned().collect(),
        None => config.domains.clone(),
    };
    if state.served.is_none() || !plain.is_empty() {
        servers.push(server(false, plain));
    }
    let directive = host.is_some_and(has_http2_directive);
    let end = if directive { "ssl" } else { "ssl http2" };
    let served = state.served.as_ref();
    let text = |pick: fn(&Served) -> &String| Value::from(served.map(pick).cloned().unwrap_or_default());
    let tls = Value::from_pairs([
        ("on", Value::from(config.tls.is_on())),
        ("acme", acme.into()),
        ("certbot", (acme && (asking || state.leaf.is_some() || state.due.is_some())).into()),
        ("self_signed", (config.tls.origin == Origin::SelfSigned).into()),
        ("ca", Value::from(ca.map(str::to_owned))),
        ("webroot", WEBROOT.into()),
        ("hsts", config.tls.hsts.map(|hsts| hsts.to_string()).unwrap_or_default().into()),
        ("redirected", served.is_some().into()),
        ("redirected_names", Value::from(served.map(|served| served.names.clone()).unwrap_or_default())),
        ("listen", Value::from(vec![format!("listen 443 {end}"), format!("listen [::]:443 {end}")])),
        ("http2_directive", directive.into()),
        ("certificate", text(|served| &served.files.certificate)),
        ("key", text(|served| &served.files.key)),
        ("stapling", served.is_some_and(|served| served.stapling).into()),
    ]);
    let slug = config.app.replace('-', "_");
    Vars::from([
        ("tls".to_owned(), tls),
        ("servers".to_owned(), Value::from(servers)),
        ("slug".to_owned(), Value::from(slug)),
    ])
}

/// Whether nginx wants `http2 on`, as it does from 1.25.1: Debian since 13, Ubuntu since 24.10.
fn has_http2_directive(host: &Host) -> bool {
    let mut numbers = host.os_version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match host.os.as_str() {
        "debian" => version >= (13, 0),
        "ubuntu" => version >= (24, 10),
        _ => false,
    }
}

/// Changes that get a certificate.
pub fn changes(config: &Config, state: &State) -> Vec<Change> {
    let Origin::Acme(acme) = &config.tls.origin else { return Vec::new() };
    let Some((names, why)) = &state.due else { return Vec::new() };
    let title = format!("get a certificate for {}", names.join(", "));
    vec![Change::run(ResourceId::new(KIND, title), Action::Run, why.clone(), get(config, acme, names))]
}

/// Changes that try a renewal.
pub fn trial(config: &Config, state: &State) -> Vec<Change> {
    let Origin::Acme(acme) = &config.tls.origin else { return Vec::new() };
    if !state.try_renewal {
        return Vec::new();
    }
    let id = ResourceId::new(KIND, "try a renewal of the certificate");
    let why = "so that the timer's will succeed";
    vec![Change::run(id, Action::Run, why, try_renewal(config, acme))]
}

/// Runs certbot, which waits for another one that runs and asks again where an authority wants a new nonce, and keeps what it prints when it fails. The step itself does
/// not fail: whatever else is to be done does not depend on it.
const CERTBOT: &str = r#"umask 022
state=/var/lib/ship/$app
said=$(mktemp)
certbot() {
  tries=0
  until command certbot "$@" >"$said" 2>&1; do
    if [ "$tries" -ge 60 ] || ! grep -q -e 'Another instance of Certbot' -e 'acme:error:badNonce' "$said"; then
      cat "$said"
      { date +%s; tail -c 8000 "$said"; } >"$state/.new"; mv "$state/.new" "$state/$doing.failed"
      rm -f "$said"
      exit 0
    fi
    tries=$((tries + 1)); sleep 1
  done
  cat "$said"; rm -f "$said" "$state/$doing.failed"
}
"#;

fn certbot(config: &Config, acme: &Acme, doing: &str) -> Script {
    let script =
        Script::new().set("app", &config.app).set("lineage", lineage(&config.app)).set("doing", doing);
    let script = if acme.ca.is_some() {
        script
            .line("cat /etc/ssl/certs/ca-certificates.crt /etc/ship/*/acme-ca.pem >/run/ship-acme-ca.pem")
            .line("export REQUESTS_CA_BUNDLE=/run/ship-acme-ca.pem")
    } else {
        script
    };
    script.then(&Script::fixed(CERTBOT))
}

fn get(config: &Config, acme: &Acme, names: &[String]) -> Script {
    let mut call = Cmd::new("certbot")
        .args(["certonly", "--non-interactive", "--webroot", "--webroot-path", WEBROOT, "--agree-tos"])
        .arg("--server")
        .arg(&acme.directory)
        .arg("--cert-name")
        .arg(lineage(&config.app))
        .args(["--key-type", "ecdsa", "--renew-with-new-domains", "--force-renewal"]);
    call = match &acme.email {
        Some(email) => call.arg("--email").arg(email),
        None => call.arg("--register-unsafely-without-email"),
    };
    for name in names {
        call = call.arg("--domain").arg(name);
    }
    certbot(config, acme, "certificate")
        // What an interruption or somebody's hand has left of one would get a second one beside it.
        .line(
            r#"( cd /etc/letsencrypt 2>/dev/null || exit 0
if [ ! -e "renewal/$lineage.conf" ] || ! openssl x509 -in "live/$lineage/fullchain.pem" -noout 2>/dev/null || [ ! -s "live/$lineage/privkey.pem" ]; then
  rm -rf "live/$lineage" "archive/$lineage" "renewal/$lineage.conf"
fi )"#,
        )
        .cmd(call)
        // nginx may serve the one of before.
        .line("if systemctl -q is-active nginx.service; then nginx -t -q && systemctl reload nginx.service; fi")
}

fn try_renewal(config: &Config, acme: &Acme) -> Script {
    let mut call = Cmd::new("certbot").args([
        "renew",
        "--dry-run",
        "--no-random-sleep-on-renew",
        "--non-interactive",
        "--cert-name",
    ]);
    call = call.arg(lineage(&config.app));
    // Let's Encrypt's own are tried with its staging, which certbot knows by itself.
    if acme.directory != LETS_ENCRYPT {
        call = call.arg("--server").arg(&acme.directory);
    }
    certbot(config, acme, "renewal")
        .cmd(call)
        .set("directory", &acme.directory)
        .line(
            r#"names=$(openssl x509 -in "/etc/letsencrypt/live/$lineage/fullchain.pem" -noout -ext subjectAltName | tr ',' '\n' | sed -n 's/^ *DNS://p' | LC_ALL=C sort | tr '\n' ' ')
printf '%s %s\n' "$directory" "${names% }" >"$state/.new"; mv "$state/.new" "$state/renewal.tried""#,
        )
}

#[cfg(test)]
mod tests;
