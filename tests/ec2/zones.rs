//! Route 53: the zones of an account, exactly the site's own records, and all name servers waited for.

use ship::dns::route53::{ACTIONS, Route53};
use ship::dns::{DnsChange, Kind, RecordSet, Zone};
use ship::providers::cloud::DnsProvider;

use super::access::policy;
use super::*;
use crate::fakes::aws::{Keys, Refusal, without};

/// What one run of ship does with the stand-in.
struct Names {
    runtime: tokio::runtime::Runtime,
    zones: Route53,
}

impl Names {
    fn new(aws: &Aws) -> Self {
        Self::of(aws, &Keys { id: aws.account().to_owned(), secret: "secret".into() }, patience())
    }

    fn of(aws: &Aws, keys: &Keys, patience: Patience) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config(&aws.route53_endpoint(), (&keys.id, &keys.secret), "us-east-1");
        Self { runtime, zones: Route53::with(&config, patience) }
    }

    fn zones(&self, names: &[&str]) -> Vec<Zone> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.runtime.block_on(self.zones.zones(&names)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn records(&self, zone: &Zone, names: &[&str]) -> Vec<RecordSet> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.runtime.block_on(self.zones.records(zone, &names)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn try_apply(&self, zone: &Zone, changes: &[DnsChange]) -> Result<(), CloudError> {
        self.runtime.block_on(self.zones.apply(zone, changes, &|_| ()))
    }

    #[track_caller]
    fn apply(&self, zone: &Zone, changes: &[DnsChange]) {
        self.try_apply(zone, changes).unwrap_or_else(|error| panic!("{error:?}"));
    }
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

fn made(new: RecordSet) -> DnsChange {
    DnsChange { old: None, new: Some(new) }
}

/// `name kind values`, as the zone has them.
fn shown(sets: &[RecordSet]) -> Vec<String> {
    sets.iter()
        .map(|set| format!("{set} {}", set.values.iter().cloned().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// Puts a record set there that ship would not.
fn put(aws: &Aws, zone: &str, set: &str) {
    let body = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>\
         <Change><Action>CREATE</Action><ResourceRecordSet>{set}</ResourceRecordSet></Change></Changes></ChangeBatch>\
         </ChangeResourceRecordSetsRequest>"
    );
    aws.route53("POST", &format!("/2013-04-01/hostedzone/{zone}/rrset"), &body);
}

fn plain(name: &str, kind: &str, value: &str) -> String {
    format!(
        "<Name>{name}</Name><Type>{kind}</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>{value}</Value>\
         </ResourceRecord></ResourceRecords>"
    )
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn zones_are_found_by_their_exact_names() {
    let aws = Aws::start();
    let id = aws.zone("example.com");
    for other in ["example.org", "sub.example.com", "anexample.com", "example.com.example.net"] {
        aws.zone(other);
    }
    for n in 0..120 {
        aws.zone(&format!("customer{n:03}.example.net"));
    }
    let names = Names::new(&aws);
    let found = names.zones(&["www.library.example.com", "library.example.com", "Example.com", "com"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].id.as_str(), found[0].name.as_str()), (id.as_str(), "example.com"));
    assert_eq!(found[0].name_servers.len(), 4, "{found:?}");
    assert!(found[0].name_servers.iter().all(|server| !server.ends_with('.')));
    assert_eq!(names.zones(&["customer119.example.net"]).len(), 1);
    assert!(names.zones(&["missing.example"]).is_empty());
    assert!(aws.writes().is_empty());
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn two_zones_of_one_name_are_both_told() {
    let aws = Aws::start();
    let ids = BTreeSet::from([aws.zone("example.com"), aws.zone("example.com")]);
    let found = Names::new(&aws).zones(&["example.com"]);
    assert_eq!(found.iter().map(|zone| zone.id.clone()).collect::<BTreeSet<_>>(), ids);
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn exactly_the_names_asked_for_are_read() {
    let aws = Aws::start();
    let id = aws.zone("example.com");
    for (name, kind, value) in [
        ("library.example.com", "A", "203.0.113.7"),
        ("library.example.com", "AAAA", "2001:DB8:0:0:0:0:0:7"),
        ("library.example.com", "TXT", "&quot;v=spf1 -all&quot;"),
        ("www.library.example.com", "CNAME", "Library.Example.com."),
        ("xlibrary.example.com", "A", "203.0.113.8"),
        ("a.library.example.com", "A", "203.0.113.9"),
        ("*.example.com", "A", "203.0.113.10"),
    ] {
        put(&aws, &id, &plain(name, kind, value));
    }
    put(
        &aws,
        &id,
        "<Name>alias.example.com</Name><Type>A</Type><AliasTarget><HostedZoneId>Z2FDTNDATAQYW2</HostedZoneId>\
         <DNSName>d111.cloudfront.example.</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>",
    );
    for (id_of, weight) in [("one", 1), ("two", 2)] {
        put(
            &aws,
            &id,
            &format!(
                "<Name>weighted.example.com</Name><Type>A</Type><SetIdentifier>{id_of}</SetIdentifier><Weight>{weight}\
                 </Weight><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>203.0.113.{weight}</Value>\
                 </ResourceRecord></ResourceRecords>"
            ),
        );
    }
    let names = Names::new(&aws);
    let zone = &names.zones(&["example.com"])[0];
    let read = |name: &str| names.records(zone, &[name]);
    assert_eq!(
        shown(&read("library.example.com")),
        [
            "library.example.com A 203.0.113.7",
            "library.example.com AAAA 2001:db8::7",
            "library.example.com TXT \"v=spf1 -all\""
        ]
    );
    assert_eq!(
        shown(&read("www.library.example.com")),
        ["www.library.example.com CNAME library.example.com"]
    );
    assert_eq!(shown(&read("*.example.com")), ["*.example.com A 203.0.113.10"]);
    assert!(read("nothing.example.com").is_empty());
    assert_eq!(read("alias.example.com").iter().map(|set| set.special).collect::<Vec<_>>(), [true]);
    let weighted = read("weighted.example.com");
    assert_eq!((weighted.len(), weighted[0].special, weighted[0].values.len()), (1, true, 2));
    assert_eq!(names.records(zone, &["library.example.com", "www.library.example.com"]).len(), 4);
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn changes_are_one_batch_and_waited_for() {
    let aws = Aws::start();
    let id = aws.zone("example.com");
    put(&aws, &id, &plain("www.example.com", "AAAA", "2001:DB8:0:0:0:0:0:9"));
    put(&aws, &id, &plain("mail.example.com", "A", "203.0.113.25"));
    let names = Names::new(&aws);
    let zone = &names.zones(&["example.com"])[0];
    names.apply(zone, &[]);
    assert!(aws.writes().is_empty(), "nothing to do is no call");

    let old = names.records(zone, &["www.example.com"]);
    let changes = [
        made(set("example.com", Kind::A, &["203.0.113.7"])),
        made(set("www.example.com", Kind::A, &["203.0.113.7", "203.0.113.8"])),
        DnsChange { old: old.first().cloned(), new: None },
    ];
    names.apply(zone, &changes);
    assert_eq!(aws.writes().len(), 1);
    assert!(!aws.requests_for("GetChange").is_empty(), "until INSYNC");
    let there = names.records(zone, &["example.com", "www.example.com", "mail.example.com"]);
    let there: Vec<String> =
        shown(&there).into_iter().filter(|set| !set.contains(" NS ") && !set.contains(" SOA ")).collect();
    assert_eq!(
        there,
        [
            "example.com A 203.0.113.7",
            "mail.example.com A 203.0.113.25",
            "www.example.com A 203.0.113.7 203.0.113.8"
        ]
    );
    // Another value takes the place of the old one.
    names.apply(zone, &[made(set("example.com", Kind::A, &["203.0.113.99"]))]);
    let there = names.records(zone, &["example.com"]);
    assert!(shown(&there).contains(&"example.com A 203.0.113.99".to_owned()), "{there:?}");
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn a_batch_that_can_not_be_is_refused_as_a_whole() {
    let aws = Aws::start();
    let id = aws.zone("example.com");
    put(&aws, &id, &plain("www.example.com", "CNAME", "elsewhere.example.net."));
    let names = Names::new(&aws);
    let zone = &names.zones(&["example.com"])[0];
    let before = aws.records(&id);
    let changes = [
        made(set("example.com", Kind::A, &["203.0.113.7"])),
        made(set("www.example.com", Kind::A, &["203.0.113.7"])),
    ];
    let error = names.try_apply(zone, &changes).unwrap_err();
    assert_eq!(error.code(), Some("InvalidChangeBatch"));
    says(
        error,
        &["Route 53 refused to change the records", "example.com A", "conflicting RRSet of type CNAME"],
    );
    assert_eq!(aws.records(&id), before);
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn a_zone_is_made_once() {
    let aws = Aws::start();
    let names = Names::new(&aws);
    aws.fault(Fault::on("CreateHostedZone").lose_answer());
    let zone = names.runtime.block_on(names.zones.create_zone("example.com")).unwrap();
    assert_eq!((zone.name.as_str(), zone.name_servers.len()), ("example.com", 4));
    assert_eq!(names.zones(&["example.com"]), std::slice::from_ref(&zone));
    let again = names.runtime.block_on(names.zones.create_zone("Example.com.")).unwrap();
    assert_eq!(again.id, zone.id);
    // One that is gone can be made again.
    aws.route53("DELETE", &format!("/2013-04-01/hostedzone/{}", zone.id), "");
    let another = names.runtime.block_on(names.zones.create_zone("example.com")).unwrap();
    assert_eq!(names.zones(&["example.com"]), [another]);
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn what_goes_wrong_on_the_way_passes() {
    const ASKING: [&str; 4] =
        ["ListHostedZonesByName", "GetHostedZone", "ListResourceRecordSets", "GetChange"];
    let faults: [fn(Fault) -> Fault; 5] = [
        |fault| fault.throttle().times(2),
        Fault::unavailable,
        Fault::internal,
        Fault::reset,
        Fault::truncate,
    ];
    for fault in faults {
        let aws = Aws::start();
        let id = aws.zone("example.com");
        put(&aws, &id, &plain("www.example.com", "A", "203.0.113.9"));
        for action in ASKING.iter().chain(&["ChangeResourceRecordSets"]) {
            aws.fault(fault(Fault::on(action)));
        }
        let names = Names::new(&aws);
        let zone = &names.zones(&["example.com"])[0];
        let old = names.records(zone, &["www.example.com"]).pop();
        // The second of two deletions finds nothing: what was to be gone is gone.
        let changes = [DnsChange { old, new: None }, made(set("example.com", Kind::A, &["203.0.113.7"]))];
        names.apply(zone, &changes);
        assert_eq!(aws.records(&id).len(), 1, "{:?}", aws.records(&id));
        let left = aws.faults_left();
        assert!(
            left.len() <= 1,
            "GetChange is not asked for a change that nobody was told the id of: {left:?}"
        );
    }
    let aws = Aws::start();
    aws.zone("example.com");
    let names = Names::new(&aws);
    let zone = &names.zones(&["example.com"])[0];
    let busy = "The request was rejected because Route 53 was still processing a prior request.";
    aws.fault(Fault::on("ChangeResourceRecordSets").refuse(Refusal::new(
        400,
        "PriorRequestNotComplete",
        busy,
    )));
    names.apply(zone, &[made(set("example.com", Kind::A, &["203.0.113.7"]))]);
    aws.fault(Fault::on("ChangeResourceRecordSets").times(99).reset());
    let error = names.try_apply(zone, &[made(set("example.com", Kind::A, &["203.0.113.8"]))]).unwrap_err();
    assert!(error.is_unclear(), "{error:?}");
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn the_documented_policy_is_enough_for_zones_and_each_missing_permission_is_named() {
    let life = |names: &Names| -> Result<(), CloudError> {
        let create = |name: &'static str| names.runtime.block_on(names.zones.create_zone(name));
        let found = names.runtime.block_on(names.zones.zones(&["example.com".into()]))?;
        let zone = found.first().unwrap();
        names.runtime.block_on(names.zones.records(zone, &["example.com".into()]))?;
        names.try_apply(zone, &[made(set("example.com", Kind::A, &["203.0.113.7"]))])?;
        create("example.org").map(|_| ())
    };
    let aws = Aws::start();
    aws.zone("example.com");
    life(&Names::of(&aws, &aws.user("dev", &policy()), patience()))
        .unwrap_or_else(|error| panic!("{error:?}"));
    let taken: BTreeSet<String> =
        aws.requests().into_iter().map(|exchange| format!("route53:{}", exchange.call.action)).collect();
    let listed: BTreeSet<String> = ACTIONS.iter().map(|action| action.0.to_owned()).collect();
    assert_eq!(taken, listed);
    for action in ACTIONS {
        let aws = Aws::start();
        aws.zone("example.com");
        let keys = aws.user("dev", &without(&policy(), action.0));
        let error = life(&Names::of(&aws, &keys, patience())).expect_err(action.0);
        says(error, &[&format!("may not do `{}`", action.0), &format!("hint: allow `{}`", action.0)]);
    }
}
