//! A security group's rules and ours, both ways. Pure.
//!
//! Invariant: whatever EC2 can let in becomes a rule that differs from every rule that it isn't, so that nothing that was
//! opened by hand looks like something wished.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, SecurityGroup};

use crate::cloud::{OtherTraffic, Rule, Traffic};

/// One rule as EC2 has it: one kind of traffic from one source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// What it means.
    pub(super) rule: Rule,
    /// EC2's own form, good for revoking exactly this.
    pub(super) permission: IpPermission,
}

/// What the group lets in, one entry a source.
pub(super) fn entries(group: &SecurityGroup) -> Vec<Entry> {
    group.ip_permissions().iter().flat_map(split).collect()
}

/// What the group lets in.
pub(super) fn rules(group: &SecurityGroup) -> BTreeSet<Rule> {
    entries(group).into_iter().map(|entry| entry.rule).collect()
}

/// A wished rule in EC2's form. Rules of other kinds are never wished.
pub(super) fn permission(rule: &Rule) -> Option<IpPermission> {
    let v6 = rule.source.contains(':');
    let (protocol, from, to) = match rule.traffic {
        Traffic::Tcp(port) => ("tcp", i32::from(port), i32::from(port)),
        Traffic::Icmp if v6 => ("icmpv6", -1, -1),
        Traffic::Icmp => ("icmp", -1, -1),
        Traffic::Other(_) => return None,
    };
    let permission = IpPermission::builder().ip_protocol(protocol).from_port(from).to_port(to);
    Some(if v6 {
        permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(&rule.source).build()).build()
    } else {
        permission.ip_ranges(IpRange::builder().cidr_ip(&rule.source).build()).build()
    })
}

fn split(permission: &IpPermission) -> Vec<Entry> {
    let bare = || {
        IpPermission::builder()
            .set_ip_protocol(permission.ip_protocol().map(str::to_owned))
            .set_from_port(permission.from_port())
            .set_to_port(permission.to_port())
    };
    let entry = |source: String, v6: Option<bool>, one: IpPermission| {
        let (traffic, only) = traffic(permission, v6);
        let source = only.map_or(source.clone(), |only| format!("{source} ({only})"));
        Entry { rule: Rule::new(traffic, source), permission: one }
    };
    let v4 = permission.ip_ranges().iter().filter_map(|range| {
        let one = bare().ip_ranges(IpRange::builder().cidr_ip(range.cidr_ip()?).build()).build();
        Some(entry(canonical(range.cidr_ip()?), Some(false), one))
    });
    let v6 = permission.ipv6_ranges().iter().filter_map(|range| {
        let one = bare().ipv6_ranges(Ipv6Range::builder().cidr_ipv6(range.cidr_ipv6()?).build()).build();
        Some(entry(canonical(range.cidr_ipv6()?), Some(true), one))
    });
    let lists = permission.prefix_list_ids().iter().filter_map(|list| {
        Some(entry(list.prefix_list_id()?.to_owned(), None, bare().prefix_list_ids(list.clone()).build()))
    });
    let groups = permission.user_id_group_pairs().iter().map(|pair| {
        let name = pair.group_id().or(pair.group_name()).unwrap_or("another group");
        entry(name.to_owned(), None, bare().user_id_group_pairs(pair.clone()).build())
    });
    v4.chain(v6).chain(lists).chain(groups).collect()
}

/// What a permission is about, and words for what ship has no kind for. `v6` is the kind of its source, where that has one.
fn traffic(permission: &IpPermission, v6: Option<bool>) -> (Traffic, Option<String>) {
    let other = |udp, all, from, to| Traffic::Other(OtherTraffic { udp, all, from, to });
    let from = permission.from_port().unwrap_or(-1);
    let to = permission.to_port().unwrap_or(-1);
    let port = |number: i32, open: u16| u16::try_from(number).unwrap_or(open);
    let protocol = permission.ip_protocol().unwrap_or("-1");
    match protocol {
        "tcp" | "6" if from == to && from >= 0 => (Traffic::Tcp(port(from, 0)), None),
        "tcp" | "6" => (other(false, false, port(from, 0), port(to, u16::MAX)), None),
        "udp" | "17" => (other(true, false, port(from, 0), port(to, u16::MAX)), None),
        "icmp" | "1" if v6 == Some(false) && from == -1 => (Traffic::Icmp, None),
        "icmpv6" | "58" if v6 == Some(true) && from == -1 => (Traffic::Icmp, None),
        "-1" => (other(false, true, 0, u16::MAX), None),
        "icmp" | "1" | "icmpv6" | "58" if from >= 0 => {
            (other(false, true, 0, 0), Some(format!("only {protocol} type {from} code {to}")))
        }
        _ => (other(false, true, 0, 0), Some(format!("only protocol {protocol}"))),
    }
}

/// A network as the configuration writes it.
fn canonical(cidr: &str) -> String {
    let Some((address, bits)) = cidr.split_once('/') else { return cidr.to_owned() };
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        format!("{address}/{bits}")
    } else if let Ok(address) = address.parse::<Ipv6Addr>() {
        format!("{address}/{bits}")
    } else {
        cidr.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{PrefixListId, UserIdGroupPair};

    use super::*;

    fn group(permissions: Vec<IpPermission>) -> SecurityGroup {
        SecurityGroup::builder().set_ip_permissions(Some(permissions)).build()
    }

    fn raw(protocol: &str, from: i32, to: i32) -> aws_sdk_ec2::types::builders::IpPermissionBuilder {
        IpPermission::builder().ip_protocol(protocol).from_port(from).to_port(to)
    }

    fn v4(cidr: &str) -> IpRange {
        IpRange::builder().cidr_ip(cidr).build()
    }

    fn v6(cidr: &str) -> Ipv6Range {
        Ipv6Range::builder().cidr_ipv6(cidr).build()
    }

    #[test]
    fn what_ship_wishes_comes_back_as_it_was() {
        let wished: BTreeSet<Rule> = [Traffic::Tcp(22), Traffic::Tcp(80), Traffic::Tcp(443), Traffic::Icmp]
            .into_iter()
            .flat_map(|traffic| {
                ["0.0.0.0/0", "::/0", "203.0.113.0/24", "2001:db8::/32"].map(|from| Rule::new(traffic, from))
            })
            .collect();
        let permissions = wished.iter().filter_map(permission).collect::<Vec<_>>();
        assert_eq!(permissions.len(), wished.len());
        assert_eq!(rules(&group(permissions)), wished);
    }

    #[test]
    fn sources_of_one_permission_are_told_apart_and_revoked_alone() {
        let both = raw("tcp", 22, 22).ip_ranges(v4("203.0.113.0/24")).ip_ranges(v4("198.51.100.7/32"));
        let entries = entries(&group(vec![both.ipv6_ranges(v6("2001:DB8:0::/32")).build()]));
        let shown: Vec<String> = entries.iter().map(|entry| entry.rule.to_string()).collect();
        assert_eq!(
            shown,
            ["tcp 22 from 203.0.113.0/24", "tcp 22 from 198.51.100.7/32", "tcp 22 from 2001:db8::/32"]
        );
        assert_eq!(entries[1].permission, raw("tcp", 22, 22).ip_ranges(v4("198.51.100.7/32")).build());
        // Revoked in EC2's own spelling.
        assert_eq!(entries[2].permission, raw("tcp", 22, 22).ipv6_ranges(v6("2001:DB8:0::/32")).build());
    }

    #[test]
    fn what_was_opened_by_hand_never_looks_like_a_wish() {
        let list = PrefixListId::builder().prefix_list_id("pl-0abc").build();
        let other = UserIdGroupPair::builder().group_id("sg-0def").user_id("123456789012").build();
        for (permission, shown) in [
            (raw("-1", -1, -1).ip_ranges(v4("0.0.0.0/0")), "anything from 0.0.0.0/0"),
            (raw("tcp", 0, 65535).ip_ranges(v4("0.0.0.0/0")), "tcp 0-65535 from 0.0.0.0/0"),
            (raw("tcp", 8000, 8010).ipv6_ranges(v6("::/0")), "tcp 8000-8010 from ::/0"),
            (raw("udp", 53, 53).ip_ranges(v4("0.0.0.0/0")), "udp 53-53 from 0.0.0.0/0"),
            (raw("tcp", 22, 22).prefix_list_ids(list), "tcp 22 from pl-0abc"),
            (raw("tcp", 22, 22).user_id_group_pairs(other), "tcp 22 from sg-0def"),
            (
                raw("icmp", 8, -1).ip_ranges(v4("0.0.0.0/0")),
                "anything from 0.0.0.0/0 (only icmp type 8 code -1)",
            ),
            (
                raw("icmpv6", -1, -1).ip_ranges(v4("0.0.0.0/0")),
                "anything from 0.0.0.0/0 (only protocol icmpv6)",
            ),
            (raw("50", -1, -1).ip_ranges(v4("0.0.0.0/0")), "anything from 0.0.0.0/0 (only protocol 50)"),
        ] {
            let found = entries(&group(vec![permission.clone().build()]));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].rule.to_string(), shown);
            assert_eq!(found[0].permission, permission.build());
        }
    }
}
