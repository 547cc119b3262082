//! `ship doctor`: looks at everything that a site rests on, here and on the server, and names the cause of what is wrong.
//!
//! What follows from what is seen is decided in `diagnosis.rs`; here it is gathered.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cloud::{Owner, ThingKind, leftovers};
use crate::config::{Config, Server};
use crate::diagnosis::{self, Fault, Finding, View};
use crate::dns::converge;
use crate::dns::records::Target;
use crate::dns::resolve::{Limits, Resolver, Seen};
use crate::engine;
use crate::error::{Exit, Failure};
use crate::facts::health::Question;
use crate::facts::{Ask, Facts};
use crate::human::moment;
use crate::providers;
use crate::providers::cloud::Cloud;
use crate::release::overlay::database_word;
use crate::tls;
use crate::transport::Session;
use crate::ui::Ui;

use super::{Workspace, up};

/// How long the site is waited for from here.
const WEB_LIMIT: Duration = Duration::from_secs(10);

/// How long name servers are asked about one name.
const NAMES_LIMIT: Duration = Duration::from_secs(8);

/// Looks and tells; exits with 1 when something is wrong, with 4 when the server can't be reached.
pub async fn run(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    let mut well = Vec::new();
    // A cloud without a server has nobody to ask.
    let mut has_server = true;
    let mut left = Vec::new();
    if let Some(cloud) = providers::cloud_of(&workspace.config).await? {
        let owner = Owner::of(&workspace.config);
        let words = cloud.words();
        ui.working(&format!("looking at {}", words.cloud));
        let things = cloud.things(&owner).await?;
        has_server = things.iter().any(|thing| thing.kind == ThingKind::Server);
        let text = |(thing, why): &(&crate::cloud::Thing, String)| {
            format!("{} {}: {why}", thing.kind.word(words), thing.label)
        };
        left = leftovers(&things).iter().map(text).collect();
        if left.is_empty() {
            well.push(format!("Nothing of {owner} lies about at {}.", words.cloud));
        }
    }
    let mend = "`ship up` takes it into use again, `ship destroy` removes it";
    found.extend(left.iter().map(|line| Finding::new(Fault::Leftover, line.clone(), mend)));
    let mut exit = Exit::Failed;
    if has_server {
        match workspace.connect(false, ui).await {
            Ok((session, address)) => {
                let (facts, view) = look(&workspace, &session, address, ui).await?;
                session.close().await;
                found.extend(diagnosis::diagnose(&workspace.config, &facts, &view));
                well.push(soundness(&facts));
                well.extend(failed(&facts));
            }
            Err(failure) if failure.exit == Exit::Unreachable => {
                exit = Exit::Unreachable;
                found.insert(0, unreachable(failure));
            }
            Err(failure) => return Err(failure),
        }
    } else {
        well.push("There is no server yet: `ship up` makes one.".into());
    }
    ui.idle();
    found.sort_by_key(|finding| finding.fault);
    let value = json!({ "findings": found, "leftovers": left });
    if found.is_empty() {
        ui.result_or_json(&ui.out_wrapped(&well.join("\n")), &value);
        return Ok(ExitCode::SUCCESS);
    }
    let text = diagnosis::text(&found, |code, text| ui.out_paint(code, text));
    ui.result_or_json(&ui.out_wrapped(&text), &value);
    Ok(exit.into())
}

/// What a failed login says, as a finding.
fn unreachable(failure: Failure) -> Finding {
    let mut hints = failure.hints;
    let mend = if hints.is_empty() {
        "see whether the server runs, at its provider or its console".into()
    } else {
        hints.remove(0)
    };
    let mut finding = Finding::new(Fault::Unreachable, failure.message, mend);
    finding.evidence = failure.detail.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    finding.evidence.extend(hints);
    finding
}

/// What a healthy server is told to be.
fn soundness(facts: &Facts) -> String {
    let Some(health) = &facts.health else { return "The server is reached; nothing runs on it yet.".into() };
    match &health.release {
        Some(release) => format!(
            "Nothing is wrong: {release} serves; disks, memory, clock, packages, database, services, nginx, ports, \
             permissions, migrations, processes and names are as they should be."
        ),
        None => {
            "Nothing is wrong with the server; there is no release yet: `ship up` makes the first.".into()
        }
    }
}

/// The newest deploy, if it failed: that is no fault of the server's, but what its user may be looking for.
fn failed(facts: &Facts) -> Option<String> {
    let (number, build) = facts.app.builds.iter().next_back()?;
    let failed = build.failed.as_ref()?;
    Some(format!("The last deploy, v{number}, failed at {}: {}", moment(&failed.at), failed.reason))
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Asks the server, and looks at it from here.
async fn look(
    workspace: &Workspace,
    session: &Session,
    address: String,
    ui: &Arc<Ui>,
) -> Result<(Facts, View), Failure> {
    let config = &workspace.config;
    let bare = address.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut asks = BTreeSet::from([
        Ask::Host,
        Ask::App { app: config.app.clone(), tree: String::new() },
        Ask::Health(Question {
            app: config.app.clone(),
            root: config.django.suffix(),
            host: config.domains.first().cloned().unwrap_or_else(|| bare.clone()),
            path: config.django.health.path.clone(),
            port: config.port,
            database: database_word(config.database).into(),
        }),
    ]);
    let addresses = up::reached_at(config, &address).await;
    asks.extend(tls::question(config, &addresses, true).map(Ask::Certificate));
    asks.extend(config.tls.is_on().then(|| Ask::Unit("certbot.timer".into())));
    asks.extend(config.backups.iter().map(|_| Ask::Backups(config.app.clone())));
    // What is not as it should be: as far as this folder can be read, which may be what is wrong.
    let mut drift = Vec::new();
    let desired = workspace.desired();
    match desired.as_ref().map_err(Clone::clone).and_then(engine::Desired::asks) {
        Ok(more) => {
            let asked = |ask: &Ask| matches!(ask, Ask::App { .. });
            if more.iter().any(asked) {
                asks.retain(|ask| !asked(ask));
            }
            asks.extend(more);
        }
        Err(failure) => drift.push(failure.message),
    }
    ui.working("looking at the server");
    let before = now_s();
    let facts = engine::probe(session, &asks).await?;
    let asked_s = (before, now_s());
    if let (Ok(desired), true) = (&desired, facts.app.current.is_some()) {
        match desired.drift(&facts) {
            Ok(lines) => drift.extend(lines),
            Err(failure) => drift.push(failure.message),
        }
    }
    ui.working("looking at the site from here");
    let astray = astray(config, &bare).await;
    // A virtual machine's ports are forwarded, or not, as its Vagrantfile says.
    let state = tls::look(config, &addresses, &facts.certificate, None);
    let (mut closed, mut https_closed) = (None, None);
    // A virtual machine's ports are forwarded, or not, as its Vagrantfile says.
    if !matches!(config.server, Server::Vagrant(_)) && facts.app.current.is_some() {
        closed = unanswered(connect(&bare, 80)).await;
        if state.is_served() {
            https_closed = unanswered(connect(&bare, 443)).await;
        }
    }
    let view = View { asked_s, closed, https_closed, tls: state, astray, address: bare, drift };
    Ok((facts, view))
}

/// Asks by HTTP, or only connects: what speaks TLS has more to say than it takes to know that it is there.
async fn connect(host: &str, port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((host, port)).await?;
    if port == 80 {
        stream.write_all(format!("HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        let _count = stream.read(&mut [0; 16]).await?;
    }
    Ok(())
}

/// Why nobody gets an answer, if so.
async fn unanswered(asking: impl Future<Output = std::io::Result<()>>) -> Option<String> {
    match tokio::time::timeout(WEB_LIMIT, asking).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", WEB_LIMIT.as_secs())),
    }
}

/// The names that don't lead to the server, and where they lead.
async fn astray(config: &Config, address: &str) -> Vec<(String, String)> {
    let Ok(resolver) = Resolver::from_environment(Limits::within(NAMES_LIMIT)) else { return Vec::new() };
    let found = tokio::net::lookup_host((address, 0)).await;
    let own: BTreeSet<IpAddr> = found.into_iter().flatten().map(|address| address.ip()).collect();
    let mut astray = Vec::new();
    for domain in &config.domains {
        let asked = tokio::time::timeout(NAMES_LIMIT, leads(&resolver, config, domain, &own)).await;
        // Of whom nobody says anything, nothing is known.
        astray.extend(asked.ok().flatten().map(|wrong| (domain.clone(), wrong)));
    }
    astray
}

/// Where a name leads if not here: by its zone's own name servers, or else by whom this computer asks.
async fn leads(resolver: &Resolver, config: &Config, domain: &str, own: &BTreeSet<IpAddr>) -> Option<String> {
    let one = Config { domains: vec![domain.to_owned()], ..config.clone() };
    let target = Target::resolved(own.iter().copied());
    let seen = converge::by_hand(resolver, &one, &target).await.ok()?;
    if seen.is_right() {
        return None;
    }
    let told = seen.wrong.iter().find_map(|wrong| match &wrong.seen {
        Seen::Addresses(ips) if !ips.is_empty() => Some(ips.clone()),
        Seen::Addresses(_) | Seen::NotTheZone(_) | Seen::Silent(_) => None,
    });
    let ips = match told {
        Some(ips) => ips,
        None => resolver.leads_to(domain).await.ok()?,
    };
    if ips.is_empty() {
        return Some("it has no address".into());
    }
    let list: Vec<String> = ips.iter().map(ToString::to_string).collect();
    (!ips.is_subset(own)).then(|| format!("it leads to {}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::app::{App, Build, Failed};

    #[test]
    fn a_deploy_that_failed_is_told_of_until_the_next_one() {
        let bad =
            Failed { bad: false, at: "2026-01-02T03:04:05Z".into(), reason: "`preflight v2` failed".into() };
        let mut app = App { current: Some(1), ..App::default() };
        app.builds.insert(1, Build::default());
        app.builds.insert(2, Build { failed: Some(bad), ..Build::default() });
        let told = failed(&Facts { app: app.clone(), ..Facts::default() });
        assert_eq!(
            told.as_deref(),
            Some("The last deploy, v2, failed at 2026-01-02 03:04:05Z: `preflight v2` failed")
        );
        app.builds.insert(3, Build::default());
        assert_eq!(failed(&Facts { app, ..Facts::default() }), None);
    }
}
