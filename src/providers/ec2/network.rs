//! Where in the network a server goes: a subnet that the internet reaches, in a zone that has the size and the volume.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{RouteTable, Subnet};

use super::{Ec2, actions, names};
use crate::cloud::Wish;
use crate::providers::error::CloudError;

/// The subnet of a server to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) vpc: String,
    pub(super) subnet: String,
    pub(super) zone: String,
}

/// What a subnet must be.
#[derive(Debug, Clone, Default)]
struct Needs<'w> {
    /// The zone that the volume is in.
    zone: Option<&'w str>,
    /// The zones that offer the size.
    offered: BTreeSet<String>,
    size: &'w str,
}

impl Ec2 {
    /// Chooses the subnet. `zone` is the one that the data volume is in, if there is one.
    pub(super) async fn site(&self, wish: &Wish, zone: Option<&str>) -> Result<Site, CloudError> {
        let (subnets, offered) = tokio::try_join!(self.subnets(wish), self.zones(&wish.size))?;
        let needs = Needs { zone, offered, size: &wish.size };
        // The default VPC's own subnets lead to the internet; of others the routes must tell.
        let vpc = subnets.iter().filter(|subnet| subnet.default_for_az() != Some(true));
        let tables = match vpc.filter_map(|subnet| subnet.vpc_id()).next() {
            Some(vpc) => self.routes(vpc).await?,
            None => Vec::new(),
        };
        choose(wish, &self.region, &subnets, &tables, &needs)
    }

    /// The VPC that a server would be in.
    pub(super) async fn vpc(&self, wish: &Wish) -> Result<String, CloudError> {
        if let Some(vpc) = &wish.network {
            return Ok(vpc.clone());
        }
        let subnets = self.subnets(wish).await?;
        let vpc = subnets.first().and_then(|subnet| subnet.vpc_id());
        vpc.map(str::to_owned).ok_or_else(|| nowhere(wish, &self.region))
    }

    async fn subnets(&self, wish: &Wish) -> Result<Vec<Subnet>, CloudError> {
        let call = self.reads(actions::DESCRIBE_SUBNETS, "look for a subnet");
        let ask = self.client.describe_subnets();
        let ask = match (&wish.subnet, &wish.network) {
            (Some(subnet), _) => ask.subnet_ids(subnet),
            (None, Some(vpc)) => ask.filters(names::filter("vpc-id", [vpc.as_str()])),
            (None, None) => ask.filters(names::filter("default-for-az", ["true"])),
        };
        let all = ask.into_paginator().items().send().try_collect().await;
        all.map_err(|error| call.fail(&error))
    }

    async fn routes(&self, vpc: &str) -> Result<Vec<RouteTable>, CloudError> {
        let call = self.reads(actions::DESCRIBE_ROUTE_TABLES, format!("look up the routes of {vpc}"));
        let ask = self.client.describe_route_tables().filters(names::filter("vpc-id", [vpc]));
        let all = ask.into_paginator().items().send().try_collect().await;
        all.map_err(|error| call.fail(&error))
    }
}

fn choose(
    wish: &Wish,
    region: &str,
    subnets: &[Subnet],
    tables: &[RouteTable],
    needs: &Needs<'_>,
) -> Result<Site, CloudError> {
    let impossible = |message: String, hints: &[&str]| {
        Err(CloudError::Impossible { message, hints: hints.iter().map(|&hint| hint.to_owned()).collect() })
    };
    let place = place(wish);
    if subnets.is_empty() {
        return Err(nowhere(wish, region));
    }
    if let Some(vpc) = &wish.network
        && subnets.iter().any(|subnet| subnet.vpc_id() != Some(vpc))
    {
        return impossible(format!("{place} is not in the VPC {vpc}"), &["leave `server.vpc` out"]);
    }
    let reached = |subnet: &&Subnet| subnet.default_for_az() == Some(true) || is_public(subnet, tables);
    let public: Vec<&Subnet> = subnets.iter().filter(reached).collect();
    if public.is_empty() {
        return impossible(
            format!("the internet does not reach {place}: no route to an internet gateway"),
            &["name a public subnet in `server.subnet`, or leave `server.vpc` out for the default VPC"],
        );
    }
    let offers =
        |subnet: &&&Subnet| subnet.availability_zone().is_some_and(|zone| needs.offered.contains(zone));
    let offering: Vec<&Subnet> = public.iter().filter(offers).copied().collect();
    if offering.is_empty() {
        let zones: Vec<&str> = needs.offered.iter().map(String::as_str).collect();
        let hint = match zones.as_slice() {
            [] => format!("no zone of {region} offers it: take another `server.size`"),
            zones => format!("take another `server.size`, or a subnet in {}", zones.join(", ")),
        };
        return impossible(format!("{place} is in no zone that offers {}", needs.size), &[&hint]);
    }
    let with_volume = |subnet: &&&Subnet| needs.zone.is_none() || subnet.availability_zone() == needs.zone;
    let fitting = offering.iter().filter(with_volume);
    let full = |subnet: &Subnet| subnet.available_ip_address_count() == Some(0);
    let best = fitting.min_by_key(|subnet| {
        let public = subnet.map_public_ip_on_launch() == Some(true);
        (full(subnet), !public, subnet.availability_zone(), subnet.subnet_id())
    });
    let Some(best) = best else {
        return impossible(
            format!("the volume is in {}, and {place} isn't there", needs.zone.unwrap_or("another zone")),
            &["a volume can't leave its zone: name a subnet of that zone in `server.subnet`"],
        );
    };
    match (best.vpc_id(), best.subnet_id(), best.availability_zone()) {
        (Some(vpc), Some(subnet), Some(zone)) => {
            Ok(Site { vpc: vpc.to_owned(), subnet: subnet.to_owned(), zone: zone.to_owned() })
        }
        (_, _, _) => impossible(format!("EC2 does not tell where {place} is"), &[]),
    }
}

fn place(wish: &Wish) -> String {
    match (&wish.subnet, &wish.network) {
        (Some(subnet), _) => format!("the subnet {subnet}"),
        (None, Some(vpc)) => format!("the VPC {vpc}"),
        (None, None) => "the default VPC".to_owned(),
    }
}

/// There is no subnet at all.
fn nowhere(wish: &Wish, region: &str) -> CloudError {
    if wish.subnet.is_some() || wish.network.is_some() {
        return CloudError::Impossible {
            message: format!("{} has no subnet in {region}", place(wish)),
            hints: vec!["is `server.region` its region?".into()],
        };
    }
    CloudError::Impossible {
        message: format!("the account has no default VPC with subnets in {region}"),
        hints: vec![
            format!("`aws ec2 create-default-vpc --region {region}` makes it again, free of charge"),
            "or name a VPC in `server.vpc`".into(),
        ],
    }
}

/// Whether the subnet's own route table, or else the VPC's main one, leads to an internet gateway.
fn is_public(subnet: &Subnet, tables: &[RouteTable]) -> bool {
    let own = |table: &&RouteTable| {
        table
            .associations()
            .iter()
            .any(|link| link.subnet_id().is_some() && link.subnet_id() == subnet.subnet_id())
    };
    let main = |table: &&RouteTable| {
        table.vpc_id() == subnet.vpc_id() && table.associations().iter().any(|link| link.main() == Some(true))
    };
    let table = tables.iter().find(own).or_else(|| tables.iter().find(main));
    table.is_some_and(|table| {
        table.routes().iter().any(|route| {
            route.destination_cidr_block() == Some("0.0.0.0/0")
                && route.gateway_id().is_some_and(|gateway| gateway.starts_with("igw-"))
        })
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::builders::SubnetBuilder;
    use aws_sdk_ec2::types::{Route, RouteTableAssociation};

    use super::super::tests::wish;
    use super::*;

    fn subnet(id: &str, zone: &str) -> SubnetBuilder {
        Subnet::builder().subnet_id(id).vpc_id("vpc-1").availability_zone(zone)
    }

    fn default(id: &str, zone: &str) -> SubnetBuilder {
        subnet(id, zone).default_for_az(true).map_public_ip_on_launch(true)
    }

    fn table(subnet: Option<&str>, gateway: &str) -> RouteTable {
        let link = match subnet {
            Some(subnet) => RouteTableAssociation::builder().subnet_id(subnet),
            None => RouteTableAssociation::builder().main(true),
        };
        let everywhere = Route::builder().destination_cidr_block("0.0.0.0/0").gateway_id(gateway);
        RouteTable::builder().vpc_id("vpc-1").associations(link.build()).routes(everywhere.build()).build()
    }

    fn pick(server: &str, subnets: Vec<SubnetBuilder>, tables: &[RouteTable], zone: Option<&str>) -> String {
        let subnets: Vec<Subnet> = subnets.into_iter().map(SubnetBuilder::build).collect();
        let offered = ["eu-central-1a", "eu-central-1b"].map(str::to_owned).into();
        let needs = Needs { zone, offered, size: "t3.small" };
        match choose(&wish(server), "eu-central-1", &subnets, tables, &needs) {
            Ok(site) => site.subnet,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_same_subnet_every_time() {
        let all = || {
            vec![
                default("subnet-c", "eu-central-1c"),
                default("subnet-b", "eu-central-1b"),
                default("subnet-a", "eu-central-1a"),
            ]
        };
        assert_eq!(pick("", all(), &[], None), "subnet-a");
        assert_eq!(pick("", all().into_iter().rev().collect(), &[], None), "subnet-a");
        assert_eq!(pick("", all(), &[], Some("eu-central-1b")), "subnet-b");
        let mut full = all();
        full[2] = default("subnet-a", "eu-central-1a").available_ip_address_count(0);
        assert_eq!(pick("", full, &[], None), "subnet-b");
    }

    #[test]
    fn a_subnet_of_a_vpc_must_lead_to_the_internet() {
        let both =
            || vec![subnet("subnet-private", "eu-central-1a"), subnet("subnet-public", "eu-central-1b")];
        let tables = [table(None, "local"), table(Some("subnet-public"), "igw-1")];
        assert_eq!(pick("vpc: vpc-1", both(), &tables, None), "subnet-public");
        let nat = [table(None, "nat-1")];
        let none = "the internet does not reach the VPC vpc-1: no route to an internet gateway";
        assert_eq!(pick("vpc: vpc-1", both(), &nat, None), none);
        // The main table is for those that have none of their own.
        let main = [table(None, "igw-1"), table(Some("subnet-public"), "local")];
        assert_eq!(pick("vpc: vpc-1", both(), &main, None), "subnet-private");
    }

    #[test]
    fn what_can_not_be_is_said() {
        assert_eq!(
            pick("", vec![], &[], None),
            "the account has no default VPC with subnets in eu-central-1"
        );
        assert_eq!(pick("vpc: vpc-1", vec![], &[], None), "the VPC vpc-1 has no subnet in eu-central-1");
        let here = || vec![default("subnet-a", "eu-central-1a")];
        assert_eq!(
            pick("vpc: vpc-9, subnet: subnet-a", here(), &[], None),
            "the subnet subnet-a is not in the VPC vpc-9"
        );
        assert_eq!(
            pick("subnet: subnet-a", here(), &[], Some("eu-central-1b")),
            "the volume is in eu-central-1b, and the subnet subnet-a isn't there"
        );
        assert_eq!(
            pick("", vec![default("subnet-c", "eu-central-1c")], &[], None),
            "the default VPC is in no zone that offers t3.small"
        );
    }
}
