//! The site's names in a run of `ship up`, `plan` and `destroy`: surveyed with the server, changed once it is there,
//! waited for at the end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::dns::any::{AnyDns, dns_of};
use crate::dns::converge::{self, DnsPlan};
use crate::dns::records::Target;
use crate::dns::resolve::{Limits, Resolver};
use crate::error::Failure;
use crate::plan::Change;
use crate::ui::Ui;

/// How long the name servers are waited for.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);

/// How long it may take to find out whether the records are right.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How long records are waited for that the user sets.
const BY_HAND_LIMIT: Duration = Duration::from_secs(3600);

/// The records of the site's names.
pub(super) struct Names {
    host: Option<AnyDns>,
    plan: Option<DnsPlan>,
    changed: bool,
}

impl Names {
    /// Looks at the zones, if ship keeps them.
    pub async fn survey(config: &Config, target: &Target, ui: &Ui) -> Result<Self, Failure> {
        let host = dns_of(config).await?;
        let plan = match &host {
            Some(host) if !config.domains.is_empty() => {
                ui.working("looking at the DNS records");
                let plan = converge::survey(host, config, target).await?;
                plan.warnings().iter().for_each(|warning| ui.warn(warning));
                Some(plan)
            }
            Some(_) | None => None,
        };
        Ok(Self { host, plan, changed: false })
    }

    /// Whether no record is to be changed.
    pub fn is_settled(&self) -> bool {
        self.plan.as_ref().is_none_or(DnsPlan::is_empty)
    }

    /// Whether records were changed in this run.
    pub fn were_changed(&self) -> bool {
        self.changed
    }

    /// What is to be done, as the plan shows it.
    pub fn changes(&self) -> Vec<Change> {
        self.plan.as_ref().map(DnsPlan::changes).unwrap_or_default()
    }

    /// Makes resolvers forget sooner what is about to change. Best long before [`Names::apply`].
    pub async fn prepare_move(&mut self, ui: &Ui) -> Result<(), Failure> {
        let (Some(host), Some(plan)) = (&self.host, &mut self.plan) else { return Ok(()) };
        if plan.lowered().is_empty() {
            return Ok(());
        }
        const TITLE: &str = "lower the records' TTL";
        ui.step(TITLE, converge::lower_ttl(host, plan, &|text: &str| ui.step_output(text))).await?;
        Ok(())
    }

    /// Changes the records. `target` is where they lead to, now that all of it is known.
    pub async fn apply(&mut self, config: &Config, target: &Target, ui: &Ui) -> Result<(), Failure> {
        let Some(host) = &self.host else { return Ok(()) };
        if self.is_settled() {
            return Ok(());
        }
        // What was surveyed before the server was there knew no addresses.
        let mut plan = converge::survey(host, config, target).await?;
        const TITLE: &str = "change the DNS records";
        ui.step(TITLE, converge::apply(host, &mut plan, &|text: &str| ui.step_output(text))).await?;
        self.plan = Some(plan);
        self.changed = true;
        Ok(())
    }

    /// Waits until the zones' own name servers answer as they should, if anything was changed. That the world isn't sent
    /// to them, or that one is out of reach from here, is a warning: the site itself is up.
    pub async fn wait(&self, ui: &Ui) -> Result<(), Failure> {
        let Some(plan) = self.plan.as_ref().filter(|_| self.changed) else { return Ok(()) };
        ui.working("waiting for the name servers");
        let resolver = Resolver::from_environment(Limits::within(SETTLE_LIMIT)).map_err(Failure::from)?;
        match converge::wait(&resolver, plan, &|text: &str| ui.working(text)).await {
            Ok(waited) => waited.warnings.iter().for_each(|warning| ui.warn(warning)),
            Err(error) => {
                let failure = Failure::from(error);
                ui.warn(&failure.message);
                if let Some(detail) = &failure.detail {
                    ui.note(detail);
                }
            }
        }
        Ok(())
    }

    /// Removes the records that lead to a server that goes.
    pub async fn removal(config: &Config, addresses: &BTreeSet<IpAddr>, ui: &Ui) -> Result<Self, Failure> {
        let host = dns_of(config).await?;
        let plan = match &host {
            Some(host) => {
                let plan = converge::survey_removal(host, config, addresses).await?;
                plan.warnings().iter().for_each(|warning| ui.warn(warning));
                Some(plan)
            }
            None => None,
        };
        Ok(Self { host, plan, changed: false })
    }

    /// Does what [`Names::removal`] has found.
    pub async fn remove(&mut self, ui: &Ui) -> Result<(), Failure> {
        let (Some(host), Some(plan)) = (&self.host, &mut self.plan) else { return Ok(()) };
        Ok(converge::apply(host, plan, &|text: &str| ui.step_output(text)).await?)
    }
}

/// For `dns: none`: says which records to set, unless they are right; and waits for them if asked to. The site is up by
/// then: that they can't be looked at is a warning.
pub(super) async fn by_hand(config: &Config, target: &Target, wait: bool, ui: &Ui) -> Result<(), Failure> {
    match say_by_hand(config, target, wait, ui).await {
        Err(failure) if !wait => {
            ui.warn(&failure.message);
            Ok(())
        }
        said => said,
    }
}

async fn say_by_hand(config: &Config, target: &Target, wait: bool, ui: &Ui) -> Result<(), Failure> {
    if config.dns.host.is_some() || config.domains.is_empty() {
        return Ok(());
    }
    let limit = if wait { BY_HAND_LIMIT } else { LOOK_LIMIT };
    ui.working("looking at the domains' records");
    let resolver = Resolver::from_environment(Limits::within(limit)).map_err(Failure::from)?;
    let looking = converge::by_hand(&resolver, config, target);
    let Ok(records) = tokio::time::timeout(LOOK_LIMIT, looking).await else {
        ui.warn("can't find out whether the domains lead to this server: no name server answers");
        return Ok(());
    };
    let records = records?;
    ui.idle();
    if records.is_right() {
        return Ok(());
    }
    ui.note(&records.text());
    if wait {
        ui.working("waiting for the records");
        let waited = converge::wait(&resolver, &records.plan, &|text: &str| ui.working(text)).await?;
        waited.warnings.iter().for_each(|warning| ui.warn(warning));
    }
    Ok(())
}
