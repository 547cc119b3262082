//! `ship domains`: which names the site has, whether they lead to it, and how long their certificates are good.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Domains, DomainsAction, Global};
use crate::config::Config;
use crate::config::edit::{self, Value};
use crate::dns::converge;
use crate::dns::records::Target;
use crate::dns::resolve::{Limits, Resolver};
use crate::error::Failure;
use crate::shell::Script;
use crate::table::{Table, Tone};
use crate::transport::Session;
use crate::ui::Ui;

use super::Workspace;

/// How long name servers are asked about one name.
const LIMIT: Duration = Duration::from_secs(8);

/// Lists, or changes ship.yml.
pub async fn run(
    workspace: Workspace,
    global: &Global,
    args: Domains,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    let (names, add) = match args.action {
        None => return list(workspace, ui).await,
        Some(DomainsAction::Add { names }) => (names, true),
        Some(DomainsAction::Remove { names }) => (names, false),
    };
    change(&workspace, global, &names, add, ui)?;
    Ok(ExitCode::SUCCESS)
}

/// A name of the site.
#[derive(Debug, Serialize)]
struct Row {
    domain: String,
    /// Whether its records lead to this server; `None` if nobody can tell.
    leads_here: Option<bool>,
    /// The addresses that this computer gets for it.
    addresses: Vec<String>,
    /// The day that the certificate ends, if there is one.
    certificate_until: Option<String>,
    /// Who issued it.
    issuer: Option<String>,
}

async fn list(workspace: Workspace, ui: &Arc<Ui>) -> Result<ExitCode, Failure> {
    let config = &workspace.config;
    if config.domains.is_empty() {
        if ui.is_json() {
            ui.result_or_json("", &json!([]));
        } else {
            ui.note("The site has no domains and answers to any name: `ship domains add example.com` gives it one.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (session, address) = workspace.connect(false, ui).await?;
    ui.working("looking at the domains");
    let certificates = certificates(&session, &config.domains).await?;
    session.close().await;
    let host = address.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = tokio::net::lookup_host((host, 0)).await;
    let target = Target::resolved(found.into_iter().flatten().map(|address| address.ip()));
    let mut rows = Vec::new();
    for (index, domain) in config.domains.iter().enumerate() {
        let (certificate_until, issuer) = certificates.get(index).cloned().unwrap_or_default();
        rows.push(Row {
            domain: domain.clone(),
            leads_here: leads_here(config, domain, &target).await,
            addresses: addresses(domain).await,
            certificate_until,
            issuer,
        });
    }
    ui.idle();
    let mut table = Table::new(&["domain", "DNS", "certificate"]);
    for row in &rows {
        let dns = match (row.leads_here, row.addresses.as_slice()) {
            (Some(true), _) => "leads here".to_owned(),
            (Some(false), []) => "has no address".to_owned(),
            (Some(false), addresses) => format!("leads to {}", addresses.join(", ")),
            (None, []) => "nobody can tell".to_owned(),
            (None, addresses) => format!("{} here; its name servers are silent", addresses.join(", ")),
        };
        let certificate = match (&row.certificate_until, &row.issuer) {
            (Some(until), Some(issuer)) => format!("until {until}, {issuer}"),
            (Some(until), None) => format!("until {until}"),
            (None, _) => "none".to_owned(),
        };
        let tone = if row.leads_here == Some(true) { Tone::Good } else { Tone::Odd };
        table.row(tone, [row.domain.clone(), dns, certificate]);
    }
    ui.result_or_json(&ui.table(&table), &json!(rows));
    Ok(ExitCode::SUCCESS)
}

async fn leads_here(config: &Config, domain: &str, target: &Target) -> Option<bool> {
    let resolver = Resolver::from_environment(Limits::within(LIMIT)).ok()?;
    let one = Config { domains: vec![domain.to_owned()], ..config.clone() };
    let looking = converge::by_hand(&resolver, &one, target);
    Some(tokio::time::timeout(LIMIT, looking).await.ok()?.ok()?.is_right())
}

async fn addresses(domain: &str) -> Vec<String> {
    let looking = tokio::net::lookup_host((domain, 0));
    let found = tokio::time::timeout(LIMIT, looking).await.ok().and_then(Result::ok);
    let mut all: Vec<String> = found.into_iter().flatten().map(|address| address.ip().to_string()).collect();
    all.sort();
    all.dedup();
    all
}

/// The certificates that the server itself shows for these names: until when, by whom.
async fn certificates(
    session: &Session,
    domains: &[String],
) -> Result<Vec<(Option<String>, Option<String>)>, Failure> {
    let mut script = Script::new();
    for domain in domains {
        script = script.set("domain", domain).line(
            r#"seen=$(timeout 5 openssl s_client -connect 127.0.0.1:443 -servername "$domain" </dev/null 2>/dev/null | openssl x509 -noout -enddate -issuer -nameopt multiline -checkhost "$domain" 2>/dev/null)
case $seen in *'does match certificate'*) ;; *) seen= ;; esac
printf '%s\t%s\n' "$(printf '%s\n' "$seen" | sed -n 's/^notAfter=//p')" "$(printf '%s\n' "$seen" | sed -n 's/^ *organizationName *= //p' | head -n 1)""#,
        );
    }
    let output = session.exec(&script, Bytes::new()).await?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let text = output.stdout_text();
    let read =
        |line: &str| line.split_once('\t').map(|(until, by)| (some(until), some(by))).unwrap_or_default();
    Ok(text.lines().map(read).collect())
}

fn change(
    workspace: &Workspace,
    global: &Global,
    names: &[String],
    add: bool,
    ui: &Ui,
) -> Result<(), Failure> {
    let config = &workspace.config;
    let file = workspace.folder.join(&global.file);
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!("can't {what} {}: {error}", file.display()))
    };
    let old = std::fs::read_to_string(&file).map_err(|error| failed("read", error))?;
    let path: Vec<&str> = match &config.environment {
        Some(name) => vec!["environments", name, "domains"],
        None => vec!["domains"],
    };
    let mut text = old.clone();
    if edit::read(&text, &path).is_none() && !config.domains.is_empty() {
        // An environment's own list takes the place of the other one.
        let all = Value::List(config.domains.iter().map(Value::text).collect());
        text = edit::set(&text, &path, &all).map_err(|error| Failure::input(error.to_string()))?;
    }
    for name in names {
        let there = config.domains.contains(name);
        if add && there {
            return Err(Failure::input(format!("{name} is there already")));
        }
        if !add && !there {
            return Err(Failure::input(format!("{name} is not there"))
                .hint(format!("there are {}", config.domains.join(", "))));
        }
        let edited = if add { edit::push(&text, &path, name) } else { edit::remove(&text, &path, name) };
        text = edited.map_err(|error| {
            Failure::input(error.to_string()).hint(format!("change it in {} yourself", global.file))
        })?;
    }
    // Nothing is written that would not be read.
    workspace.check(global, &text)?;
    std::fs::write(&file, &text).map_err(|error| failed("write", error))?;
    ui.done(
        &format!(
            "{}: {} {}; `ship up` makes it so",
            global.file,
            if add { "added" } else { "removed" },
            names.join(", ")
        ),
        &json!({"added": if add { names } else { &[] }, "removed": if add { &[] } else { names }}),
    );
    Ok(())
}
