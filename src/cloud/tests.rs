use insta::assert_snapshot;

use super::*;
use crate::config::{Defaults, load};
use crate::project::{Tree, detect};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGg dev@laptop";

/// What `ship.yml` with this `server` wishes for.
pub(crate) fn wish(server: &str) -> Wish {
    let files = ["manage.py", "library/settings.py", "library/wsgi.py", "requirements.txt"];
    let read = |path: &str| {
        Some(if path == "manage.py" {
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings')".to_owned()
        } else {
            "django".to_owned()
        })
    };
    let project = detect(&Tree::new(files, read));
    let text = format!("app: library\nserver: {{{server}}}\n");
    let config = load("ship.yml", &text, None, &project, &Defaults::default()).unwrap();
    Wish::of(&config, KEY).unwrap()
}

fn droplet() -> Wish {
    wish("provider: digitalocean, region: fra1")
}

fn settled(wish: &Wish) -> Found {
    let server = Server {
        id: "7".into(),
        state: State::Running,
        region: wish.region.clone().unwrap_or_else(|| "eu-central-1".into()),
        size: wish.size.clone(),
        image: Some(wish.image.clone()),
        disk_gb: wish.disk_gb,
        network: Some("vpc-default".into()),
        subnet: Some("subnet-1".into()),
        ipv4: Some(Ipv4Addr::new(203, 0, 113, 7)),
        ipv6: None,
        birth_key: None,
        host_key: None,
        settings: wish.settings.clone(),
    };
    let to = Some(server.id.clone());
    Found {
        server: Some(server),
        key: None,
        firewall: Some(Firewall { id: "f".into(), rules: wish.rules.clone(), applied: true }),
        address: wish.fixed_address.then(|| Address {
            id: "a".into(),
            ip: Ipv4Addr::new(203, 0, 113, 99),
            server: to.clone(),
            tagged: true,
        }),
        volume: wish.volume_gb.map(|size_gb| Volume {
            id: "v".into(),
            size_gb,
            server: to,
            device: "/dev/disk/by-id/v".into(),
        }),
    }
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        text += &format!("{}: {} [{:?}]\n", step.change.title(), step.change.why, step.act);
        for line in step.change.diff.iter().flat_map(|diff| diff.lines()) {
            text += &format!("    {line}\n");
        }
    }
    for reason in &plan.replaces {
        text += &format!("replaces: {reason}\n");
    }
    text
}

/// What is planned after `change` has befallen a server that was as wished.
fn after(wish: &Wish, change: impl FnOnce(&mut Found, &mut Server)) -> String {
    let mut found = settled(wish);
    let mut server = found.server.take().unwrap();
    change(&mut found, &mut server);
    found.server = Some(server);
    text(&plan(wish, &found, None, false))
}

#[test]
fn an_empty_account_gets_everything() {
    let quote = Quote { memory_mb: 1024, cores: 1, monthly: Some("6.00 USD".into()), obstacle: None };
    assert_snapshot!(text(&plan(&droplet(), &Found::default(), Some(&quote), false)), @r"
    create SSH key dev@laptop: the account doesn't have it [AddKey]
    create firewall ship.library.default: is missing [AddFirewall]
        +tcp 22 from 0.0.0.0/0
        +tcp 22 from ::/0
        +tcp 80 from 0.0.0.0/0
        +tcp 80 from ::/0
        +tcp 443 from 0.0.0.0/0
        +tcp 443 from ::/0
        +icmp from 0.0.0.0/0
        +icmp from ::/0
    create droplet library: s-1vcpu-1gb in fra1, debian-12, 6.00 USD a month [CreateServer]
        +region fra1
        +size s-1vcpu-1gb: 1 cores, 1.0 GiB memory, 6.00 USD a month
        +image debian-12
        +user deploy with your key, no root login, no passwords
    create reserved IP library: so that the address stays when the server doesn't [AddAddress]
    ");
}

#[test]
fn an_empty_account_of_ec2() {
    let wish = wish("provider: ec2, volume: 10, elastic_ip: false, termination_protection: true");
    assert_snapshot!(text(&plan(&wish, &Found::default(), None, false)), @r"
    create key pair dev@laptop: the account doesn't have it [AddKey]
    create security group ship.library.default: is missing [AddFirewall]
        +tcp 22 from 0.0.0.0/0
        +tcp 22 from ::/0
        +tcp 80 from 0.0.0.0/0
        +tcp 80 from ::/0
        +tcp 443 from 0.0.0.0/0
        +tcp 443 from ::/0
        +icmp from 0.0.0.0/0
        +icmp from ::/0
    create instance library: t3.small, debian-12 [CreateServer]
        +size t3.small
        +image debian-12
        +disk 20 GiB
        +user deploy with your key, no root login, no passwords
    create volume ship.library.default: 10 GiB [AddVolume]
    ");
}

#[test]
fn what_is_as_wished_is_left_alone() {
    for server in [
        "provider: digitalocean, region: fra1",
        "provider: digitalocean, region: fra1, volume: 10, reserved_ip: false, tags: [a], project: p",
        "provider: ec2",
        "provider: ec2, region: eu-central-1, volume: 10, disk: 40, vpc: vpc-default, tags: {a: b}",
    ] {
        let wish = wish(server);
        assert_eq!(plan(&wish, &settled(&wish), None, false), Plan::default(), "{server}");
    }
}

#[test]
fn drift_is_seen() {
    let wish = wish("provider: digitalocean, region: fra1, volume: 10");
    let all = [
        after(&wish, |found, _| {
            let firewall = found.firewall.as_mut().unwrap();
            firewall.rules.remove(&Rule::new(Traffic::Tcp(80), "0.0.0.0/0"));
            firewall.rules.insert(Rule::new(Traffic::Tcp(5432), "0.0.0.0/0"));
        }),
        after(&wish, |found, _| found.firewall.as_mut().unwrap().applied = false),
        after(&wish, |found, _| found.firewall = None),
        after(&wish, |found, _| found.address.as_mut().unwrap().server = None),
        after(&wish, |found, _| found.address.as_mut().unwrap().tagged = false),
        after(&wish, |found, _| found.address = None),
        after(&wish, |found, _| found.volume.as_mut().unwrap().server = None),
        after(&wish, |_, server| server.state = State::Stopped),
        after(&wish, |_, server| server.state = State::Starting),
        after(&wish, |_, server| server.size = "s-2vcpu-2gb".into()),
        after(&wish, |_, server| server.settings.backups = true),
        after(&wish, |_, server| server.settings.ipv6 = false),
    ];
    assert_snapshot!(all.join("--\n"), @r"
    update firewall ship.library.default: its rules differ [SetFirewall]
        -tcp 5432 from 0.0.0.0/0
        +tcp 80 from 0.0.0.0/0
    --
    update firewall ship.library.default: is not in front of the droplet [SetFirewall]
    --
    create firewall ship.library.default: is missing [AddFirewall]
        +tcp 22 from 0.0.0.0/0
        +tcp 22 from ::/0
        +tcp 80 from 0.0.0.0/0
        +tcp 80 from ::/0
        +tcp 443 from 0.0.0.0/0
        +tcp 443 from ::/0
        +icmp from 0.0.0.0/0
        +icmp from ::/0
    --
    update reserved IP 203.0.113.99: does not lead to the droplet [AttachAddress]
    --
    update reserved IP 203.0.113.99: has no tag that says whose it is [AttachAddress]
    --
    create reserved IP library: so that the address stays when the server doesn't [AddAddress]
    --
    update volume ship.library.default: is not attached to the droplet [AttachVolume]
    --
    start library: is powered off [StartServer]
    --
    start library: is still starting [StartServer]
    --
    update droplet library: size s-2vcpu-2gb → s-1vcpu-1gb; it is powered off for a few minutes [Resize]
    --
    update droplet library: backups off [Set(Backups(false))]
    --
    update droplet library: an IPv6 address [Set(Ipv6)]
    ");
}

#[test]
fn the_next_server_is_behind_the_firewall_from_the_start() {
    let wish = droplet();
    let mut found = settled(&wish);
    found.server = None;
    found.key = Some("k".into());
    found.firewall.as_mut().unwrap().applied = false;
    let acts: Vec<Act> = plan(&wish, &found, None, false).steps.into_iter().map(|step| step.act).collect();
    assert_eq!(acts, [Act::SetFirewall, Act::CreateServer, Act::AttachAddress]);
}

#[test]
fn what_the_file_no_longer_wants() {
    let old = wish("provider: digitalocean, region: fra1, volume: 10, reserved_ip: true");
    let new = wish("provider: digitalocean, region: fra1, reserved_ip: false");
    assert_snapshot!(text(&plan(&new, &settled(&old), None, false)), @"remove reserved IP 203.0.113.99: is not wanted any more [RemoveAddress]");
}

#[test]
fn some_changes_need_another_server() {
    let old = droplet();
    for (server, reason) in [
        ("region: fra1, image: debian-13", "server.image: debian-12 → debian-13"),
        ("region: ams3", "server.region: fra1 → ams3"),
        ("region: fra1, ipv6: false", "server.ipv6: true → false"),
    ] {
        let new = wish(&format!("provider: digitalocean, {server}"));
        let plan = plan(&new, &settled(&old), None, false);
        assert_eq!(plan.replaces, [reason]);
        assert_eq!(plan.steps, [], "nothing is done without being asked to");
    }
    let new = wish("provider: digitalocean, region: fra1, image: debian-13");
    assert_snapshot!(text(&plan(&new, &settled(&old), None, true)), @r"
    create SSH key dev@laptop: the account doesn't have it [AddKey]
    remove droplet library: another takes its place (server.image: debian-12 → debian-13) [DestroyServer]
    create droplet library: s-1vcpu-1gb in fra1, debian-13 [CreateServer]
        +region fra1
        +size s-1vcpu-1gb
        +image debian-13
        +user deploy with your key, no root login, no passwords
    update reserved IP 203.0.113.99: does not lead to the droplet [AttachAddress]
    replaces: server.image: debian-12 → debian-13
    ");
}

#[test]
fn owners_have_names_of_their_own() {
    let owner = |app: &str, environment: &str| Owner { app: app.into(), environment: environment.into() };
    assert_eq!(owner("library", "default").host_name(), "library");
    assert_eq!(owner("library", "staging").host_name(), "library-staging");
    assert_eq!(owner("library", "staging").to_string(), "library/staging");
    assert_ne!(owner("a-b", "default").unique_name(), owner("a", "b").unique_name());
}

#[test]
fn the_fixed_address_is_taken_only_if_it_leads_there() {
    let mut found = settled(&droplet());
    assert_eq!(found.reachable_at(), Some(Ipv4Addr::new(203, 0, 113, 99)));
    found.address.as_mut().unwrap().server = Some("another".into());
    assert_eq!(found.reachable_at(), Some(Ipv4Addr::new(203, 0, 113, 7)));
    found.server = None;
    assert_eq!(found.reachable_at(), None);
}

#[test]
fn what_nobody_needs_is_named() {
    let thing = |kind, id: &str| Thing { kind, id: id.into(), label: id.into(), addresses: Vec::new() };
    let (server, address, tag) =
        (thing(ThingKind::Server, "s"), thing(ThingKind::Address, "a"), thing(ThingKind::Tag, "t"));
    let names = |things: &[Thing]| -> Vec<String> {
        leftovers(things).into_iter().map(|(thing, _)| thing.id.clone()).collect()
    };
    assert_eq!(names(&[server.clone(), address.clone(), tag.clone()]), [""; 0]);
    assert_eq!(names(&[address.clone(), tag]), ["a"]);
    assert_eq!(names(&[server.clone(), address.clone(), thing(ThingKind::Address, "b")]), ["b"]);
    assert_eq!(names(&[server.clone(), thing(ThingKind::Server, "z"), address]), ["s", "z"]);
}

#[test]
fn a_size_that_the_server_can_not_take_needs_another_server() {
    let wish = wish("provider: ec2, size: t4g.small");
    let mut found = settled(&wish);
    found.server.as_mut().unwrap().size = "t3.small".into();
    let obstacle = Some("t3.small is x86_64, t4g.small is arm64".to_owned());
    let quote = Quote { memory_mb: 2048, cores: 2, monthly: None, obstacle };
    assert_snapshot!(text(&plan(&wish, &found, Some(&quote), false)), @"replaces: server.size: t3.small is x86_64, t4g.small is arm64");
    let acts: Vec<Act> =
        plan(&wish, &found, Some(&quote), true).steps.into_iter().map(|step| step.act).collect();
    assert_eq!(acts, [Act::AddKey, Act::DestroyServer, Act::CreateServer, Act::AttachAddress]);
}

#[test]
fn a_key_that_ec2_does_not_take_is_no_step() {
    let sharing = |server: &str, kind: &str| {
        let wish = Wish { public_key: format!("{kind} AAAA dev@laptop"), ..wish(server) };
        plan(&wish, &Found::default(), None, false).steps.iter().any(|step| step.act == Act::AddKey)
    };
    assert!(sharing("provider: ec2", "ssh-ed25519"));
    assert!(sharing("provider: ec2", "ssh-rsa"));
    assert!(!sharing("provider: ec2", "ecdsa-sha2-nistp256"));
    assert!(!sharing("provider: ec2", "sk-ssh-ed25519@openssh.com"));
    assert!(sharing("provider: digitalocean, region: fra1", "ecdsa-sha2-nistp256"));
}
