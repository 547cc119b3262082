//! Any of the zone hosts, chosen by `dns`.

use super::digitalocean::DigitalOceanDns;
#[cfg(feature = "aws")]
use super::route53::Route53;
use super::{DnsChange, RecordSet, Zone};
use crate::config::{Config, DnsHost};
use crate::error::Failure;
use crate::providers::cloud::{DnsProvider, Progress};
use crate::providers::digitalocean::client::{Access, Waits};
use crate::providers::error::CloudError;
#[cfg(not(feature = "aws"))]
use crate::providers::no_aws;

/// A zone host.
pub enum AnyDns {
    /// DigitalOcean.
    DigitalOcean(DigitalOceanDns),
    /// Route 53.
    #[cfg(feature = "aws")]
    Route53(Route53),
}

/// The zone host that the configuration names, if it names one, ready to be asked. Nothing is sent yet.
pub async fn dns_of(config: &Config) -> Result<Option<AnyDns>, Failure> {
    match config.dns.host {
        Some(DnsHost::DigitalOcean) => {
            let access = Access::of(|name| std::env::var(name).ok())?;
            Ok(Some(AnyDns::DigitalOcean(DigitalOceanDns::new(&access, Waits::default())?)))
        }
        #[cfg(feature = "aws")]
        Some(DnsHost::Route53) => Ok(Some(AnyDns::Route53(Route53::open().await))),
        #[cfg(not(feature = "aws"))]
        Some(DnsHost::Route53) => Err(no_aws("`dns: route53`")),
        None => Ok(None),
    }
}

/// Calls the same of whichever host it is.
macro_rules! whichever {
    ($any:expr, $dns:ident => $call:expr) => {
        match $any {
            AnyDns::DigitalOcean($dns) => $call,
            #[cfg(feature = "aws")]
            AnyDns::Route53($dns) => $call,
        }
    };
}

impl DnsProvider for AnyDns {
    async fn zones(&self, names: &[String]) -> Result<Vec<Zone>, CloudError> {
        whichever!(self, dns => dns.zones(names).await)
    }

    async fn records(&self, zone: &Zone, names: &[String]) -> Result<Vec<RecordSet>, CloudError> {
        whichever!(self, dns => dns.records(zone, names).await)
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[DnsChange],
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        whichever!(self, dns => dns.apply(zone, changes, progress).await)
    }

    async fn create_zone(&self, name: &str) -> Result<Zone, CloudError> {
        whichever!(self, dns => dns.create_zone(name).await)
    }
}
