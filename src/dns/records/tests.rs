use super::*;
use crate::plan::Plan;

const ZONE: &str = "example.com";

/// A set written as `NAME KIND TTL VALUE…`; a kind with `*` is special.
fn set(text: &str) -> RecordSet {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let kind = words.next().unwrap();
    let special = kind.ends_with('*');
    let kind = match kind.trim_end_matches('*') {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "CNAME" => Kind::Cname,
        other => Kind::Other(other.to_owned()),
    };
    let ttl_s = words.next().unwrap().parse().unwrap();
    RecordSet { name, kind, ttl_s, values: words.map(str::to_owned).collect(), ids: Vec::new(), special }
}

fn sets(text: &str) -> Vec<RecordSet> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(set).collect()
}

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn target(ipv4: &str, ipv6: &str) -> Target {
    Target::known(ipv4.parse().ok(), ipv6.parse().ok())
}

fn shown(changes: &[DnsChange], purpose: Purpose) -> String {
    let changes = changes.iter().map(|change| describe(change, purpose)).collect();
    Plan { changes }.to_text(true)
}

/// The plan for `example.com` and `www.example.com` at 203.0.113.10, with an IPv6 address or not.
fn check(ipv6: &str, found: &str) -> String {
    let domains = names("example.com www.example.com");
    let wanted = wanted(&domains, &target("203.0.113.10", ipv6), 300);
    match plan(ZONE, &wanted, &sets(found)) {
        Ok(changes) => {
            assert_eq!(refusal(&domains, &changes), Ok(()));
            shown(&changes, Purpose::Serve)
        }
        Err(obstacles) => {
            let text =
                |obstacle: &Obstacle| format!("{obstacle}\nhint: {}\n", obstacle.hints().join("\nhint: "));
            obstacles.iter().map(text).collect()
        }
    }
}

#[test]
fn each_domain_gets_its_addresses() {
    insta::assert_snapshot!(check("2001:db8::10", ""), @r"
    + record example.com A                                 will lead to 203.0.113.10
        +203.0.113.10  TTL 300
    + record example.com AAAA                              will lead to 2001:db8::10
        +2001:db8::10  TTL 300
    + record www.example.com A                             will lead to 203.0.113.10
        +203.0.113.10  TTL 300
    + record www.example.com AAAA                          will lead to 2001:db8::10
        +2001:db8::10  TTL 300
    ");
    insta::assert_snapshot!(check("", ""), @r"
    + record example.com A                                 will lead to 203.0.113.10
        +203.0.113.10  TTL 300
    + record www.example.com A                             will lead to 203.0.113.10
        +203.0.113.10  TTL 300
    ");
}

#[test]
fn what_is_right_is_left() {
    let found = "example.com A 300 203.0.113.10
        example.com AAAA 300 2001:DB8:0:0:0:0:0:10
        www.example.com A 300 203.0.113.10
        www.example.com AAAA 300 2001:db8::10";
    assert_eq!(check("2001:db8::10", found), "");
}

#[test]
fn what_differs_is_shown_with_its_values_and_ttl() {
    let found = "example.com A 3600 203.0.113.8 203.0.113.9
        www.example.com A 3600 203.0.113.10";
    insta::assert_snapshot!(check("", found), @r"
    ~ record example.com A                                 leads to 203.0.113.8 and 203.0.113.9, will lead to 203.0.113.10
        -203.0.113.8  TTL 3600
        -203.0.113.9  TTL 3600
        +203.0.113.10  TTL 300
    ~ record www.example.com A                             TTL 3600 → 300
        -203.0.113.10  TTL 3600
        +203.0.113.10  TTL 300
    ");
    insta::assert_snapshot!(check("", "example.com A 300 203.0.113.10 203.0.113.9\nwww.example.com A 300 203.0.113.9"), @r"
    ~ record example.com A                                 leads to 203.0.113.9 too
        -203.0.113.9  TTL 300
    ~ record www.example.com A                             leads to 203.0.113.9, will lead to 203.0.113.10
        -203.0.113.9  TTL 300
        +203.0.113.10  TTL 300
    ");
}

#[test]
fn an_address_that_the_server_does_not_have_goes() {
    let found = "example.com A 300 203.0.113.10
        example.com AAAA 300 2001:db8::9
        www.example.com A 300 203.0.113.10";
    insta::assert_snapshot!(check("", found), @r"
    - record example.com AAAA                              the server has no IPv6 address, and visitors would try this one
        -2001:db8::9  TTL 300
    ");
    // Of a host of the user's own nobody knows that.
    let wanted = wanted(&names(ZONE), &Target::host("203.0.113.10".parse().unwrap()), 300);
    assert_eq!(plan(ZONE, &wanted, &sets(found)), Ok(Vec::new()));
    let addresses = ["2001:db8::10", "203.0.113.10", "203.0.113.11"].map(|text| text.parse().unwrap());
    assert_eq!(Target::resolved(addresses), target("203.0.113.10", "2001:db8::10"));
    let nothing = Target::resolved([]);
    assert!(!nothing.leads_somewhere() && nothing.is_known());
}

#[test]
fn others_records_are_no_obstacle_and_not_touched() {
    let ours = "example.com A 300 203.0.113.10\nwww.example.com A 300 203.0.113.10\n";
    let others = "example.com NS 86400 ns1.example.net ns2.example.net
        example.com SOA 1800 whatever
        example.com MX 3600 10-mail.example.com
        example.com TXT* 300 v=spf1
        www.example.com CAA 300 letsencrypt.org
        *.example.com A 300 203.0.113.99
        *.example.com CNAME 300 elsewhere.example.net
        mail.example.com A 300 203.0.113.77
        mail.example.com NS 300 ns.example.net
        _acme-challenge.www.example.com CNAME 300 acme.example.net";
    assert_eq!(check("", &format!("{ours}{others}")), "");
}

#[test]
fn what_is_in_the_way_is_explained() {
    insta::assert_snapshot!(check("", "www.example.com CNAME 300 example.com"), @r"
    www.example.com is a CNAME of example.com, and then it can't have addresses of its own
    hint: remove that CNAME from the zone example.com: `ship up` sets the addresses of each of `domains` itself
    hint: or take www.example.com out of `domains`
    ");
    insta::assert_snapshot!(check("", "example.com A* 0 dualstack.lb-1.eu-central-1.elb.amazonaws.com\nwww.example.com AAAA* 60 2001:db8::1"), @r"
    example.com A is an alias, or one of several answers that the zone's host chooses from (dualstack.lb-1.eu-central-1.elb.amazonaws.com)
    hint: remove it from the zone example.com: `ship up` sets plain records
    hint: or take example.com out of `domains`, or keep all records yourself with `dns: none`
    www.example.com AAAA is an alias, or one of several answers that the zone's host chooses from (2001:db8::1)
    hint: remove it from the zone example.com: `ship up` sets plain records
    hint: or take www.example.com out of `domains`, or keep all records yourself with `dns: none`
    ");
    insta::assert_snapshot!(check("", "www.example.com NS 300 ns1.example.net ns2.example.net"), @r"
    the zone example.com hands www.example.com to other name servers (ns1.example.net, ns2.example.net)
    hint: if www.example.com is to be part of example.com, remove that NS record
    hint: if not, the records belong to those name servers: `dns: none` prints them, or take www.example.com out of `domains`
    ");
}

#[test]
fn a_delegation_above_a_name_takes_it_too() {
    let domains = names("a.lab.example.com");
    assert_eq!(questions(ZONE, &domains), ["a.lab.example.com", "lab.example.com"]);
    assert_eq!(questions(ZONE, &names("example.com www.example.com")), ["example.com", "www.example.com"]);
    let wanted = wanted(&domains, &target("203.0.113.10", ""), 300);
    let obstacles = plan(ZONE, &wanted, &sets("lab.example.com NS 300 ns1.example.net")).unwrap_err();
    assert_eq!(obstacles.len(), 1);
    assert!(
        matches!(&obstacles[0], Obstacle::Delegated { at, .. } if at == "lab.example.com"),
        "{obstacles:?}"
    );
}

#[test]
fn an_address_that_the_cloud_will_choose_is_planned_but_never_sent() {
    let domains = names(ZONE);
    let coming = Target { ipv4: Address::Coming, ipv6: Address::Absent };
    let changes =
        plan(ZONE, &wanted(&domains, &coming, 300), &sets("example.com A 3600 203.0.113.9")).unwrap();
    insta::assert_snapshot!(shown(&changes, Purpose::Serve), @r"
    ~ record example.com A                                 leads to 203.0.113.9, will lead to (the new server's address)
        -203.0.113.9  TTL 3600
        +(the new server's address)  TTL 300
    ");
    insta::assert_snapshot!(refusal(&domains, &changes).unwrap_err(), @"refused to send changes of DNS records: example.com A with the value `(the new server's address)`");
}

#[test]
fn the_ttl_is_lowered_before_an_address_moves() {
    let domains = names("example.com www.example.com old.example.com new.example.com");
    let found = sets(
        "example.com A 3600 203.0.113.9
        example.com AAAA 3600 2001:db8::9
        www.example.com A 3600 203.0.113.10
        old.example.com A 60 203.0.113.9
        mail.example.com A 3600 203.0.113.9",
    );
    let moving = before_move(&wanted(&domains, &target("203.0.113.10", ""), 300), &found);
    assert_eq!(refusal(&domains, &moving), Ok(()));
    insta::assert_snapshot!(shown(&moving, Purpose::Serve), @r"
    ~ record example.com A                                 TTL 3600 → 60
        -203.0.113.9  TTL 3600
        +203.0.113.9  TTL 60
    ~ record example.com AAAA                              TTL 3600 → 60
        -2001:db8::9  TTL 3600
        +2001:db8::9  TTL 60
    ");
    let coming = Target { ipv4: Address::Coming, ipv6: Address::Untold };
    let moving = before_move(&wanted(&domains, &coming, 300), &found);
    let moving: Vec<String> = moving.iter().map(|change| change.new.as_ref().unwrap().to_string()).collect();
    assert_eq!(moving, ["example.com A", "www.example.com A"]);
}

#[test]
fn a_strange_change_is_refused() {
    let domains = names("example.com www.example.com");
    let removed = |text: &str| DnsChange { old: Some(set(text)), new: None };
    let made = |text: &str| DnsChange { old: None, new: Some(set(text)) };
    let turned = |old: &str, new: &str| DnsChange { old: Some(set(old)), new: Some(set(new)) };
    let table: Vec<(Vec<DnsChange>, &str)> = vec![
        (vec![removed("example.com A 300 203.0.113.9"), made("www.example.com AAAA 300 2001:db8::1")], ""),
        (
            vec![removed("mail.example.com A 300 203.0.113.9")],
            "a change of mail.example.com A, which is not the site's",
        ),
        (vec![removed("example.com MX 300 mail")], "a change of example.com MX, which is not the site's"),
        (
            vec![removed("www.example.com CNAME 300 a")],
            "a change of www.example.com CNAME, which is not the site's",
        ),
        (
            vec![removed("example.com A* 300 203.0.113.9")],
            "a change of example.com A, which is no plain record",
        ),
        (vec![made("example.com TXT 300 a")], "a change of example.com TXT, which is not the site's"),
        (vec![made("example.com A 300 2001:db8::1")], "example.com A with the value `2001:db8::1`"),
        (vec![made("example.com A 300")], "example.com A without a value"),
        (
            vec![turned("example.com A 300 203.0.113.9", "www.example.com A 300 203.0.113.9")],
            "a change of example.com A into www.example.com A",
        ),
        (
            vec![removed("example.com A 300 203.0.113.9"), removed("example.com A 300 203.0.113.8")],
            "two changes of example.com A",
        ),
        (
            vec![removed("example.com A 300 203.0.113.9"); 5],
            "5 removals, where the site's names have at most 4 records",
        ),
        (vec![DnsChange { old: None, new: None }], "a change of nothing"),
    ];
    for (changes, expect) in table {
        let what = refusal(&domains, &changes).err().map(|refusal| refusal.what).unwrap_or_default();
        assert_eq!(what, expect);
    }
}

#[test]
fn with_the_server_goes_only_what_leads_to_it() {
    let domains = names("example.com www.example.com old.example.com alias.example.com also.example.com");
    let addresses = ["203.0.113.10", "2001:db8::10"].iter().map(|text| text.parse().unwrap()).collect();
    let found = sets(
        "example.com A 300 203.0.113.10
        example.com AAAA 300 2001:DB8:0::10
        example.com MX 300 10-mail.example.com
        www.example.com A 300 203.0.113.10 203.0.113.11
        old.example.com A 300 203.0.113.9
        alias.example.com A* 0 203.0.113.10
        also.example.com CNAME 300 example.com
        mail.example.com A 300 203.0.113.10",
    );
    let (changes, kept) = removals(&domains, &addresses, &found);
    assert_eq!(refusal(&domains, &changes), Ok(()));
    insta::assert_snapshot!(shown(&changes, Purpose::Leave), @r"
    - record example.com A                                 leads to the server that goes
        -203.0.113.10  TTL 300
    - record example.com AAAA                              leads to the server that goes
        -2001:DB8:0::10  TTL 300
    ~ record www.example.com A                             leads to 203.0.113.10 too
        -203.0.113.10  TTL 300
    ");
    insta::assert_snapshot!(kept.join("\n"), @r"
    old.example.com A stays: it leads to 203.0.113.9
    alias.example.com A stays: it is no plain record
    also.example.com CNAME stays: it leads to example.com
    ");
}

#[test]
fn records_are_printed_for_any_form() {
    let wanted = wanted(&names("example.com www.example.com"), &target("203.0.113.10", "2001:db8::10"), 300);
    let elsewhere = set("library.example.co.uk A 3600 203.0.113.10");
    let gone = set("library.example.co.uk AAAA 3600");
    let mut rows: Vec<(&str, &RecordSet)> = wanted.iter().map(|set| (ZONE, set)).collect();
    rows.extend([("example.co.uk", &elsewhere), ("example.co.uk", &gone)]);
    insta::assert_snapshot!(table(&rows), @r"
    name     full name              type  value         TTL
    @        example.com            A     203.0.113.10  300
    @        example.com            AAAA  2001:db8::10  300
    www      www.example.com        A     203.0.113.10  300
    www      www.example.com        AAAA  2001:db8::10  300
    library  library.example.co.uk  A     203.0.113.10  3600
    ");
}

#[test]
fn only_the_world_s_own_addresses_are_public() {
    let table = [
        ("203.0.113.10", "2001:db8::10", None),
        ("192.168.1.10", "", Some("192.168.1.10")),
        ("127.0.0.1", "", Some("127.0.0.1")),
        ("169.254.1.1", "", Some("169.254.1.1")),
        ("203.0.113.10", "fd00::1", Some("fd00::1")),
        ("", "fe80::1", Some("fe80::1")),
    ];
    for (ipv4, ipv6, expect) in table {
        let private = target(ipv4, ipv6).private().map(|ip| ip.to_string());
        assert_eq!(private.as_deref(), expect);
    }
}

mod clouds {
    use super::*;
    use crate::cloud;

    fn wish(fixed_address: bool, ipv6: bool) -> Wish {
        Wish {
            owner: cloud::Owner { app: "library".into(), environment: "default".into() },
            words: cloud::DIGITALOCEAN,
            region: None,
            size: "s-1vcpu-1gb".into(),
            image: "debian-12".into(),
            disk_gb: None,
            network: None,
            subnet: None,
            monitoring: false,
            settings: cloud::Settings { ipv6, ..cloud::Settings::default() },
            rules: BTreeSet::new(),
            fixed_address,
            volume_gb: None,
            user: "deploy".into(),
            public_key: "ssh-ed25519 AAAA me".into(),
        }
    }

    fn found(server: Option<(&str, &str)>, address: Option<&str>) -> Found {
        let server = server.map(|(ipv4, ipv6)| cloud::Server {
            id: "1".into(),
            state: cloud::State::Running,
            region: "fra1".into(),
            size: "s-1vcpu-1gb".into(),
            image: None,
            disk_gb: None,
            network: None,
            subnet: None,
            ipv4: ipv4.parse().ok(),
            ipv6: ipv6.parse().ok(),
            birth_key: None,
            host_key: None,
            settings: cloud::Settings::default(),
        });
        let address = address.map(|ip| cloud::Address {
            id: "2".into(),
            ip: ip.parse().unwrap(),
            server: None,
            tagged: true,
        });
        Found { server, address, ..Found::default() }
    }

    #[test]
    fn the_records_lead_to_where_the_server_will_be() {
        use Address::{Absent, Coming, Known};
        let here: Ipv4Addr = "203.0.113.10".parse().unwrap();
        let stays: Ipv4Addr = "203.0.113.50".parse().unwrap();
        let six: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let server = Some(("203.0.113.10", "2001:db8::10"));
        let stopped = Some(("", ""));
        let (fixed, v6) = (true, true);
        let table = [
            ("nothing there yet", wish(fixed, !v6), found(None, None), false, Coming, Absent),
            (
                "an address kept for the next server",
                wish(fixed, v6),
                found(None, Some("203.0.113.50")),
                false,
                Known(stays),
                Coming,
            ),
            (
                "all there",
                wish(fixed, v6),
                found(server, Some("203.0.113.50")),
                false,
                Known(stays),
                Known(six),
            ),
            (
                "replaced, the address stays",
                wish(fixed, v6),
                found(server, Some("203.0.113.50")),
                true,
                Known(stays),
                Coming,
            ),
            (
                "the address is still to be taken",
                wish(fixed, !v6),
                found(server, None),
                false,
                Coming,
                Absent,
            ),
            ("none fixed", wish(!fixed, !v6), found(server, None), false, Known(here), Absent),
            ("none fixed, replaced", wish(!fixed, v6), found(server, None), true, Coming, Coming),
            (
                "the fixed one is given back",
                wish(!fixed, v6),
                found(server, Some("203.0.113.50")),
                false,
                Coming,
                Known(six),
            ),
            ("powered off", wish(!fixed, v6), found(stopped, None), false, Coming, Coming),
        ];
        for (what, wish, found, replaced, ipv4, ipv6) in table {
            assert_eq!(Target::cloud(&wish, &found, replaced), Target { ipv4, ipv6 }, "{what}");
        }
    }
}
