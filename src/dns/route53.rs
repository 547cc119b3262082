//! Zones and records at Amazon Route 53.
//!
//! Invariant: all changes of a zone are one batch, which Route 53 makes as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use aws_config::SdkConfig;
use aws_sdk_route53::Client;
use aws_sdk_route53::config::Region;
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ChangeStatus, HostedZone, HostedZoneConfig, ResourceRecord,
    ResourceRecordSet, RrType,
};

use super::{DnsChange, Kind, RecordSet, Zone};
use crate::aws::{self, Action, Call, Patience};
use crate::providers::cloud::{DnsProvider, Progress, once};
use crate::providers::error::CloudError;

/// What messages call it.
const CLOUD: &str = "Route 53";

/// Where its one endpoint is, for those who have set no region.
const REGION: &str = "us-east-1";

/// How many zones of one name may have been made by ship and deleted again.
const GENERATIONS: u32 = 20;

/// Every action that ship asks of Route 53: the one list behind the calls, the messages and docs/ec2-policy.json.
pub const ACTIONS: &[Action] = &[CHANGE_RECORDS, CREATE_ZONE, GET_CHANGE, GET_ZONE, LIST_ZONES, LIST_RECORDS];
const CHANGE_RECORDS: Action = Action("route53:ChangeResourceRecordSets");
const CREATE_ZONE: Action = Action("route53:CreateHostedZone");
const GET_CHANGE: Action = Action("route53:GetChange");
const GET_ZONE: Action = Action("route53:GetHostedZone");
const LIST_ZONES: Action = Action("route53:ListHostedZonesByName");
const LIST_RECORDS: Action = Action("route53:ListResourceRecordSets");

/// The public zones of an account at Route 53.
#[derive(Debug, Clone)]
pub struct Route53 {
    client: Client,
    patience: Patience,
}

fn reads(action: Action, doing: impl Into<String>) -> Call {
    Call { cloud: CLOUD, action, doing: doing.into(), writes: false }
}

fn writes(action: Action, doing: impl Into<String>) -> Call {
    Call { cloud: CLOUD, action, doing: doing.into(), writes: true }
}

impl Route53 {
    /// Takes credentials as every AWS tool does. Nothing is sent yet.
    pub async fn open() -> Self {
        Self::with(&aws::config(None).await, Patience::default())
    }

    /// Takes what the SDK was told.
    pub fn with(config: &SdkConfig, patience: Patience) -> Self {
        let mut own = aws_sdk_route53::config::Builder::from(config)
            .retry_config(patience.retries())
            .timeout_config(patience.timeouts());
        if config.region().is_none_or(|region| region.as_ref().is_empty()) {
            own = own.region(Region::new(REGION));
        }
        Self { client: Client::from_conf(own.build()), patience }
    }

    /// The public zones of exactly this name. An account may have several.
    async fn named(&self, name: &str) -> Result<Vec<Zone>, CloudError> {
        let call = reads(LIST_ZONES, format!("look for the zone {name}"));
        let mut zones = Vec::new();
        let mut from = (Some(name.to_owned()), None);
        loop {
            let ask = self.client.list_hosted_zones_by_name().set_dns_name(from.0).set_hosted_zone_id(from.1);
            let answer = ask.send().await.map_err(|error| call.fail(&error))?;
            // The list is in order: the zones of a name are side by side.
            let same = answer.hosted_zones().iter().take_while(|zone| plain(zone.name()) == name);
            let mut seen = 0;
            for zone in same {
                seen += 1;
                if is_public(zone) {
                    zones.push(self.zone(zone).await?);
                }
            }
            if !answer.is_truncated() || seen < answer.hosted_zones().len() {
                return Ok(zones);
            }
            from =
                (answer.next_dns_name().map(str::to_owned), answer.next_hosted_zone_id().map(str::to_owned));
        }
    }

    async fn zone(&self, zone: &HostedZone) -> Result<Zone, CloudError> {
        let call = reads(GET_ZONE, format!("look at the zone {}", plain(zone.name())));
        let answer = self.client.get_hosted_zone().id(zone.id()).send().await;
        let answer = answer.map_err(|error| call.fail(&error))?;
        let servers = answer.delegation_set().map(|set| set.name_servers()).unwrap_or_default();
        Ok(in_our_terms(zone, servers))
    }

    /// Every record set at exactly this name.
    async fn at(&self, zone: &Zone, name: &str) -> Result<Vec<ResourceRecordSet>, CloudError> {
        let call = reads(LIST_RECORDS, format!("read the records of {name}"));
        let mut sets = Vec::new();
        let mut from = (Some(name.to_owned()), None, None);
        loop {
            let answer = self
                .client
                .list_resource_record_sets()
                .hosted_zone_id(&zone.id)
                .set_start_record_name(from.0)
                .set_start_record_type(from.1)
                .set_start_record_identifier(from.2)
                .send()
                .await
                .map_err(|error| call.fail(&error))?;
            let page = answer.resource_record_sets();
            let here: Vec<_> = page.iter().take_while(|set| plain(set.name()) == name).cloned().collect();
            let all = here.len() == page.len();
            sets.extend(here);
            if !answer.is_truncated() || !all {
                return Ok(sets);
            }
            from = (
                answer.next_record_name().map(str::to_owned),
                answer.next_record_type().cloned(),
                answer.next_record_identifier().map(str::to_owned),
            );
        }
    }

    /// Whether the records are what the changes were to make of them.
    async fn is_so(&self, zone: &Zone, changes: &[DnsChange]) -> Result<bool, CloudError> {
        for change in changes {
            let Some(named) = change.new.as_ref().or(change.old.as_ref()) else { continue };
            let there = record_sets(&self.at(zone, &named.name).await?);
            let there = there.into_iter().find(|set| set.kind == named.kind);
            let same = match (&there, &change.new) {
                (Some(there), Some(new)) => there.values == new.values && there.ttl_s == new.ttl_s,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn until_insync(
        &self,
        zone: &Zone,
        change: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let call =
            reads(GET_CHANGE, format!("look whether all name servers of {} know the change", zone.name));
        progress(&format!("waiting until all name servers of {} know", zone.name));
        let late = || format!("not all name servers of {} know the change", zone.name);
        aws::until(&self.patience, self.patience.insync, late, || async {
            let answer =
                self.client.get_change().id(change).send().await.map_err(|error| call.fail(&error))?;
            let insync = answer.change_info().is_some_and(|info| *info.status() == ChangeStatus::Insync);
            Ok(insync.then_some(()))
        })
        .await
    }
}

impl DnsProvider for Route53 {
    /// Two zones of one name are both returned, each with its own name servers.
    async fn zones(&self, names: &[String]) -> Result<Vec<Zone>, CloudError> {
        let mut zones = Vec::new();
        // One after the other: Route 53 takes five calls a second from an account.
        for name in names.iter().map(|name| plain(name)).collect::<BTreeSet<_>>() {
            zones.extend(self.named(&name).await?);
        }
        Ok(zones)
    }

    async fn records(&self, zone: &Zone, names: &[String]) -> Result<Vec<RecordSet>, CloudError> {
        let mut records = Vec::new();
        for name in names.iter().map(|name| plain(name)).collect::<BTreeSet<_>>() {
            records.extend(record_sets(&self.at(zone, &name).await?));
        }
        Ok(records)
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[DnsChange],
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(batch) = batch(changes)? else { return Ok(()) };
        let names: BTreeSet<String> = changes
            .iter()
            .filter_map(|change| change.new.as_ref().or(change.old.as_ref()))
            .map(RecordSet::to_string)
            .collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let call = writes(CHANGE_RECORDS, format!("change the records {names}"));
        let ask = self.client.change_resource_record_sets().hosted_zone_id(&zone.id).change_batch(batch);
        let sent = ask.send().await.map_err(|error| call.fail(&error));
        let answer = match sent {
            // The batch may have been made by the first of two calls, whose answer was lost: what was to be deleted is gone.
            Err(error) if error.code() == Some("InvalidChangeBatch") => {
                return if self.is_so(zone, changes).await? { Ok(()) } else { Err(error) };
            }
            end => end?,
        };
        let info = answer.change_info().ok_or_else(|| call.senseless("change"))?;
        if *info.status() == ChangeStatus::Insync {
            return Ok(());
        }
        self.until_insync(zone, info.id(), progress).await
    }

    async fn create_zone(&self, name: &str) -> Result<Zone, CloudError> {
        let name = plain(name);
        let call = writes(CREATE_ZONE, format!("create the zone {name}"));
        for generation in 0..GENERATIONS {
            let make = || async {
                let answer = self
                    .client
                    .create_hosted_zone()
                    .name(&name)
                    .caller_reference(format!("ship/{name}/{generation}"))
                    .hosted_zone_config(HostedZoneConfig::builder().comment("Made by ship").build())
                    .send()
                    .await
                    .map_err(|error| call.fail(&error))?;
                let servers = answer.delegation_set().map(|set| set.name_servers()).unwrap_or_default();
                let zone = answer.hosted_zone().ok_or_else(|| call.senseless("zone"))?;
                Ok(in_our_terms(zone, servers))
            };
            let find = || async { Ok(self.named(&name).await?.into_iter().next()) };
            match once(&self.patience.looks, find, make).await {
                // The reference made one before: by a call whose answer was lost, or one that is deleted by now.
                Err(error) if error.code() == Some("HostedZoneAlreadyExists") => {
                    if let Some(zone) = find().await? {
                        return Ok(zone);
                    }
                }
                end => return end,
            }
        }
        Err(CloudError::Impossible {
            message: format!("Route 53 remembers {GENERATIONS} earlier zones {name}, all gone"),
            hints: vec!["make the zone in the console".into()],
        })
    }
}

fn is_public(zone: &HostedZone) -> bool {
    zone.config().is_none_or(|config| !config.private_zone())
}

fn in_our_terms(zone: &HostedZone, servers: &[String]) -> Zone {
    Zone {
        id: zone.id().trim_start_matches("/hostedzone/").to_owned(),
        name: plain(zone.name()),
        name_servers: servers.iter().map(|server| plain(server)).collect(),
    }
}

/// A name as the rest of ship writes it: lower case, no last dot, nothing escaped.
fn plain(name: &str) -> String {
    let mut plain = String::new();
    let mut rest = name.trim_end_matches('.');
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain.to_ascii_lowercase()
}

fn kind_of(kind: &RrType) -> Kind {
    match kind {
        RrType::A => Kind::A,
        RrType::Aaaa => Kind::Aaaa,
        RrType::Cname => Kind::Cname,
        other => Kind::Other(other.as_str().to_owned()),
    }
}

/// A value as the rest of ship writes it.
fn value_of(kind: &Kind, value: &str) -> String {
    match kind {
        Kind::Aaaa => value.parse::<Ipv6Addr>().map_or_else(|_| value.to_owned(), |ip| ip.to_string()),
        Kind::Cname => plain(value),
        Kind::Other(other) if other == "NS" => plain(value),
        Kind::A | Kind::Other(_) => value.to_owned(),
    }
}

/// Whether it is an alias, or one of several answers of which Route 53 chooses.
fn is_special(set: &ResourceRecordSet) -> bool {
    set.alias_target().is_some()
        || set.set_identifier().is_some()
        || set.health_check_id().is_some()
        || set.traffic_policy_instance_id().is_some()
}

/// Record sets by name and kind; several of one kind, which are always special, become one.
fn record_sets(sets: &[ResourceRecordSet]) -> Vec<RecordSet> {
    let mut all: BTreeMap<(String, Kind), RecordSet> = BTreeMap::new();
    for set in sets {
        let (name, kind) = (plain(set.name()), kind_of(set.r#type()));
        let known = all.entry((name.clone(), kind.clone())).or_insert_with(|| RecordSet {
            name,
            kind: kind.clone(),
            ttl_s: 0,
            values: BTreeSet::new(),
            ids: Vec::new(),
            special: false,
        });
        known.ttl_s = set.ttl().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(known.ttl_s);
        known.special |= is_special(set);
        known.values.extend(set.alias_target().map(|alias| plain(alias.dns_name())));
        for record in set.resource_records() {
            let value = value_of(&kind, record.value());
            // Deleted as it is written there.
            known.ids.push((value.clone(), record.value().to_owned()));
            known.values.insert(value);
        }
    }
    all.into_values().collect()
}

/// The changes as one batch; `None` when there are none.
fn batch(changes: &[DnsChange]) -> Result<Option<ChangeBatch>, CloudError> {
    let mut batch = ChangeBatch::builder().comment("ship");
    let mut any = false;
    for change in changes {
        let (action, set) = match (&change.old, &change.new) {
            (_, Some(new)) => (ChangeAction::Upsert, rr_set(new, false)),
            (Some(old), None) => (ChangeAction::Delete, rr_set(old, true)),
            (None, None) => continue,
        };
        any = true;
        let set = set.map_err(incomplete)?;
        let one = Change::builder().action(action).resource_record_set(set).build().map_err(incomplete)?;
        batch = batch.changes(one);
    }
    if any { batch.build().map(Some).map_err(incomplete) } else { Ok(None) }
}

fn rr_set(
    set: &RecordSet,
    as_written: bool,
) -> Result<ResourceRecordSet, aws_sdk_route53::error::BuildError> {
    let written = |value: &String| {
        let id = set.ids.iter().find(|(known, _)| as_written && known == value);
        id.map_or_else(|| value.clone(), |(_, written)| written.clone())
    };
    let mut rr = ResourceRecordSet::builder()
        .name(&set.name)
        .r#type(RrType::from(set.kind.to_string().as_str()))
        .ttl(i64::from(set.ttl_s));
    for value in &set.values {
        rr = rr.resource_records(ResourceRecord::builder().value(written(value)).build()?);
    }
    rr.build()
}

fn incomplete(error: aws_sdk_route53::error::BuildError) -> CloudError {
    CloudError::Unreachable { cloud: CLOUD, doing: "change records".into(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use aws_sdk_route53::types::AliasTarget;

    use super::*;

    fn raw(name: &str, kind: RrType, ttl: i64, values: &[&str]) -> ResourceRecordSet {
        let mut set = ResourceRecordSet::builder().name(name).r#type(kind).ttl(ttl);
        for value in values {
            set = set.resource_records(ResourceRecord::builder().value(*value).build().unwrap());
        }
        set.build().unwrap()
    }

    fn set(name: &str, kind: Kind, values: &[&str]) -> RecordSet {
        RecordSet {
            name: name.into(),
            kind,
            ttl_s: 300,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            ids: Vec::new(),
            special: false,
        }
    }

    #[test]
    fn names_lose_dot_case_and_escapes() {
        for (written, plain_name) in [
            ("Library.Example.com.", "library.example.com"),
            ("\\052.example.com.", "*.example.com"),
            ("a\\040b.example.com", "a b.example.com"),
            ("odd\\", "odd\\"),
            ("odd\\9.example.com", "odd\\9.example.com"),
            ("", ""),
        ] {
            assert_eq!(plain(written), plain_name);
        }
    }

    #[test]
    fn records_are_read_in_our_terms() {
        let sets = record_sets(&[
            raw("Library.example.com.", RrType::A, 300, &["203.0.113.9", "203.0.113.7"]),
            raw("library.example.com.", RrType::Aaaa, 60, &["2001:DB8:0:0::7"]),
            raw("library.example.com.", RrType::Txt, 60, &["\"Mixed Case.\""]),
            raw("library.example.com.", RrType::Ns, 60, &["NS-1.example.org."]),
        ]);
        let shown: Vec<_> = sets
            .iter()
            .map(|set| (set.to_string(), set.ttl_s, set.values.iter().cloned().collect::<Vec<_>>()))
            .collect();
        let expected: [(&str, u32, &[&str]); 4] = [
            ("library.example.com A", 300, &["203.0.113.7", "203.0.113.9"]),
            ("library.example.com AAAA", 60, &["2001:db8::7"]),
            ("library.example.com NS", 60, &["ns-1.example.org"]),
            ("library.example.com TXT", 60, &["\"Mixed Case.\""]),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, ttl, values)| {
                ((*name).to_owned(), *ttl, values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(shown, expected);
        assert!(sets.iter().all(|set| !set.special));
    }

    #[test]
    fn aliases_and_weighted_sets_are_special() {
        let alias = ResourceRecordSet::builder()
            .name("library.example.com.")
            .r#type(RrType::A)
            .alias_target(
                AliasTarget::builder()
                    .hosted_zone_id("Z2FDTNDATAQYW2")
                    .dns_name("d111.cloudfront.example.")
                    .evaluate_target_health(false)
                    .build()
                    .unwrap(),
            )
            .build()
            .unwrap();
        let read = record_sets(&[alias]);
        assert!(read[0].special);
        assert_eq!(read[0].values, BTreeSet::from(["d111.cloudfront.example".to_owned()]));

        let weighted = |id: &str, value| {
            let mut set = raw("library.example.com.", RrType::A, 60, &[value]);
            set.set_identifier = Some(id.into());
            set.weight = Some(1);
            set
        };
        let read = record_sets(&[weighted("a", "203.0.113.1"), weighted("b", "203.0.113.2")]);
        assert_eq!((read.len(), read[0].special, read[0].values.len()), (1, true, 2));
    }

    #[test]
    fn a_batch_replaces_and_deletes_what_is_there_as_it_is_written() {
        let there = record_sets(&[raw("www.example.com.", RrType::Aaaa, 60, &["2001:DB8::7"])]);
        let changes = [
            DnsChange { old: None, new: Some(set("example.com", Kind::A, &["203.0.113.7"])) },
            DnsChange { old: there.first().cloned(), new: None },
        ];
        let batch = batch(&changes).unwrap().unwrap();
        let shown: Vec<_> = batch
            .changes()
            .iter()
            .map(|change| {
                let set = change.resource_record_set().unwrap();
                let value = set.resource_records()[0].value().to_owned();
                (change.action().as_str().to_owned(), set.name().to_owned(), set.ttl().unwrap(), value)
            })
            .collect();
        let row = |action: &str, name: &str, ttl, value: &str| {
            (action.to_owned(), name.to_owned(), ttl, value.to_owned())
        };
        let expected = [
            row("UPSERT", "example.com", 300, "203.0.113.7"),
            row("DELETE", "www.example.com", 60, "2001:DB8::7"),
        ];
        assert_eq!(shown, expected);
        assert!(super::batch(&[]).unwrap().is_none());
    }
}
