//! The driver over a zone host in memory that keeps a log of what was sent to it; its waiting over real name servers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use ship::config::{Config, Defaults, load};
use ship::dns::converge::{
    ByHand, DnsError, DnsPlan, Waited, apply, by_hand, lower_ttl, survey, survey_removal, wait,
};
use ship::dns::records::{Address, Target};
use ship::dns::{DnsChange, Kind, RecordSet, Zone};
use ship::error::Failure;
use ship::plan::Plan;
use ship::project::{Tree, detect};
use ship::providers::cloud::{DnsProvider, Progress};
use ship::providers::error::CloudError;

use super::servers::World;
use super::{limits, resolver, run};

/// What a zone host has and was told.
#[derive(Default)]
struct Memory {
    zones: Mutex<Vec<(Zone, Vec<RecordSet>)>>,
    log: Mutex<Vec<String>>,
}

impl Memory {
    fn with(zones: &[(&str, &str)]) -> Self {
        let memory = Self::default();
        for (name, records) in zones {
            memory.zones.lock().unwrap().push((hosted(name), records.lines().filter_map(record).collect()));
        }
        memory
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn told(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    /// All records, a line each.
    fn text(&self) -> String {
        let zones = self.zones.lock().unwrap();
        let line = |set: &RecordSet| {
            let values: Vec<&str> = set.values.iter().map(String::as_str).collect();
            format!("{set} {} {}\n", set.ttl_s, values.join(" "))
        };
        let mut lines: Vec<String> = zones.iter().flat_map(|(_, sets)| sets.iter().map(line)).collect();
        lines.sort();
        lines.concat()
    }
}

fn hosted(name: &str) -> Zone {
    let name_servers = vec!["ns1.example.test".into(), "ns2.example.test".into()];
    Zone { id: format!("Z-{name}"), name: name.into(), name_servers }
}

/// A line `NAME KIND TTL VALUE…`.
fn record(line: &str) -> Option<RecordSet> {
    let mut words = line.split_whitespace().map(str::to_owned);
    let name = words.next()?;
    let kind = match words.next()?.as_str() {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "CNAME" => Kind::Cname,
        other => Kind::Other(other.into()),
    };
    let ttl_s = words.next()?.parse().unwrap();
    Some(RecordSet { name, kind, ttl_s, values: words.collect(), ids: Vec::new(), special: false })
}

impl DnsProvider for Memory {
    async fn zones(&self, names: &[String]) -> Result<Vec<Zone>, CloudError> {
        let zones = self.zones.lock().unwrap();
        Ok(zones.iter().map(|(zone, _)| zone).filter(|zone| names.contains(&zone.name)).cloned().collect())
    }

    async fn records(&self, zone: &Zone, names: &[String]) -> Result<Vec<RecordSet>, CloudError> {
        let zones = self.zones.lock().unwrap();
        let (_, sets) = zones.iter().find(|(known, _)| known == zone).expect("a zone of the account");
        Ok(sets.iter().filter(|set| names.contains(&set.name)).cloned().collect())
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[DnsChange],
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        progress("waiting for the zone host");
        let mut zones = self.zones.lock().unwrap();
        let (_, sets) = zones.iter_mut().find(|(known, _)| known == zone).expect("a zone of the account");
        for change in changes {
            self.told(format!(
                "{}: {}",
                zone.id,
                ship::dns::records::describe(change, ship::dns::records::Purpose::Serve).title()
            ));
            if let Some(old) = &change.old {
                let there = sets.iter().position(|set| set == old);
                sets.remove(there.expect("a change of what is there"));
            }
            sets.extend(change.new.clone());
        }
        Ok(())
    }

    async fn create_zone(&self, name: &str) -> Result<Zone, CloudError> {
        self.told(format!("create zone {name}"));
        self.zones.lock().unwrap().push((hosted(name), Vec::new()));
        Ok(hosted(name))
    }
}

fn config(lines: &str) -> Config {
    let files = [
        ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings') # django"),
        ("library/settings.py", "WSGI_APPLICATION = 'library.wsgi.application'"),
        ("library/wsgi.py", ""),
        ("requirements.txt", "Django\n"),
    ];
    let files = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
    let project = detect(&Tree::from_map(files));
    let text = format!("server: {{provider: ssh, host: 203.0.113.10}}\n{lines}\n");
    let defaults = Defaults { folder_name: "library", playbooks: &[] };
    load("ship.yml", &text, None, &project, &defaults)
        .unwrap_or_else(|error| panic!("{}", Failure::from(error)))
}

fn at(ipv4: &str, ipv6: &str) -> Target {
    Target::known(ipv4.parse().ok(), ipv6.parse().ok())
}

fn shown(plan: &DnsPlan) -> String {
    Plan { changes: plan.changes() }.to_text(true)
}

fn refused(result: Result<DnsPlan, DnsError>) -> String {
    Failure::from(result.unwrap_err()).to_string()
}

const BOTH: &str = "domains: [example.com, www.example.com, library.example.org]\ndns: digitalocean";

#[test]
fn records_are_planned_set_and_then_right() {
    let host = Memory::with(&[
        (
            "example.com",
            "example.com A 3600 203.0.113.9\nexample.com MX 3600 mail\nwww.example.com AAAA 300 2001:db8::9",
        ),
        ("example.org", "mail.example.org A 300 203.0.113.77"),
    ]);
    let config = config(BOTH);
    run(async {
        let mut plan = survey(&host, &config, &at("203.0.113.10", "")).await.unwrap();
        assert!(!plan.is_empty());
        assert_eq!(host.log(), [""; 0], "a survey only reads");
        insta::assert_snapshot!(shown(&plan), @r"
        ~ record example.com A                                 leads to 203.0.113.9, will lead to 203.0.113.10
            -203.0.113.9  TTL 3600
            +203.0.113.10  TTL 300
        + record www.example.com A                             will lead to 203.0.113.10
            +203.0.113.10  TTL 300
        - record www.example.com AAAA                          the server has no IPv6 address, and visitors would try this one
            -2001:db8::9  TTL 300
        + record library.example.org A                         will lead to 203.0.113.10
            +203.0.113.10  TTL 300
        ");
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        assert!(plan.is_empty());
        insta::assert_snapshot!(host.text(), @r"
        example.com A 300 203.0.113.10
        example.com MX 3600 mail
        library.example.org A 300 203.0.113.10
        mail.example.org A 300 203.0.113.77
        www.example.com A 300 203.0.113.10
        ");
        host.log();
        let again = survey(&host, &config, &at("203.0.113.10", "")).await.unwrap();
        assert!(again.is_empty(), "{}", shown(&again));
        apply(&host, &mut again.clone(), &|_| {}).await.unwrap();
        assert_eq!(host.log(), [""; 0], "nothing to do");
    });
}

#[test]
fn before_the_server_exists_the_plan_is_shown_and_ttls_are_lowered() {
    let host = Memory::with(&[(
        "example.com",
        "example.com A 3600 203.0.113.9\nwww.example.com A 7200 203.0.113.9",
    )]);
    let config = config("domains: [example.com, www.example.com]\ndns: {provider: digitalocean, ttl: 600}");
    let coming = Target { ipv4: Address::Coming, ipv6: Address::Absent };
    run(async {
        let mut plan = survey(&host, &config, &coming).await.unwrap();
        insta::assert_snapshot!(Plan { changes: plan.lowered() }.to_text(true) + &shown(&plan), @r"
        ~ record example.com A                                 TTL 3600 → 60, before the address moves
            -203.0.113.9  TTL 3600
            +203.0.113.9  TTL 60
        ~ record www.example.com A                             TTL 7200 → 60, before the address moves
            -203.0.113.9  TTL 7200
            +203.0.113.9  TTL 60
        ~ record example.com A                                 leads to 203.0.113.9, will lead to (the new server's address)
            -203.0.113.9  TTL 3600
            +(the new server's address)  TTL 600
        ~ record www.example.com A                             leads to 203.0.113.9, will lead to (the new server's address)
            -203.0.113.9  TTL 7200
            +(the new server's address)  TTL 600
        ");
        assert_eq!(lower_ttl(&host, &mut plan, &|_| {}).await, Ok(Some(7200)));
        assert_eq!(host.text(), "example.com A 60 203.0.113.9\nwww.example.com A 60 203.0.113.9\n");
        host.log();
        assert_eq!(lower_ttl(&host, &mut plan, &|_| {}).await, Ok(None), "once is enough");
        let error = apply(&host, &mut plan, &|_| {}).await.unwrap_err();
        insta::assert_snapshot!(Failure::from(error), @r"
        error: refused to send changes of DNS records: example.com A with the value `(the new server's address)`
        hint: nothing was changed; this is a fault of ship's, or a strange answer of the zone's host
        ");
        assert_eq!(host.log(), [""; 0], "an unknown address is sent to nobody");
        let resolver = super::Resolver::only(Vec::new(), limits(Duration::ZERO));
        assert!(matches!(wait(&resolver, &plan, &|_| {}).await, Err(DnsError::NoAddress(_))));
        let mut plan = survey(&host, &config, &at("203.0.113.10", "")).await.unwrap();
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        assert_eq!(host.text(), "example.com A 600 203.0.113.10\nwww.example.com A 600 203.0.113.10\n");
    });
}

#[test]
fn lowered_ttls_are_known_to_the_plan_that_follows() {
    let host =
        Memory::with(&[("example.com", "example.com A 3600 203.0.113.9\nexample.com AAAA 3600 2001:db8::9")]);
    let config = config("domains: [example.com]\ndns: digitalocean");
    run(async {
        let mut plan = survey(&host, &config, &at("203.0.113.10", "")).await.unwrap();
        lower_ttl(&host, &mut plan, &|_| {}).await.unwrap();
        // The host in memory refuses a change of what is not there.
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        assert_eq!(host.text(), "example.com A 300 203.0.113.10\n");
    });
}

#[test]
fn a_zone_is_made_only_on_request() {
    let host = Memory::default();
    let target = at("203.0.113.10", "");
    run(async {
        let without = config("domains: [library.example.co.uk]\ndns: digitalocean");
        insta::assert_snapshot!(refused(survey(&host, &without, &target).await), @r"
        error: there is no zone for library.example.co.uk in the account (looked for library.example.co.uk, example.co.uk and co.uk)
        hint: `dns: {provider: digitalocean, create_zone: true}` makes the zone example.co.uk; the name servers it gets are then to be entered where example.co.uk is registered
        hint: or `dns: none`: then `ship up` prints the records for you to set
        ");
        let with =
            config("domains: [library.example.co.uk]\ndns: {provider: digitalocean, create_zone: true}");
        let mut plan = survey(&host, &with, &target).await.unwrap();
        insta::assert_snapshot!(shown(&plan), @r"
        + zone example.co.uk                                   its name servers are then to be entered where the domain is registered
        + record library.example.co.uk A                       will lead to 203.0.113.10
            +203.0.113.10  TTL 300
        ");
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        assert_eq!(
            host.log(),
            ["create zone example.co.uk", "Z-example.co.uk: create record library.example.co.uk A"]
        );
        assert!(survey(&host, &with, &target).await.unwrap().is_empty());
    });
}

#[test]
fn what_is_in_the_way_stops_everything() {
    let host = Memory::with(&[
        ("example.com", "www.example.com CNAME 300 example.com"),
        ("example.org", "library.example.org NS 300 ns1.example.net"),
    ]);
    run(async {
        insta::assert_snapshot!(refused(survey(&host, &config(BOTH), &at("203.0.113.10", "")).await), @r"
        error: 2 things are in the way of the site's records
        www.example.com is a CNAME of example.com, and then it can't have addresses of its own
        the zone example.org hands library.example.org to other name servers (ns1.example.net)
        hint: remove that CNAME from the zone example.com: `ship up` sets the addresses of each of `domains` itself
        hint: or take www.example.com out of `domains`
        hint: if library.example.org is to be part of example.org, remove that NS record
        hint: if not, the records belong to those name servers: `dns: none` prints them, or take library.example.org out of `domains`
        ");
        let one = config("domains: [www.example.com]\ndns: digitalocean");
        insta::assert_snapshot!(refused(survey(&host, &one, &at("203.0.113.10", "")).await), @r"
        error: www.example.com is a CNAME of example.com, and then it can't have addresses of its own
        hint: remove that CNAME from the zone example.com: `ship up` sets the addresses of each of `domains` itself
        hint: or take www.example.com out of `domains`
        ");
        let nowhere = survey(&host, &one, &at("", "")).await;
        assert_eq!(nowhere, Err(DnsError::NoAddress("www.example.com".into())));
        assert_eq!(host.log(), [""; 0]);
    });
}

#[test]
fn with_the_server_go_the_records_that_lead_to_it() {
    let host = Memory::with(&[(
        "example.com",
        "example.com A 300 203.0.113.10\nexample.com AAAA 300 2001:db8::10\nexample.com MX 300 mail\n\
         www.example.com A 300 203.0.113.99\nmail.example.com A 300 203.0.113.10",
    )]);
    let config = config(BOTH);
    let ours: BTreeSet<IpAddr> =
        ["203.0.113.10", "2001:db8::10"].iter().map(|text| text.parse().unwrap()).collect();
    run(async {
        let mut plan = survey_removal(&host, &config, &ours).await.unwrap();
        insta::assert_snapshot!(shown(&plan) + &plan.warnings().join("\n"), @r"
          - record example.com A                                 leads to the server that goes
              -203.0.113.10  TTL 300
          - record example.com AAAA                              leads to the server that goes
              -2001:db8::10  TTL 300
        www.example.com A stays: it leads to 203.0.113.99
        ");
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        insta::assert_snapshot!(host.text(), @r"
        example.com MX 300 mail
        mail.example.com A 300 203.0.113.10
        www.example.com A 300 203.0.113.99
        ");
        assert!(survey_removal(&host, &config, &ours).await.unwrap().is_empty());
        assert!(survey_removal(&host, &config, &BTreeSet::new()).await.unwrap().is_empty());
    });
}

#[test]
fn without_a_host_there_is_nothing_to_plan() {
    let host = Memory::default();
    let by_hand = config("domains: [example.com]");
    run(async {
        assert!(survey(&host, &by_hand, &at("203.0.113.10", "")).await.unwrap().is_empty());
        let private = config("domains: [example.com]\ndns: {provider: digitalocean, create_zone: true}");
        let plan = survey(&host, &private, &at("192.168.1.10", "")).await.unwrap();
        insta::assert_snapshot!(plan.warnings().join("\n"), @"192.168.1.10 is an address of a private network: nobody outside it will find the site");
    });
}

const ZONE: &str = "example.test A 300 203.0.113.9\nlibrary.example.test A 300 203.0.113.9";
const DOMAINS: &str = "domains: [example.test, library.example.test]";

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn applied_records_are_waited_for() {
    let world = World::start("@ A 203.0.113.9\nlibrary A 203.0.113.9");
    let host = Memory::with(&[("example.test", ZONE)]);
    let config = config(&format!("{DOMAINS}\ndns: digitalocean"));
    run(async {
        let mut plan = survey(&host, &config, &at("203.0.113.10", "")).await.unwrap();
        apply(&host, &mut plan, &|_| {}).await.unwrap();
        // The host has them, its name servers don't.
        let error = wait(&resolver(&world, Duration::ZERO), &plan, &|_| {}).await.unwrap_err();
        insta::assert_snapshot!(Failure::from(error), @r"
        error: the name servers of example.test don't all have the records after 0 s
        ns1.example.test: example.test A is 203.0.113.9
        ns1.example.test: library.example.test A is 203.0.113.9
        ns2.example.test: example.test A is 203.0.113.9
        ns2.example.test: library.example.test A is 203.0.113.9
        hint: `ship up` carries on from here; new records can take some minutes
        ");
        let verbs = "del example.test. A\nadd @ A 203.0.113.10\ndel library A\nadd library A 203.0.113.10";
        world.ns1.update("example.test", verbs);
        world.ns2.update("example.test", verbs);
        let waited = wait(&resolver(&world, super::LONG), &plan, &|_| {}).await;
        assert_eq!(waited, Ok(Waited::default()));
    });
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn a_zone_that_the_world_is_not_sent_to_is_told() {
    let world = World::start("");
    let host = Memory::with(&[("moved.test", "moved.test A 300 198.51.100.7")]);
    let config = config("domains: [moved.test]\ndns: digitalocean");
    run(async {
        let plan = survey(&host, &config, &at("198.51.100.7", "")).await.unwrap();
        assert!(plan.is_empty());
        // ns1 has a zone of that name, ns2 refuses; the parent leads to others altogether.
        let error = wait(&resolver(&world, Duration::ZERO), &plan, &|_| {}).await.unwrap_err();
        insta::assert_snapshot!(Failure::from(error), @r#"
        error: the name servers of moved.test don't all have the records after 0 s
        ns2.example.test: answers "Query Refused" when asked for moved.test A
        ns2.example.test: answers "Query Refused" when asked for moved.test AAAA
        hint: `ship up` carries on from here; new records can take some minutes
        "#);
        world.ns2.serve("moved.test", "@ NS ns1.other.test.\n@ A 198.51.100.7");
        let waited = wait(&resolver(&world, Duration::ZERO), &plan, &|_| {}).await.unwrap();
        assert_eq!(waited.unseen, ["moved.test"]);
        insta::assert_snapshot!(waited.warnings.join("\n"), @"the world asks ns1.other.test, ns2.other.test for moved.test, not the zone with these records; enter these name servers where moved.test is registered: ns1.example.test, ns2.example.test");
    });
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn records_set_by_hand_are_printed_and_waited_for() {
    let world = World::start("@ A 203.0.113.10\nlibrary AAAA 2001:db8::9");
    let (config, nowhere) = (config(DOMAINS), config("domains: [www.nowhere.test]"));
    run(async {
        let resolver = resolver(&world, super::LONG);
        let target = at("203.0.113.10", "");
        let ByHand { plan, wrong } = by_hand(&resolver, &config, &target).await.unwrap();
        assert_eq!(wrong.len(), 4, "two records at two name servers: {wrong:?}");
        insta::assert_snapshot!(ByHand { plan: plan.clone(), wrong }.text(), @r"
        Set these records where the DNS of example.test is kept (ns1.example.test, ns2.example.test):

          name     full name             type  value         TTL
          @        example.test          A     203.0.113.10  300
          library  library.example.test  A     203.0.113.10  300

        Remove library.example.test AAAA 2001:db8::9: the server does not have that address.
        ");
        let verbs = "del library AAAA\nadd library A 203.0.113.10";
        world.ns1.update("example.test", verbs);
        world.ns2.update("example.test", verbs);
        assert_eq!(wait(&resolver, &plan, &|_| {}).await, Ok(Waited::default()));
        assert!(by_hand(&resolver, &config, &target).await.unwrap().is_right());

        let coming = Target { ipv4: Address::Coming, ipv6: Address::Absent };
        let early = by_hand(&resolver, &config, &coming).await.unwrap();
        assert!(!early.is_right());
        insta::assert_snapshot!(early.text(), @r"
        Set these records where the DNS of example.test is kept (ns1.example.test, ns2.example.test):

          name     full name             type  value                       TTL
          @        example.test          A     (the new server's address)  300
          library  library.example.test  A     (the new server's address)  300
        ");
        let unknown = by_hand(&resolver, &nowhere, &target).await.unwrap();
        assert!(!unknown.is_right());
        insta::assert_snapshot!(unknown.plan.warnings().join("\n") + "\n" + &unknown.text(), @r"
        no name server knows a zone that www.nowhere.test is in
        Set these records where the DNS of nowhere.test is kept:

          name  full name         type  value         TTL
          www   www.nowhere.test  A     203.0.113.10  300
        ");
        let error = wait(&resolver, &unknown.plan, &|_| {}).await.unwrap_err();
        insta::assert_snapshot!(Failure::from(error), @r"
        error: no name server knows a zone that www.nowhere.test is in
        hint: is the domain registered, and spelled right in `domains`?
        ");
    });
}
