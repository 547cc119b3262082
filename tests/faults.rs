//! What breaks in the middle, and what the next `ship up` makes of it.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::boxes::TestBox;
use crate::support::{Project, Ran, get, noise, wait_for};

/// Ends it as a crash or a dead laptop would: without a chance to say goodbye.
fn kill(mut ship: Child) {
    ship.kill().expect("kill ship");
    ship.wait().expect("wait for ship");
}

fn signal(ship: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &ship.id().to_string()]).status();
    assert!(sent.expect("run kill").success());
}

fn holds(server: &TestBox, condition: &str) -> bool {
    server.exec_status(condition).status.success()
}

/// Waits for the worst moment: dpkg at work, with packages half unpacked or half configured.
fn wait_for_dpkg(server: &TestBox) {
    wait_for("dpkg in the middle of the packages", 120, || {
        holds(
            server,
            "pgrep -x dpkg >/dev/null && dpkg-query -W -f '${db:Status-Abbrev}\\n' | grep -q '^i[UFHW]'",
        )
    });
}

/// What must be true once everything was finished, whatever came before.
fn finished(server: &TestBox, project: &Project) {
    project.up();
    assert_eq!(get(server, "/").status, 200);
    assert_eq!(server.exec("dpkg --audit"), "", "packages are left half-way");
    assert!(holds(server, "flock -n /var/lib/ship/library/lock true"), "the deploy lock is still held");
    assert_eq!(server.exec("cat /var/lib/ship/library/applying 2>/dev/null || true"), "");
    assert_eq!(server.exec("systemctl list-units --all --no-legend 'ship-library-*'"), "");
    project.up().says("Nothing to change");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn ship_is_killed_while_apt_runs() {
    let server = TestBox::builder().boot();
    let project = Project::new(&server);
    let ship = project.start_up();
    wait_for_dpkg(&server);
    kill(ship);
    // The server goes on by itself, and the next `up` follows it: nothing is started twice.
    let next = project.up().says("following it");
    assert!(!next.stderr.contains("half-configured"), "{}", next.stderr);
    finished(&server, &project);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn the_network_is_cut_while_apt_runs() {
    let server = TestBox::builder().boot();
    let project = Project::new(&server);
    let ship = project.start_up();
    wait_for_dpkg(&server);
    server.cut();
    let began = Instant::now();
    let gone = Ran::finished(ship).exits(4).says("was lost").says("`ship up` follows it or carries on");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?} to notice\n{}", began.elapsed(), gone.stderr);
    server.heal();
    finished(&server, &project);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn the_power_fails_while_dpkg_runs() {
    let server = TestBox::builder().boot();
    let project = Project::new(&server);
    let ship = project.start_up();
    wait_for_dpkg(&server);
    server.kill();
    kill(ship);
    server.start();
    assert_ne!(server.exec("dpkg --audit"), "", "the power failed too late to break anything");
    finished(&server, &project);
}

/// When an apply held the lock, by its journal: first and last line's time in milliseconds.
fn spans(server: &TestBox) -> Vec<(u64, u64)> {
    let journals = server.exec("cd /var/lib/ship/library/apply && for id in *; do grep -a . \"$id/journal\" | grep -aE '\tbegin |\tend [0-9]' | tr -d '\\036' | cut -f1 | tr '\\n' ' '; echo; done");
    let span = |line: &str| {
        let times: Vec<u64> = line.split_whitespace().map(|at| at.parse().unwrap()).collect();
        (times.len() == 2).then(|| (times[0], times[1]))
    };
    journals.lines().filter_map(span).collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn uploads_that_break_off_and_deploys_that_meet() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.put_on_page("first");
    project.up();

    // Two laptops at once, with different code each: one after the other.
    let other = Project::new(&server);
    other.put_on_page("other");
    project.put_on_page("second");
    let (one, two) = (project.start_up(), other.start_up());
    let (one, two) = (Ran::finished(one).exits(0), Ran::finished(two).exits(0));
    let spans = spans(&server);
    assert!(spans.len() >= 3, "{spans:?}\n{}\n{}", one.stderr, two.stderr);
    for (index, (begin, end)) in spans.iter().enumerate() {
        for (other_begin, other_end) in spans.iter().skip(index + 1) {
            assert!(end <= other_begin || other_end <= begin, "two applies at once: {spans:?}");
        }
    }
    let releases = server.exec("cat /var/lib/ship/library/releases.jsonl");
    assert_eq!(releases.lines().count(), 3, "{releases}");

    // The laptop dies half-way through a large upload. What arrived is not taken for the whole.
    project.put_on_page("third");
    std::fs::write(project.dir.join("noise.bin"), noise(0)).unwrap();
    let ship = project.start_up();
    let part = "ls /var/lib/ship/library/apply/*/upload.part >/dev/null 2>&1";
    wait_for("the upload to begin", 30, || holds(&server, part));
    signal(&ship, "STOP");
    assert!(holds(&server, part), "the upload was over before ship could be stopped");
    kill(ship);
    wait_for("the apply to end by itself", 45, || {
        server.exec("systemctl list-units --all --no-legend 'ship-library-*'").is_empty()
    });
    let page = get(&server, "/").text();
    assert!(page.contains("second") || page.contains("other"), "the old release no longer serves");
    finished(&server, &project);
    assert!(get(&server, "/").text().contains("third"));

    // The laptop falls asleep instead, and another one deploys: it waits, but not for ever.
    project.put_on_page("fourth");
    std::fs::write(project.dir.join("noise.bin"), noise(1)).unwrap();
    let asleep = project.start_up();
    wait_for("the upload to begin", 30, || holds(&server, part));
    signal(&asleep, "STOP");
    let began = Instant::now();
    other.put_on_page("fifth");
    other.up().says("following it");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(get(&server, "/").text().contains("fifth"));
    signal(&asleep, "CONT");
    Ran::finished(asleep).exits(1).says("upload");
    assert!(get(&server, "/").text().contains("fifth"), "the sleeper woke up and broke the site");
    finished(&server, &project);
}
