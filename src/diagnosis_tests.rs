//! Faults as data, and what is said of them.

use super::*;
use crate::config::{self, Defaults};
use crate::facts::app::App;
use crate::facts::health::{Answer, Django, Killed, Permission};
use crate::project::{Project, Tree, detect};

fn config(more: &str) -> Config {
    let files = [
        ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')"),
        ("site/settings.py", ""),
        ("site/wsgi.py", ""),
        ("requirements.txt", "django==5.2"),
    ];
    let read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_string());
    let project: Project = detect(&Tree::new(files.iter().map(|(name, _)| *name), read));
    let text = format!("server: {{provider: ssh, host: 203.0.113.7}}\n{more}\n");
    let defaults = Defaults { folder_name: "library", playbooks: &["redis"] };
    config::load("ship.yml", &text, None, &project, &defaults).unwrap()
}

fn unit(name: &str, state: &str) -> HealthUnit {
    HealthUnit {
        name: name.into(),
        own: name.starts_with("library"),
        state: state.into(),
        result: "success".into(),
        for_s: Some(4000),
        ..HealthUnit::default()
    }
}

fn listener(port: u16, name: &str, pid: u32, unit: &str) -> Listener {
    Listener { port, name: name.into(), pid, unit: unit.into() }
}

/// A server that nothing is wrong with.
fn well() -> Health {
    Health {
        now: 1_000_000,
        synchronised: true,
        release: Some("v3".into()),
        disks: vec![Disk {
            at: "/".into(),
            total: 20 << 30,
            free: 9 << 30,
            inodes: 1_300_000,
            free_inodes: 1_000_000,
            read_only: false,
        }],
        units: vec![
            unit("nginx.service", "active"),
            unit("postgresql@15-main.service", "active"),
            unit("redis-server.service", "active"),
            unit("library.socket", "active"),
            unit("library@v3.service", "active"),
            unit("library-worker@v3.service", "active"),
        ],
        listeners: vec![
            listener(80, "nginx", 70, "nginx.service"),
            listener(8000, "systemd", 1, "init.scope"),
            listener(8000, "gunicorn", 90, "library@v3.service"),
        ],
        django: Some(Django::default()),
        answer: Some(Answer { status: Some(200), error: None }),
        ..Health::default()
    }
}

/// Brings a fault about.
type Plant = fn(&mut Health);

const SITE: &str = "domains: [library.example.com]\ndatabase: postgres\nplaybooks: [redis]\nprocesses: {worker: python work.py}";

fn view() -> View {
    View { asked_s: (999_999, 1_000_001), address: "203.0.113.7".into(), ..View::default() }
}

fn found(health: Health, view: &View) -> Vec<Finding> {
    let app = App { current: Some(3), ..App::default() };
    let facts = Facts { health: Some(health), app, ..Facts::default() };
    diagnose(&config(SITE), &facts, view)
}

fn told(found: &[Finding]) -> String {
    text(found, |_, text| text.to_owned())
}

/// What is said when one thing is done to a healthy server.
fn after(change: impl FnOnce(&mut Health)) -> String {
    let mut health = well();
    change(&mut health);
    told(&found(health, &view()))
}

#[test]
fn a_healthy_server_is_left_alone() {
    assert_eq!(found(well(), &view()), []);
    // Nothing runs there yet.
    let bare = Facts { health: Some(Health { now: 1_000_000, ..Health::default() }), ..Facts::default() };
    assert_eq!(diagnose(&config(SITE), &bare, &view()), []);
}

#[test]
fn each_fault_is_named_with_what_mends_it() {
    let faults: [(&str, Plant); 15] = [
        ("disk", |health| health.disks[0].free = 3 << 20),
        ("read-only", |health| health.disks[0].read_only = true),
        ("inodes", |health| health.disks[0].free_inodes = 12),
        ("memory", |health| {
            let message = "Out of memory: Killed process 7 (gunicorn)".into();
            health.killed.push(Killed { at: 1_000_000 - 300, unit: "library@v3.service".into(), message });
        }),
        ("clock", |health| health.now += 7200),
        ("packages", |health| health.packages.push("nginx-core".into())),
        ("database", |health| health.database = Some("could not connect: Connection refused".into())),
        ("password", |health| {
            let why = "FATAL: password authentication failed".to_string();
            health.django.as_mut().unwrap().databases.insert("default".into(), why);
        }),
        ("redis", |health| {
            health.units[2].state = "inactive".into();
            health.redis = Some("Could not connect to Redis".into());
        }),
        ("nginx", |health| {
            health.nginx = Some("unknown directive \"servr\" in /etc/nginx/conf.d/a.conf:1".into())
        }),
        ("port", |health| health.listeners[0] = listener(80, "apache2", 44, "apache2.service")),
        ("permissions", |health| {
            health.permissions.push(Permission {
                path: "/srv/library/shared/media".into(),
                what: "the site can't write to it".into(),
                is: "root:root, mode 755".into(),
                user: "library".into(),
            });
        }),
        ("migration", |health| {
            health.django.as_mut().unwrap().unapplied = vec!["catalog.0004_rating".into()];
        }),
        ("worker", |health| {
            health.units[5] = HealthUnit {
                state: "activating".into(),
                sub: "auto-restart".into(),
                result: "exit-code".into(),
                status: 3,
                restarts: 17,
                log: vec!["no broker".into()],
                ..health.units[5].clone()
            };
        }),
        ("web", |health| health.units[4].state = "inactive".into()),
    ];
    let all: String = faults
        .into_iter()
        .map(|(name, change)| format!("{name}:\n{}", after(change)))
        .collect::<Vec<_>>()
        .join("");
    insta::assert_snapshot!(all, @r#"
    disk:
    ✗ / is full: 3.1 MB free of 21 GB
      → see what fills it: ship ssh -- 'sudo du -xh -d 3 / | sort -h | tail -n 20'
    read-only:
    ✗ nothing can be written to /: the kernel mounts a disk so when it fails
      → fetch a copy (`ship db dump`), then look: ship ssh -- 'sudo dmesg | tail -n 40'
    inodes:
    ✗ / has room for 12 more files only: it holds 1299988
      → see where they are: ship ssh -- 'sudo du -x --inodes -d 3 / | sort -n | tail -n 20'
    memory:
    ✗ a process of library@v3.service was killed 5 min ago, as the kernel does when memory runs out
        Out of memory: Killed process 7 (gunicorn)
      → fewer processes (`ship scale web=1`), or a server with more memory; `ship ps` shows who takes it
    clock:
    ✗ the server's clock is 2 h ahead of this computer's
      → the server follows a time server: set this computer's clock
    packages:
    ✗ dpkg has left 1 package half-way: nginx-core
      → ship ssh -- 'sudo dpkg --configure -a && sudo apt-get -f -y install'
    database:
    ✗ PostgreSQL does not answer
        could not connect: Connection refused
      → ship ssh -- sudo systemctl restart postgresql
    password:
    ✗ Django can't open its database `default`
        FATAL: password authentication failed
      → ship ssh -- sudo rm /etc/ship/library/config/05-database.env && ship up
    redis:
    ✗ Redis does not run: redis-server.service is inactive
        Could not connect to Redis
      → ship ssh -- sudo systemctl restart redis-server
    nginx:
    ✗ nginx would not start with its configuration, and takes no changes
        unknown directive "servr" in /etc/nginx/conf.d/a.conf:1
      → mend or remove that file (`ship ssh`); `ship up` puts ship's own back
    port:
    ✗ apache2 (process 44) has port 80, which nginx needs
      → ship ssh -- sudo systemctl disable --now apache2.service && ship up
    permissions:
    ✗ /srv/library/shared/media (root:root, mode 755): the site can't write to it
      → ship up
    migration:
    ✗ the database lacks catalog.0004_rating
      → ship manage migrate
    worker:
    ✗ worker ended with exit code 3, again and again: 17 restarts (library-worker@v3.service)
        no broker
      → `ship logs -n 50 --process worker` shows why, `ship restart worker` tries again, `ship rollback` goes back
    web:
    ✗ web does not run: it is inactive (library@v3.service)
      → ship up
    "#);
}

#[test]
fn what_is_seen_from_here_counts_too() {
    let mut seen = view();
    seen.closed = Some("no answer within 10 s".into());
    seen.astray = vec![("library.example.com".into(), "it leads to 203.0.113.99".into())];
    seen.drift = vec!["update file /etc/nginx/sites-available/library.conf: the site".into()];
    insta::assert_snapshot!(told(&found(well(), &seen)), @r"
    ✗ port 80 is closed between here and the server, which itself gets an answer: no answer within 10 s
      → open port 80 (http) in the firewall of the server's provider

    Also, perhaps because of it:

    ✗ library.example.com does not lead to this server: it leads to 203.0.113.99
      → set the record library.example.com A 203.0.113.7 where its DNS is kept, unless a proxy of yours answers there
    ✗ the server is not as ship.yml says: 1 change to make
        update file /etc/nginx/sites-available/library.conf: the site
      → `ship plan` shows the differences, `ship up` makes it so
    ");
    // Nobody answers there either: the wall is not what keeps them out.
    let mut health = well();
    health.answer = Some(Answer { status: None, error: Some("Connection refused".into()) });
    assert_eq!(found(health, &seen)[0].fault, Fault::Site);
}

#[test]
fn the_cause_comes_before_what_it_brings_about() {
    let mut health = well();
    health.answer = Some(Answer { status: Some(500), error: None });
    health.units[4].state = "failed".into();
    health.database = Some("could not connect".into());
    health.disks[0].free = 0;
    health.killed.push(Killed { at: 1_000_000 - 9 * 3600, ..Killed::default() });
    let faults: Vec<Fault> = found(health, &view()).iter().map(|finding| finding.fault).collect();
    assert_eq!(faults, [Fault::Disk, Fault::Database, Fault::Process, Fault::Site, Fault::EarlierMemory]);
}

#[test]
fn small_disks_and_close_clocks_are_well() {
    let mut health = well();
    health.now += 30;
    health.disks.push(Disk { at: "/boot".into(), total: 400 << 20, free: 40 << 20, ..Disk::default() });
    assert_eq!(found(health, &view()), []);
    // A slow line is no clock that is wrong.
    let slow = View { asked_s: (1_000_000 - 500, 1_000_000 + 500), ..view() };
    assert_eq!(found(well(), &slow), []);
    let mut behind = well();
    behind.now -= 86_400 * 3;
    assert!(found(behind, &view())[0].what.contains("3 days behind"));
}
