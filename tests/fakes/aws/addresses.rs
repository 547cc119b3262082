//! Public addresses, in place of those that moto makes up and that someone on the internet has.
//!
//! Invariant: what a client is shown leads to a box of this test, or nowhere.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use roxmltree::Document;

use super::answer::{Edits, address_in_name, instance_of, invented};

/// Public addresses: of the ranges for documentation, where nothing ever answers, unless a box does.
#[derive(Debug, Default)]
pub struct Addresses {
    given: u32,
    real: HashMap<String, Ipv4Addr>,
    elastic: Option<Vec<Ipv4Addr>>,
    shown: HashMap<(Ipv4Addr, String), Ipv4Addr>,
}

impl Addresses {
    /// With further addresses that a box can really have.
    pub fn with_elastic(elastic: Vec<Ipv4Addr>) -> Self {
        Self { elastic: Some(elastic), ..Self::default() }
    }

    /// That is where a server really is.
    pub fn is_real(&mut self, instance: &str, address: Ipv4Addr) {
        self.real.insert(instance.to_owned(), address);
    }

    /// Every public address and name of one becomes one that leads nowhere, or to a box.
    pub fn mend(&mut self, document: &Document, edits: &mut Edits) {
        for node in document.descendants().filter(|node| node.is_element()) {
            let Some(text) = node.text() else { continue };
            if matches!(node.tag_name().name(), "dnsName" | "publicDnsName") {
                let Some(address) = address_in_name(text) else { continue };
                let address = self.shown(address, instance_of(node)).to_string();
                edits.text(Some(node), &format!("ec2-{}.example.com", address.replace('.', "-")));
            } else if let Ok(address) = text.parse::<Ipv4Addr>()
                && invented(address)
            {
                edits.text(Some(node), &self.shown(address, instance_of(node)).to_string());
            }
        }
    }

    /// The next that nothing has: 203.0.113.1 and on, then 198.51.100.1 and on.
    fn fresh(&mut self) -> Ipv4Addr {
        let (block, last) = (self.given / 254, self.given % 254 + 1);
        self.given += 1;
        let last = u8::try_from(last).expect("at most 254");
        match block {
            0 => Ipv4Addr::new(203, 0, 113, last),
            1 => Ipv4Addr::new(198, 51, 100, last),
            _ => panic!("more than 508 public addresses"),
        }
    }

    /// An elastic one.
    pub fn elastic(&mut self) -> Ipv4Addr {
        match &mut self.elastic {
            Some(left) => left.pop().expect("eight elastic addresses are enough for real servers"),
            None => self.fresh(),
        }
    }

    /// The address to show for one of moto's, which are not unique: 250 of them often have a pair.
    fn shown(&mut self, address: Ipv4Addr, instance: Option<&str>) -> Ipv4Addr {
        if !invented(address) {
            return address;
        }
        let instance = instance.unwrap_or_default();
        if let Some(real) = self.real.get(instance) {
            return *real;
        }
        let key = (address, instance.to_owned());
        if let Some(shown) = self.shown.get(&key) {
            return *shown;
        }
        let fresh = self.fresh();
        self.shown.insert(key, fresh);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_documentation_and_stay() {
        let mut addresses = Addresses::default();
        let moto = Ipv4Addr::new(54, 214, 7, 7);
        assert_eq!(addresses.shown(moto, Some("i-1")), Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(addresses.fresh(), Ipv4Addr::new(203, 0, 113, 2));
        assert_eq!(addresses.shown(moto, Some("i-1")), Ipv4Addr::new(203, 0, 113, 1));
        assert_eq!(addresses.shown(moto, Some("i-2")), Ipv4Addr::new(203, 0, 113, 3));
        assert_eq!(addresses.shown(Ipv4Addr::new(10, 0, 0, 1), None), Ipv4Addr::new(10, 0, 0, 1));
        let last = std::iter::repeat_with(|| addresses.fresh()).nth(251).unwrap();
        assert_eq!(last, Ipv4Addr::new(198, 51, 100, 1));
    }
}
