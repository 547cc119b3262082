//! Facts: what real servers said to the probe, kept under `tests/fixtures/facts`, and how it is read.
//!
//! `record` asks real boxes anew; it is a test too, since what it records must be readable.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ship::facts::path::PathKind;
use ship::facts::{self, Ask, Facts};
use ship::shell::Script;

use crate::boxes::{Suite, TestBox};
use crate::support::Project;

/// Something of every kind.
fn asks() -> BTreeSet<Ask> {
    let path = |path: &str| Ask::Path { path: path.into(), unless_sha256: None };
    BTreeSet::from([
        Ask::Host,
        Ask::Package("nginx".into()),
        Ask::Package("redis-server".into()),
        path("/etc/nginx/sites-enabled/library.conf"),
        path("/srv/library/shared/media"),
        path("/dev/null"),
        path("/nowhere"),
        Ask::Path { path: "/etc/hostname".into(), unless_sha256: Some("other".into()) },
        Ask::User("library".into()),
        Ask::User("nobody".into()),
        Ask::Group("library".into()),
        Ask::Group("nogroup".into()),
        Ask::Unit("nginx.service".into()),
        Ask::Unit("nowhere.service".into()),
        Ask::Unit("ssh.service".into()),
        Ask::PostgresRole("library".into()),
        Ask::PostgresDatabase("library".into()),
        Ask::Check { name: "good".into(), script: Script::from_text("test -d /etc") },
        Ask::Check { name: "it's bad".into(), script: Script::from_text("exit 3") },
        Ask::App { app: "library".into(), tree: "other".into() },
    ])
}

fn recorded(name: &str) -> Facts {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    facts::parse(&asks(), &text).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/facts").join(name)
}

#[test]
fn a_bare_debian_12_has_nothing_yet() {
    let facts = recorded("bookworm-bare.txt");
    assert_eq!((facts.host.os.as_str(), facts.host.os_version.as_str()), ("debian", "12"));
    assert!(facts.host.is_supported());
    assert!(facts.host.python.as_deref().is_some_and(|version| version.starts_with("3.11.")));
    assert!(facts.host.memory_mb > 0 && facts.host.cores > 0 && facts.host.free_mb > 0);
    assert!(!facts.packages.get("nginx").is_some_and(|package| package.installed));
    assert!(facts.broken_packages.is_empty());
    assert!(!facts.users.contains_key("library") && facts.users.contains_key("nobody"));
    assert_eq!(facts.groups, BTreeSet::from(["nogroup".to_string()]));
    assert!(!facts.units["nginx.service"].loaded && facts.units["ssh.service"].active);
    assert!(facts.postgres_roles.is_empty() && facts.postgres_databases.is_empty());
    assert_eq!(facts.checks.get("good"), Some(&true));
    assert_eq!(facts.checks.get("it's bad"), Some(&false));
    assert_eq!(facts.app, facts::app::App::default());
}

#[test]
fn debian_13_reads_the_same() {
    let facts = recorded("trixie-bare.txt");
    assert_eq!(facts.host.os_version, "13");
    assert!(facts.host.python.as_deref().is_some_and(|version| version.starts_with("3.13.")));
    assert!(facts.units["ssh.service"].active);
    assert_eq!(facts.paths["/dev/null"].kind, PathKind::Other);
}

#[test]
fn a_deployed_server_tells_everything() {
    let facts = recorded("bookworm-deployed.txt");
    assert!(facts.packages["nginx"].installed);
    assert!(!facts.packages.get("redis-server").is_some_and(|package| package.installed));
    assert_eq!(facts.users["library"].home, "/srv/library");
    assert!(facts.units["nginx.service"].active);
    assert_eq!(facts.units["nginx.service"].file_state, "enabled");
    assert!(facts.postgres_roles.contains("library"));
    assert_eq!(facts.postgres_databases["library"].owner, "library");
    let link = PathKind::Link { to: "/etc/nginx/sites-available/library.conf".into() };
    assert_eq!(facts.paths["/etc/nginx/sites-enabled/library.conf"].kind, link);
    assert_eq!(facts.paths["/srv/library/shared/media"].owner, "library");
    assert!(!facts.paths.contains_key("/nowhere"));
    let PathKind::File { content: Some(content), .. } = &facts.paths["/etc/hostname"].kind else {
        panic!("no content of /etc/hostname: {:?}", facts.paths["/etc/hostname"]);
    };
    assert!(!content.is_empty());

    let app = &facts.app;
    assert_eq!((app.current, app.generation > 0), (Some(1), true));
    let (number, live) = app.live().unwrap();
    assert_eq!((number, app.releases.len(), app.next_number()), (1, 1, 2));
    assert_eq!(app.releases[0].who.split('@').next(), Some("tester"));
    assert!(live.tree.is_some() && live.answer.is_some() && live.recipe.is_some());
    assert!(app.venvs.contains(live.venv.as_ref().unwrap()));
    assert_eq!(app.config, live.config, "the environment is the one it was released with");
    assert!(app.manifest.as_ref().unwrap().contains(" manage.py\n"));
    assert_eq!(app.active["library@v1.service"].state, "active");
    assert!(app.enabled.contains("library@v1.service"));
    assert_eq!(app.applying, None);
}

#[test]
fn a_probe_that_stops_half_way_is_an_error() {
    let whole = std::fs::read_to_string(fixture("bookworm-deployed.txt")).unwrap();
    let half: String = whole.chars().take(whole.chars().count() / 2).collect();
    assert!(facts::parse(&asks(), &half).is_err());
    assert!(facts::parse(&asks(), "").is_err());
}

#[test]
fn a_packed_answer_is_the_answer() {
    let script = facts::packing(&Script::from_text("printf 'x%.0s' 1 2 3\necho").line("seq 5"));
    let output = std::process::Command::new("sh").arg("-c").arg(script.text()).output().unwrap();
    assert_eq!(facts::unpacked(&output.stdout), "xxx\n1\n2\n3\n4\n5\n");
    // What a lost connection leaves of it is no answer.
    let half = facts::unpacked(output.stdout.get(..output.stdout.len() / 2).unwrap());
    assert!(facts::parse(&asks(), &half).is_err());
    assert!(facts::parse(&asks(), &facts::unpacked(b"sh: 1: gzip: not found")).is_err());
}

proptest::proptest! {
    /// Whatever a server prints, reading it never panics.
    #[test]
    fn any_answer_is_read_or_refused(text in "(\u{1e}(host|package|path|user|unit|postgres|mysql|check|app|end)\n)?[ -~\t\n]{0,200}") {
        let _ = facts::parse(&asks(), &text);
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn record() {
    let ask = |server: &TestBox| {
        let output = server.ssh(facts::probe_script(&asks()).text());
        facts::parse(&asks(), &output).unwrap();
        output
    };
    let bookworm = TestBox::builder().suite(Suite::Bookworm).boot();
    let bare = ask(&bookworm);
    drop(bookworm);
    let trixie = ask(&TestBox::builder().suite(Suite::Trixie).boot());
    let server = TestBox::builder().suite(Suite::Bookworm).packages(true).boot();
    Project::new(&server).up();
    let deployed = ask(&server);
    if std::env::var_os("SHIP_RECORD_FACTS").is_some() {
        for (name, text) in
            [("bookworm-bare", bare), ("trixie-bare", trixie), ("bookworm-deployed", deployed)]
        {
            std::fs::create_dir_all(fixture("")).unwrap();
            std::fs::write(fixture(&format!("{name}.txt")), text).unwrap();
        }
    }
}
