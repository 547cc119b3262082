//! The whole way in a cloud: from an empty account to a page under the domain, through drift and loss, to an empty
//! account again. The cloud is a stand-in; its servers are real ones, booted by cloud-init from what ship sent.

use std::net::IpAddr;

use crate::fakes::digitalocean::DigitalOcean;
use crate::fakes::names::NameServer;
use crate::support::{Browser, Project};

const NAMES: &str = "domains: [library.example.com, www.library.example.com]\ndns: digitalocean";

/// Who can log in to a server, and with which keys it answers.
const LOGINS: &str = "ls /etc/ssh/*_key; \
    sshd -T | grep -iE '^(permitrootlogin|passwordauthentication|kbdinteractive|hostkey) '; \
    cut -d: -f2 /etc/shadow | grep -c '^\\$' || true";

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
    assert!(!plan.stdout.contains("by the clock"), "{}", plan.stdout);
    for text in ["droplet library", "6.00 USD a month", "firewall", "reserved IP", "record", "nginx"] {
        assert!(plan.stdout.contains(text), "{text:?} in\n{}", plan.stdout);
    }
    assert!(cloud.writes().is_empty(), "a plan writes nothing");

    let up = project.up();
    println!("{}", up.stderr);
    let (status, page) = customer.page("/books/");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("A Tale of Two Cities"));
    let ours: Vec<_> = cloud.droplets().into_iter().filter(|droplet| droplet.name == "library").collect();
    assert_eq!((ours.len(), cloud.reserved_ips().len(), cloud.firewalls().len()), (1, 1, 1));

    // What the metadata service knows is no secret of the server's any more.
    let server = cloud.server(ours[0].id);
    let logins = server.exec(LOGINS);
    assert_eq!(
        logins,
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

    // Changed by hand: the plan names just that, and the next run mends it.
    cloud.with(|account| {
        account.firewalls[0].inbound_rules.clear();
        account.reserved_ips[0].droplet = None;
        let record =
            account.domains[0].records.iter_mut().find(|record| record.name == "www.library").unwrap();
        record.data = "192.0.2.99".into();
    });
    let drift = project.ship(&["plan"]).exits(2);
    for text in
        ["firewall ship.library.default", "+tcp 80 from", "does not lead to the droplet", "192.0.2.99"]
    {
        assert!(drift.stdout.contains(text), "{text:?} in\n{}", drift.stdout);
    }
    project.up();
    project.ship(&["plan"]).exits(0);
    assert_eq!(customer.page("/books/").0, 200);

    // What can't change in place is never done by the way, and takes the data along when it is asked for.
    cloud.forget_requests();
    project.replace("ship.yml", "region: fra1", "region: fra1, image: debian-13");
    let refused = project.ship(&["up", "--yes"]).exits(3);
    assert!(refused.stderr.contains("server.image: debian-12 → debian-13"), "{}", refused.stderr);
    assert!(cloud.writes().is_empty(), "{:?}", cloud.writes());
    server.write("/srv/library/shared/media/note.txt", "kept");
    let add =
        "from catalog.models import Author; Author.objects.create(first_name='Moved', last_name='Over')";
    project.ship(&["manage", "shell", "-c", add]).exits(0);
    project.ship(&["up", "--yes", "--replace"]).exits(0).says("serves");
    let droplet = cloud.droplets().into_iter().find(|droplet| droplet.name == "library").unwrap();
    let server = cloud.server(droplet.id);
    assert_eq!(server.exec(". /etc/os-release; echo $VERSION_ID").trim(), "13");
    assert_eq!(server.exec(LOGINS), logins);
    assert_eq!(server.read("/srv/library/shared/media/note.txt").unwrap(), b"kept");
    let count = "from catalog.models import Author; print(Author.objects.filter(first_name='Moved').count())";
    project.ship(&["manage", "shell", "-c", count]).exits(0).says("1");
    assert_eq!(customer.page("/books/").0, 200);
    project.up().says("Nothing to change");

    // And away again, but for what is others'.
    project.ship(&["destroy", "--yes"]).exits(3);
    project.ship(&["destroy", "--confirm", "other"]).exits(3);
    project.ship(&["destroy", "--confirm", "library"]).exits(0);
    assert_eq!((cloud.reserved_ips().len(), cloud.firewalls().len(), cloud.keys().len()), (0, 0, 0));
    assert_eq!(cloud.droplets().len(), 3);
    let records: Vec<String> = cloud
        .records("example.com")
        .iter()
        .map(|record| format!("{} {}", record.name, record.kind))
        .collect();
    assert_eq!(records, ["mail A", "library TXT"]);
    assert_eq!(cloud.tags(), ["theirs"]);
    let backups: Vec<_> = std::fs::read_dir(project.dir.join(".ship/backups")).unwrap().collect();
    // One of the replaced server, one of this.
    assert_eq!(backups.len(), 2);
    for copy in backups {
        let copy = copy.unwrap().path();
        assert!(copy.join("database.dump").metadata().unwrap().len() > 1000);
        assert!(copy.join("media.tar.gz").exists());
        assert_eq!(std::fs::read_to_string(copy.join(".gitignore")).unwrap(), "*\n");
    }
    project.ship(&["doctor"]).exits(0);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn an_impostor_at_the_new_address_is_told_nothing() {
    let cloud = DigitalOcean::booting().with_packages().with_impostor();
    let customer = Customer::of(cloud, "{provider: digitalocean, region: fra1, reserved_ip: false}", "");
    let refused = customer.project.ship(&["up", "--yes"]).exits(4);
    assert!(refused.stderr.contains("host key"), "{}", refused.stderr);
    let server = customer.cloud.server(customer.cloud.droplets()[0].id);
    let log = server.exec("journalctl -u ssh --no-pager");
    assert!(!log.contains("Accepted") && !log.contains("Failed"), "nobody tried to log in: {log}");
    assert_eq!(server.exec("ls -A /srv"), "");
}

#[cfg(feature = "aws")]
mod ec2 {
    use super::*;
    use crate::boxes::TestBox;
    use crate::fakes::aws::Aws;

    const NAMES: &str = "domains: [library.example.com]\ndns: route53";

    #[test]
    #[ignore = "needs root, systemd-nspawn and moto: scripts/test runs it"]
    fn from_an_empty_account_to_a_page_and_back() {
        let cloud = Aws::booting_with_packages();
        let zone = cloud.zone("example.com");
        cloud.others(2, |_| vec![("ship".into(), "library/other".into())]);
        let mut project = Project::elsewhere("{provider: ec2, region: eu-central-1}");
        project.make_key();
        let records = cloud.records_later(&zone);
        let names = NameServer::start(move |name| {
            let records = records();
            let here = records.iter().filter(|record| record.name.trim_end_matches('.') == name);
            here.flat_map(|record| &record.values).filter_map(|value| value.parse::<IpAddr>().ok()).collect()
        });
        for (name, value) in cloud.env() {
            project.set(&name, value);
        }
        project.set("AWS_REGION", "eu-central-1");
        project.set("SHIP_NAMESERVERS", names.address());
        project.config(NAMES);

        let plan = project.ship(&["plan"]).exits(2);
        for text in
            ["instance library", "security group", "elastic IP", "record library.example.com A", "nginx"]
        {
            assert!(plan.stdout.contains(text), "{text:?} in\n{}", plan.stdout);
        }
        assert!(cloud.writes().is_empty(), "a plan writes nothing");

        project.up();
        let page = || {
            let record =
                cloud.records(&zone).into_iter().find(|record| record.name == "library.example.com.");
            let address = record.expect("a record").values[0].parse().unwrap();
            let mut browser = Browser::named(address, "library.example.com").unwrap();
            browser.request("GET", "/books/", "", b"").unwrap()
        };
        assert_eq!(page().status, 200);
        let ours = |cloud: &Aws| {
            let all = cloud.instances().into_iter();
            all.filter(|instance| instance.tags.get("ship").is_some_and(|tag| tag == "library/default"))
                .filter(|instance| instance.state != "terminated")
                .collect::<Vec<_>>()
        };
        let instances = ours(&cloud);
        assert_eq!(instances.len(), 1);
        let tags = &instances[0].tags;
        assert!(tags.contains_key("ship-host-key") && !tags.contains_key("ship-birth-key"), "{tags:?}");
        let server = cloud.server(&instances[0].id);
        assert!(
            server.exec(LOGINS).starts_with(
                "/etc/ssh/ship_host_ed25519_key\npermitrootlogin no\npasswordauthentication no\n"
            )
        );
        let made = cloud.requests_for("RunInstances");
        assert_eq!(made.len(), 1);
        assert!(made[0].call.parameter("ClientToken").len() == 64);

        cloud.forget_requests();
        project.up().says("Nothing to change");
        assert!(cloud.writes().is_empty(), "{:?}", cloud.writes());
        project.ship(&["plan"]).exits(0);

        let add =
            "from catalog.models import Author; Author.objects.create(first_name='Kept', last_name='Safe')";
        project.ship(&["manage", "shell", "-c", add]).exits(0);
        project.ship(&["destroy", "--confirm", "library"]).exits(0);
        assert_eq!(ours(&cloud).len(), 0);
        assert_eq!(cloud.instances().iter().filter(|instance| instance.state == "running").count(), 2);
        assert_eq!(cloud.records(&zone).len(), 0);
        for (action, tag) in [("DescribeAddresses", "publicIp"), ("DescribeKeyPairs", "keyName")] {
            assert_eq!(crate::fakes::aws::texts(&cloud.ec2(action, &[]), tag), [""; 0], "{action}");
        }

        // What was fetched before the server went is whole: it restores where ship has never been.
        let folder =
            std::fs::read_dir(project.dir.join(".ship/backups")).unwrap().next().unwrap().unwrap().path();
        let fresh = TestBox::builder().packages(true).boot();
        fresh.write("/tmp/database.dump", std::fs::read(folder.join("database.dump")).unwrap());
        let rows = fresh.exec(
            "cd /tmp; chmod 644 database.dump; systemctl start postgresql; \
             until runuser -u postgres -- createuser library 2>/dev/null; do sleep 0.2; done; \
             runuser -u postgres -- createdb -O library library; \
             runuser -u postgres -- pg_restore --exit-on-error -d library database.dump; \
             runuser -u postgres -- psql -Atd library -c \"select count(*) from catalog_author where first_name = 'Kept'\"",
        );
        assert_eq!(rows.trim(), "1");
    }
}
