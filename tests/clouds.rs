//! The whole way in a cloud: from an empty account to a page under the domain, through drift and loss, to an empty
//! account again. The cloud is a stand-in; its servers are real ones, booted by cloud-init from what ship sent.

use std::net::IpAddr;

use crate::fakes::digitalocean::DigitalOcean;
use crate::fakes::names::NameServer;
use crate::support::{Browser, Project};

const NAMES: &str = "domains: [library.example.com, www.library.example.com]\ndns: digitalocean";

/// A project that has a token for this cloud, a key for its servers, and the cloud's name servers to ask.
struct Customer {
    cloud: DigitalOcean,
    project: Project,
    _names: NameServer,
}

impl Customer {
    fn of(cloud: DigitalOcean, server: &str, lines: &str) -> Self {
        let mut project = Project::elsewhere(server);
        project.make_key();
        let records = cloud.records_later();
        let names = NameServer::start(move |name| {
            let relative = name.strip_suffix(".example.com").unwrap_or("@").to_owned();
            let records = records("example.com");
            let here = records.iter().filter(|record| record.name == relative);
            here.filter_map(|record| record.data.parse::<IpAddr>().ok()).collect()
        });
        project.set("DIGITALOCEAN_TOKEN", cloud.token());
        project.set("DIGITALOCEAN_API_URL", cloud.url());
        project.set("SHIP_NAMESERVERS", names.address());
        project.config(lines);
        project.commit("For the cloud");
        Self { cloud, project, _names: names }
    }

    fn page(&self, path: &str) -> (u16, String) {
        let record = self.cloud.records("example.com");
        let record = record.iter().find(|record| record.name == "library" && record.kind == "A");
        let address = record.expect("the record of library.example.com").data.parse().unwrap();
        let mut browser = Browser::named(address, "library.example.com").unwrap();
        let response = browser.request("GET", path, "", b"").unwrap();
        (response.status, response.text())
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn from_an_empty_account_to_a_page_and_back() {
    let cloud = DigitalOcean::booting().with_packages();
    cloud.with(|account| {
        account.add_domain("example.com");
        account.add_record("example.com", "A", "mail", "192.0.2.25");
        account.add_record("example.com", "TXT", "library", "somebody else's");
    });
    cloud.preload_droplets(3);
    let customer = Customer::of(cloud, "{provider: digitalocean, region: fra1}", NAMES);
    let (cloud, project) = (&customer.cloud, &customer.project);

    let plan = project.ship(&["plan"]).exits(2);
    for text in ["droplet library", "6.00 USD a month", "firewall", "reserved IP", "record", "nginx"] {
        assert!(plan.stdout.contains(text), "{text:?} in\n{}", plan.stdout);
    }
    assert!(cloud.writes().is_empty(), "a plan writes nothing");

    project.up();
    let (status, page) = customer.page("/books/");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("A Tale of Two Cities"));
    let ours: Vec<_> = cloud.droplets().into_iter().filter(|droplet| droplet.name == "library").collect();
    assert_eq!((ours.len(), cloud.reserved_ips().len(), cloud.firewalls().len()), (1, 1, 1));

    // What the metadata service knows is no secret of the server's any more.
    let server = cloud.server(ours[0].id);
    let keys = server.exec("ls /etc/ssh/*_key; sshd -T | grep -iE '^(permitrootlogin|passwordauthentication|kbdinteractive|hostkey) '; cut -d: -f2 /etc/shadow | grep -c '^\\$' || true");
    assert_eq!(
        keys,
        "/etc/ssh/ship_host_ed25519_key\npermitrootlogin no\npasswordauthentication no\nhostkey /etc/ssh/ship_host_ed25519_key\n0\n"
    );
    let tags = &ours[0].tags;
    assert!(tags.iter().any(|tag| tag.contains(":hostkey:")), "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.contains(":birthkey:")), "{tags:?}");

    cloud.forget_requests();
    project.up().says("Nothing to change");
    assert!(cloud.writes().is_empty(), "{:?}", cloud.writes());
    project.ship(&["plan"]).exits(0);
    project.ship(&["status"]).exits(0);
}
