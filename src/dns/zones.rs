//! Which zone a name is in.
//!
//! Invariant: a zone of one label (`com`) is never asked for, let alone made.

use super::{Obstacle, Zone};
use crate::config::DnsHost;

/// Domains that are in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The zone's name.
    pub name: String,
    /// The zone; `None` while it has to be made.
    pub zone: Option<Zone>,
    /// The domains, in their order.
    pub domains: Vec<String>,
}

/// The zones that could have this name, the longest first: the name itself, then what is above it, down to two labels.
pub fn candidates(domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = domain;
    while let Some((_, above)) = rest.split_once('.') {
        names.push(rest.to_owned());
        rest = above;
    }
    names
}

/// The zone to make for a name: what one registers, by the public suffix list that is compiled in. The suffixes that
/// companies have put on that list count too (`me.github.io`); a top-level domain that is not on it counts as one suffix.
pub fn registrable(domain: &str) -> Option<String> {
    psl::domain_str(domain).map(str::to_owned)
}

/// Every zone that is worth asking an account for.
pub fn questions(domains: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in domains.iter().flat_map(|domain| candidates(domain)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Puts each domain into the longest zone that has it; with `create`, into one that has to be made where there is none.
pub fn places(
    domains: &[String],
    zones: &[Zone],
    host: DnsHost,
    create: bool,
) -> Result<Vec<Place>, Vec<Obstacle>> {
    let mut places: Vec<Place> = Vec::new();
    let mut obstacles: Vec<Obstacle> = Vec::new();
    for domain in domains {
        match zone_of(domain, zones, host, create) {
            Ok((name, zone)) => match places.iter_mut().find(|place| place.name == name) {
                Some(place) => place.domains.push(domain.clone()),
                None => places.push(Place { name, zone, domains: vec![domain.clone()] }),
            },
            Err(obstacle) if obstacles.contains(&obstacle) => {}
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    if obstacles.is_empty() { Ok(places) } else { Err(obstacles) }
}

fn zone_of(
    domain: &str,
    zones: &[Zone],
    host: DnsHost,
    create: bool,
) -> Result<(String, Option<Zone>), Obstacle> {
    let asked = candidates(domain);
    if asked.is_empty() {
        return Err(Obstacle::SingleLabel { domain: domain.to_owned() });
    }
    for name in &asked {
        let same: Vec<&Zone> = zones.iter().filter(|zone| zone.name == *name).collect();
        match same.as_slice() {
            [] => {}
            [zone] => return Ok((name.clone(), Some((*zone).clone()))),
            several => {
                let zones = several.iter().map(|zone| (*zone).clone()).collect();
                return Err(Obstacle::TwoZones { name: name.clone(), zones });
            }
        }
    }
    match registrable(domain) {
        Some(name) if create => Ok((name, None)),
        None if create => Err(Obstacle::PublicSuffix { domain: domain.to_owned() }),
        registrable => {
            let others = zones.iter().map(|zone| zone.name.clone()).collect();
            let domain = domain.to_owned();
            Err(Obstacle::NoZone { domain, asked, others, registrable, provider: word(host) })
        }
    }
}

/// As `ship.yml` writes it.
pub fn word(host: DnsHost) -> &'static str {
    match host {
        DnsHost::DigitalOcean => "digitalocean",
        DnsHost::Route53 => "route53",
    }
}

/// A name as a form for records of that zone takes it: `www`, or `@` for the zone itself.
pub fn relative<'n>(name: &'n str, zone: &str) -> &'n str {
    if name == zone {
        return "@";
    }
    name.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.')).unwrap_or(name)
}

/// The names at which a record of that zone can take `name` away from it: the name and those above it, without the
/// zone's own.
pub fn below<'n>(name: &'n str, zone: &str) -> Vec<&'n str> {
    let mut names = Vec::new();
    let mut rest = name;
    while rest != zone {
        names.push(rest);
        let Some((_, above)) = rest.split_once('.') else { break };
        rest = above;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn zone(name: &str) -> Zone {
        Zone { id: format!("id of {name}"), name: name.into(), name_servers: texts(&["ns1.example.net"]) }
    }

    #[test]
    fn the_longest_zone_is_asked_for_first_and_a_bare_tld_never() {
        let table: [(&str, &[&str]); 5] = [
            ("library.example.com", &["library.example.com", "example.com"]),
            ("a.b.example.co.uk", &["a.b.example.co.uk", "b.example.co.uk", "example.co.uk", "co.uk"]),
            ("example.com", &["example.com"]),
            ("site.internal", &["site.internal"]),
            ("intranet", &[]),
        ];
        for (domain, expect) in table {
            assert_eq!(candidates(domain), expect, "{domain}");
        }
        assert_eq!(
            questions(&texts(&["www.example.com", "example.com", "b.example.org"])),
            ["www.example.com", "example.com", "b.example.org", "example.org"]
        );
    }

    #[test]
    fn what_one_registers() {
        let table = [
            ("library.example.com", Some("example.com")),
            ("example.com", Some("example.com")),
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("www.example.com.br", Some("example.com.br")),
            ("me.github.io", Some("me.github.io")),
            ("library.xn--80ak6aa92e.xn--p1ai", Some("xn--80ak6aa92e.xn--p1ai")),
            ("shop.example.xn--55qx5d.cn", Some("example.xn--55qx5d.cn")),
            ("library.example.test", Some("example.test")),
            ("co.uk", None),
            ("github.io", None),
            ("com", None),
        ];
        for (domain, expect) in table {
            assert_eq!(registrable(domain).as_deref(), expect, "{domain}");
        }
    }

    #[test]
    fn a_domain_is_in_the_longest_zone_that_has_it() {
        let domains = texts(&["example.com", "www.example.com", "a.staging.example.com", "example.org"]);
        let zones = [zone("example.com"), zone("staging.example.com"), zone("example.org")];
        let found = places(&domains, &zones, DnsHost::DigitalOcean, false).unwrap();
        let found: Vec<(&str, bool, &[String])> = found
            .iter()
            .map(|place| (place.name.as_str(), place.zone.is_some(), place.domains.as_slice()))
            .collect();
        assert_eq!(
            found,
            [
                ("example.com", true, &domains[0..2]),
                ("staging.example.com", true, &domains[2..3]),
                ("example.org", true, &domains[3..4]),
            ]
        );
        // A zone whose name only ends alike is another's.
        let others = [zone("ample.com"), zone("notexample.com")];
        assert!(places(&texts(&["example.com"]), &others, DnsHost::DigitalOcean, false).is_err());
    }

    #[test]
    fn without_a_zone_it_says_what_was_looked_for_or_makes_one() {
        let domains = texts(&["example.org", "a.b.example.co.uk", "www.example.co.uk"]);
        let error = places(&domains, &[zone("example.org")], DnsHost::Route53, false).unwrap_err();
        assert_eq!(error.len(), 2);
        let obstacle = &error[0];
        insta::assert_snapshot!(format!("{obstacle}\n{}", obstacle.hints().join("\n")), @r"
        there is no zone for a.b.example.co.uk in the account (looked for a.b.example.co.uk, b.example.co.uk, example.co.uk and co.uk)
        the account has example.org
        `dns: {provider: route53, create_zone: true}` makes the zone example.co.uk; the name servers it gets are then to be entered where example.co.uk is registered
        or `dns: none`: then `ship up` prints the records for you to set
        ");
        let made = places(&domains, &[zone("example.org")], DnsHost::Route53, true).unwrap();
        assert_eq!(
            made[1],
            Place {
                name: "example.co.uk".into(),
                zone: None,
                domains: texts(&["a.b.example.co.uk", "www.example.co.uk"]),
            }
        );
        let refused = places(&texts(&["co.uk", "intranet"]), &[], DnsHost::Route53, true).unwrap_err();
        let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(refused.join("\n"), @r"
        there is no zone for co.uk, and none can be made: it is a public suffix
        `intranet` is a single word, and no zone can have it
        ");
    }

    #[test]
    fn two_zones_of_one_name_are_told_apart_by_the_user() {
        let second =
            Zone { id: "Z2".into(), name_servers: texts(&["ns9.example.net"]), ..zone("example.com") };
        let zones = [zone("example.com"), second];
        let error = places(&texts(&["www.example.com", "example.com"]), &zones, DnsHost::Route53, true);
        let error = error.unwrap_err();
        assert_eq!(error.len(), 1);
        insta::assert_snapshot!(format!("{}\n{}", error[0], error[0].hints().join("\n")), @r"
        the account has 2 zones named example.com
        id of example.com has ns1.example.net; Z2 has ns9.example.net
        `dig NS example.com` tells which one the world asks; delete the other
        ");
    }

    #[test]
    fn names_as_forms_take_them() {
        assert_eq!(relative("example.com", "example.com"), "@");
        assert_eq!(relative("a.b.example.com", "example.com"), "a.b");
        assert_eq!(relative("notexample.com", "example.com"), "notexample.com");
        assert_eq!(below("a.b.example.com", "example.com"), ["a.b.example.com", "b.example.com"]);
        assert_eq!(below("example.com", "example.com"), [""; 0]);
    }
}
