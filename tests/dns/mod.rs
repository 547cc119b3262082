//! DNS: the questions that ship asks of real name servers, and its driver over a zone host in memory.

mod converge;
mod servers;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ship::dns::resolve::{Delegation, Limits, NameServer, ResolveError, Resolver, Seen, Settled};
use ship::dns::{Kind, RecordSet, Zone};
use tokio::net::UdpSocket;

use servers::{World, dig};

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// A set written as `NAME KIND VALUE…`; without values it must not be there.
fn set(text: &str) -> RecordSet {
    let mut words = text.split_whitespace().map(str::to_owned);
    let name = words.next().unwrap();
    let kind = if words.next().unwrap() == "A" { Kind::A } else { Kind::Aaaa };
    RecordSet { name, kind, ttl_s: 300, values: words.collect(), ids: Vec::new(), special: false }
}

fn zone(name: &str, servers: &[&str]) -> Zone {
    Zone {
        id: name.into(),
        name: name.into(),
        name_servers: servers.iter().map(|name| (*name).into()).collect(),
    }
}

fn limits(total: Duration) -> Limits {
    Limits { per_try: Duration::from_millis(500), tries: 2, silence: Duration::from_secs(1), total }
}

const LONG: Duration = Duration::from_secs(30);

fn resolver(world: &World, total: Duration) -> Resolver {
    Resolver::new(vec![world.resolver], world.port, limits(total))
}

fn example() -> Zone {
    zone("example.test", &["ns1.example.test", "ns2.example.test"])
}

/// Looks once at all name servers of `example.test`.
fn look(world: &World, wanted: &[RecordSet]) -> Settled {
    run(async {
        let resolver = resolver(world, Duration::ZERO);
        let servers = resolver.servers(&example()).await.unwrap();
        resolver.settled(wanted, &servers, &|_| {}).await
    })
}

fn texts(settled: &Settled) -> Vec<String> {
    settled.wrong.iter().map(ToString::to_string).collect()
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn every_name_server_is_waited_for() {
    let world = World::start("library A 203.0.113.9\nlibrary AAAA 2001:db8::9");
    let wanted = [set("library.example.test A 203.0.113.10"), set("library.example.test AAAA")];
    let (sender, mut progress) = tokio::sync::mpsc::unbounded_channel::<String>();
    run(async {
        let resolver = resolver(&world, LONG);
        let servers = resolver.servers(&example()).await.unwrap();
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["ns1.example.test", "ns2.example.test"]);
        let waiting = tokio::spawn(async move {
            let tell = |text: &str| sender.send(text.to_owned()).unwrap();
            resolver.settled(&wanted, &servers, &tell).await
        });
        let mut told = async |expect: &str| {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                assert!(Instant::now() < deadline, "nothing was said of {expect}");
                let text =
                    tokio::time::timeout(Duration::from_secs(20), progress.recv()).await.unwrap().unwrap();
                if text == expect {
                    break;
                }
            }
        };
        told("waiting for 2 of 2 name servers; ns1.example.test: library.example.test A is 203.0.113.9")
            .await;
        world.ns1.update("example.test", "del library A\nadd library A 203.0.113.10");
        told("waiting for 2 of 2 name servers; ns1.example.test: library.example.test AAAA is 2001:db8::9")
            .await;
        world.ns1.update("example.test", "del library AAAA");
        told("waiting for 1 of 2 name servers; ns2.example.test: library.example.test A is 203.0.113.9")
            .await;
        assert!(!waiting.is_finished());
        world.ns2.update("example.test", "del library A\nadd library A 203.0.113.10");
        told("waiting for 1 of 2 name servers; ns2.example.test: library.example.test AAAA is 2001:db8::9")
            .await;
        world.ns2.update("example.test", "del library AAAA");
        assert_eq!(waiting.await.unwrap(), Settled::default());
    });
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn what_each_server_says() {
    let many: Vec<String> = (1..=80).map(|last| format!("203.0.113.{last}")).collect();
    let records: String = many.iter().map(|ip| format!("many A {ip}\n")).collect();
    let world = World::start(&format!(
        "{records}@ A 203.0.113.10\n@ AAAA 2001:db8::10\nwww CNAME @\nout CNAME moved.test.\nloop CNAME pool\npool CNAME loop\n\
         *.wild A 203.0.113.10\nlost CNAME nowhere.test."
    ));
    // More than fits into one packet.
    let cut =
        dig(world.ns1.address, &["many.example.test", "A", "+noedns", "+ignore", "+noshort", "+header"]);
    assert!(cut.contains("Flags: qr aa tc"), "{cut}");
    let right = [
        set(&format!("many.example.test A {}", many.join(" "))),
        set("example.test A 203.0.113.10"),
        set("example.test AAAA 2001:DB8:0::10"),
        set("www.example.test A 203.0.113.10"),
        set("www.example.test AAAA 2001:db8::10"),
        set("out.example.test A 198.51.100.7"),
        set("out.example.test AAAA"),
        set("a.wild.example.test A 203.0.113.10"),
        set("missing.example.test A"),
    ];
    assert_eq!(look(&world, &right), Settled::default());
    world.ns2.update("example.test", "add @ A 203.0.113.11");
    let wrong = [
        set("example.test A 203.0.113.10"),
        set("missing.example.test A 203.0.113.10"),
        set("www.example.test AAAA"),
        set("loop.example.test A 203.0.113.10"),
        set("lost.example.test A 203.0.113.10"),
        set("moved.test A 198.51.100.7"),
    ];
    insta::assert_snapshot!(texts(&look(&world, &wrong)).join("\n"), @r#"
    ns1.example.test: there is no missing.example.test A
    ns1.example.test: www.example.test AAAA is 2001:db8::10
    ns1.example.test: there is no loop.example.test A
    ns1.example.test: there is no lost.example.test A
    ns2.example.test: example.test A is 203.0.113.10, 203.0.113.11
    ns2.example.test: there is no missing.example.test A
    ns2.example.test: www.example.test AAAA is 2001:db8::10
    ns2.example.test: there is no loop.example.test A
    ns2.example.test: there is no lost.example.test A
    ns2.example.test: answers "Query Refused" when asked for moved.test A
    "#);
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn the_world_s_way_to_a_zone() {
    let world = World::start("www CNAME moved.test.\na.b A 203.0.113.10\nlab NS ns2");
    run(async {
        let resolver = resolver(&world, LONG);
        for domain in ["example.test", "www.example.test", "a.b.example.test", "missing.example.test"] {
            assert_eq!(resolver.zone_of(domain).await, Ok(example()), "{domain}");
        }
        for domain in ["lab.example.test", "a.b.lab.example.test"] {
            assert_eq!(
                resolver.zone_of(domain).await,
                Ok(zone("lab.example.test", &["ns2.example.test"])),
                "{domain}"
            );
        }
        // The question must not make the network's resolver remember that a name is missing.
        assert_eq!(resolver.zone_of("new.example.test").await, Ok(example()));
        world.ns1.update("example.test", "add new A 203.0.113.10");
        assert_eq!(dig(world.resolver, &["new.example.test", "A"]), "203.0.113.10");
        let nowhere = resolver.zone_of("www.nowhere.test").await;
        assert_eq!(nowhere, Err(ResolveError::NoZone("www.nowhere.test".into())));
        let other = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let table = [
            (example(), Delegation::Right),
            (
                zone("example.test", &["NS1.Example.test.", "ns2.example.test.", "ns3.example.test"]),
                Delegation::Right,
            ),
            (
                zone("moved.test", &["ns1.example.test"]),
                Delegation::Elsewhere(other(&["ns1.other.test", "ns2.other.test"])),
            ),
            (zone("half.test", &["ns1.example.test"]), Delegation::Partly(other(&["ns2.other.test"]))),
            (zone("nowhere.test", &["ns1.example.test"]), Delegation::Nowhere),
            (zone("signed.test", &["ns1.example.test"]), Delegation::Unsigned),
            (zone("deep.example.test", &["ns1.example.test"]), Delegation::Nowhere),
            (zone("example.test", &[]), Delegation::Untold),
        ];
        let mut warnings = Vec::new();
        for (zone, expect) in table {
            let found = resolver.delegation(&zone).await;
            warnings.extend(found.warning(&zone));
            assert_eq!(found, expect, "{}", zone.name);
        }
        insta::assert_snapshot!(warnings.join("\n"), @r"
        the world asks ns1.other.test, ns2.other.test for moved.test, not the zone with these records; enter these name servers where moved.test is registered: ns1.example.test
        the world asks ns2.other.test for half.test too, which may answer differently; enter these name servers where half.test is registered: ns1.example.test
        the world doesn't know nowhere.test yet; enter these name servers where nowhere.test is registered: ns1.example.test
        signed.test has a DS record where it is registered, but the zone is not signed, so most of the world refuses its answers; remove the DS record (switch DNSSEC off) there
        the world doesn't know deep.example.test yet; enter these name servers where deep.example.test is registered: ns1.example.test
        ");
        let servers = resolver.servers(&zone("example.test", &[])).await.unwrap();
        assert_eq!(servers.len(), 2, "the world knows whom to ask: {servers:?}");
    });
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn who_never_answers_is_not_waited_for_without_end() {
    let world = World::start("library A 203.0.113.10");
    let wanted = [set("library.example.test A 203.0.113.10")];
    let server = |name: &str, address: &str| NameServer {
        name: name.into(),
        addresses: vec![SocketAddr::new(address.parse().unwrap(), world.port)],
    };
    let dead = || server("ns8.example.test", "127.0.0.8");
    run(async {
        let resolver = resolver(&world, LONG);
        let servers = [server("ns1.example.test", "127.0.0.3"), dead()];
        let settled = resolver.settled(&wanted, &servers, &|_| {}).await;
        assert_eq!(settled.wrong, []);
        insta::assert_snapshot!(settled.warnings.join("\n"), @"could not ask ns8.example.test; the other name servers are right");
        // Not one of them: the network's own resolver is better than nothing.
        let nameless = NameServer { name: "ns9.example.test".into(), addresses: Vec::new() };
        let settled = resolver.settled(&wanted, &[dead(), nameless], &|_| {}).await;
        assert_eq!(settled.wrong, []);
        let warning = settled.warnings.join("\n").replace(&world.port.to_string(), "PORT");
        insta::assert_snapshot!(warning, @"none of the zone's name servers can be asked from here (ns8.example.test: Connection refused (os error 111) (127.0.0.8:PORT)); asked 127.0.0.1:PORT instead, who may remember an old answer");
        // Its answers count, too.
        let wanted = [set("library.example.test A 203.0.113.11")];
        let resolver = resolver.with_limits(limits(Duration::ZERO));
        let settled = resolver.settled(&wanted, &[dead()], &|_| {}).await;
        let addresses = BTreeSet::from(["203.0.113.10".parse::<IpAddr>().unwrap()]);
        let seen: Vec<&Seen> = settled.wrong.iter().map(|wrong| &wrong.seen).collect();
        assert_eq!(seen, [&Seen::Addresses(addresses)]);
        // Nobody at all.
        let resolver =
            Resolver::new(vec!["127.0.0.8:9".parse().unwrap()], world.port, limits(Duration::ZERO));
        let settled = resolver.settled(&wanted, &[dead()], &|_| {}).await;
        assert!(
            matches!(settled.wrong.as_slice(), [wrong] if matches!(wrong.seen, Seen::Silent(_))),
            "{settled:?}"
        );
        let error = resolver.zone_of("example.test").await.unwrap_err();
        assert!(matches!(error, ResolveError::Silent { .. }), "{error}");
    });
}

#[test]
#[ignore = "needs name servers of its own (tests/fakes/prepare-dns): scripts/test runs it"]
fn a_closed_network_names_its_own() {
    let world = World::start("library A 203.0.113.10");
    run(async {
        let resolver = Resolver::only(vec![world.resolver], limits(Duration::ZERO));
        let zone = resolver.zone_of("library.example.test").await.unwrap();
        assert_eq!(zone, example());
        assert_eq!(resolver.delegation(&zone).await, Delegation::Untold);
        let servers = resolver.servers(&zone).await.unwrap();
        assert_eq!(
            servers,
            [NameServer { name: world.resolver.to_string(), addresses: vec![world.resolver] }]
        );
        let wanted = [set("library.example.test A 203.0.113.10")];
        assert_eq!(resolver.settled(&wanted, &servers, &|_| {}).await, Settled::default());
    });
}

/// The header and question of a query as an answer with one address.
fn answer(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    // Response, authoritative; one answer.
    bytes[2..4].copy_from_slice(&[0x84, 0x00]);
    bytes[6..8].copy_from_slice(&[0, 1]);
    // The name of the question, A, IN, a TTL of 300 s, four bytes.
    bytes.extend([0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 1, 0x2C, 0, 4]);
    bytes.extend(address);
    bytes
}

#[test]
fn only_the_answer_to_the_question_counts() {
    run(async {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            let query = &buffer[..length];
            let forged = answer(query, [198, 51, 100, 66]);
            let mut other_id = forged.clone();
            other_id[0] ^= 0xFF;
            let mut other_question = forged.clone();
            other_question[13] ^= 0x01;
            let mut no_response = forged.clone();
            no_response[2] &= 0x7F;
            let cut = forged[..forged.len() - 2].to_vec();
            for packet in [b"hello".to_vec(), Vec::new(), other_id, other_question, no_response, cut] {
                server.send_to(&packet, client).await.unwrap();
            }
            server.send_to(&answer(query, [203, 0, 113, 10]), client).await.unwrap();
        });
        let resolver = Resolver::new(Vec::new(), address.port(), limits(Duration::ZERO));
        let servers = [NameServer { name: "ns1.example.com".into(), addresses: vec![address] }];
        let wanted = [set("library.example.com A 203.0.113.10")];
        assert_eq!(resolver.settled(&wanted, &servers, &|_| {}).await, Settled::default());
        serving.await.unwrap();
    });
}

#[test]
fn a_server_that_does_not_answer_is_asked_again() {
    run(async {
        let server = Mutex::new(0);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let attempt = {
                    let mut count = server.lock().unwrap();
                    *count += 1;
                    *count
                };
                if attempt == 2 {
                    socket.send_to(&answer(&buffer[..length], [203, 0, 113, 10]), client).await.unwrap();
                    break attempt;
                }
            }
        });
        let resolver = Resolver::new(Vec::new(), address.port(), limits(Duration::ZERO));
        let servers = [NameServer { name: "ns1.example.com".into(), addresses: vec![address] }];
        let wanted = [set("library.example.com A 203.0.113.10")];
        assert_eq!(resolver.settled(&wanted, &servers, &|_| {}).await, Settled::default());
        assert_eq!(serving.await.unwrap(), 2);
    });
}

#[test]
fn somebody_else_s_answer_is_not_the_zone_s() {
    run(async {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = server.recv_from(&mut buffer).await.unwrap();
            let mut relayed = answer(&buffer[..length], [203, 0, 113, 10]);
            // As a router answers that takes every question for itself.
            relayed[2] &= !0x04;
            server.send_to(&relayed, client).await.unwrap();
        });
        let resolver = Resolver::new(Vec::new(), address.port(), limits(Duration::ZERO));
        let servers = [NameServer { name: "ns1.example.com".into(), addresses: vec![address] }];
        let wanted = [set("library.example.com A 203.0.113.10")];
        let settled = resolver.settled(&wanted, &servers, &|_| {}).await;
        assert_eq!(
            texts(&settled),
            ["ns1.example.com: does not have the zone when asked for library.example.com A"]
        );
        serving.await.unwrap();
    });
}
