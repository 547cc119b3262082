//! Deploys that meet, and the user's Ctrl-C.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::how_many;
use super::load::{Load, add_form};
use crate::boxes::TestBox;
use crate::support::{Project, Ran, get, wait_for};

/// A step that lasts until the test says so.
const HOLD: &str = "\
- command: hold the deploy
  why: until the test says so
  unless: test -e /run/held
  run: |
    until [ -e /run/go ]; do sleep 0.05; done
    mv /run/go /run/held
";

fn interrupt(ship: &Child) {
    let sent = Command::new("kill").args(["-s", "INT", &ship.id().to_string()]).status();
    assert!(sent.expect("run kill").success());
}

fn holds(server: &TestBox, condition: &str) -> bool {
    server.exec_status(condition).status.success()
}

/// Waits until the step that holds is what the server is at.
fn wait_for_hold(server: &TestBox) {
    wait_for("the step that holds", 120, || {
        holds(server, "tail -n 1 /var/lib/ship/library/apply/*/journal | grep -q 'hold the deploy'")
    });
}

fn wait_for_stop(server: &TestBox) {
    wait_for("the server to hear of it", 20, || holds(server, "ls /var/lib/ship/library/apply/*/stop"));
}

fn release(server: &TestBox) {
    server.exec("touch /run/go");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_second_deploy_shows_the_first_and_ctrl_c_is_clean() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.write("hold.yml", HOLD);
    project.config("playbooks: [./hold.yml]");

    // Ctrl-C once: the step ends, the next one does not begin, and the next `up` carries on.
    let ship = project.start_up();
    wait_for_hold(&server);
    project.ship(&["status"]).exits(0).says("tester@").says("`hold the deploy`");
    project
        .ship(&["up", "--yes", "--no-wait"])
        .exits(1)
        .says("tester@")
        .says("has been changing this server since 20")
        .says("at step ")
        .says("`hold the deploy`");
    interrupt(&ship);
    wait_for_stop(&server);
    release(&server);
    Ran::finished(ship)
        .exits(130)
        .says("stopping after this step")
        .says("stopped after `")
        .says("hold the deploy")
        .says("`ship up` carries on with `");
    assert!(!holds(&server, "test -e /srv/library/current"), "it went on");
    assert!(holds(&server, "flock -n /var/lib/ship/library/lock true"), "the lock is still held");
    project.up().says("v1 serves");

    // Ctrl-C twice: gone at once. The server ends its step and stops there.
    server.exec("rm /run/held");
    project.put_on_page("second");
    let ship = project.start_up();
    wait_for_hold(&server);
    interrupt(&ship);
    wait_for_stop(&server);
    // Its own log of the first press may come a moment after the server's.
    let pressed = Instant::now();
    let mut ship = ship;
    wait_for("ship to leave", 20, || {
        interrupt(&ship);
        ship.try_wait().unwrap().is_some()
    });
    assert!(pressed.elapsed() < Duration::from_secs(5), "{:?}", pressed.elapsed());
    Ran::finished(ship).exits(130).says("left; the server finishes ").says("hold the deploy");
    let waiting = project.start_up();
    release(&server);
    Ran::finished(waiting).exits(0).says("v2 serves");
    assert!(get(&server, "/").text().contains("second"));

    // Ctrl-C while nothing is changed: the program ends.
    server.cut();
    let ship = project.start_up();
    let pressed = Instant::now();
    wait_for("ship to have its own Ctrl-C", 10, || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", ship.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & 2 != 0
    });
    interrupt(&ship);
    Ran::finished(ship).exits(130);
    assert!(pressed.elapsed() < Duration::from_secs(10));
    server.heal();
    project.up().says("Nothing to change: v2");
}

/// Begin and end of every apply, by the server's journals, in milliseconds.
fn spans(server: &TestBox) -> Vec<(u64, u64)> {
    let journals = server.exec(
        "cd /var/lib/ship/library/apply && for id in *; do
           grep -aE '\tbegin |\tend [0-9]' \"$id/journal\" | tr -d '\\036' | cut -f1 | tr '\\n' ' '; echo
         done",
    );
    let span = |line: &str| {
        let times: Vec<u64> = line.split_whitespace().map(|at| at.parse().unwrap()).collect();
        (times.len() == 2).then(|| (times[0], times[1]))
    };
    let mut spans: Vec<(u64, u64)> = journals.lines().filter_map(span).collect();
    spans.sort_unstable();
    spans
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn five_deploys_at_once_go_one_after_the_other() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    add_form(&project);
    project.up().says("v1 serves");
    let others: Vec<Project> = (0..5).map(|_| Project::new(&server)).collect();
    for round in 0..how_many(1, 5) {
        let load = Load::start(&server, &format!("five{round}"));
        for (index, other) in others.iter().enumerate() {
            if round == 0 {
                add_form(other);
            }
            other.write("templates/marker.html", &format!("round {round}, laptop {index}"));
        }
        let before = server.exec("wc -l </var/lib/ship/library/releases.jsonl");
        let ships: Vec<Child> = others.iter().map(Project::start_up).collect();
        for ship in ships {
            Ran::finished(ship).exits(0);
        }
        let spans = spans(&server);
        assert!(spans.len() >= 5, "{spans:?}");
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two applies at once: {spans:?}");
        }
        let count = |text: &str| text.trim().parse::<usize>().unwrap();
        let after = server.exec("wc -l </var/lib/ship/library/releases.jsonl");
        assert_eq!(count(&after) - count(&before), 5, "each is a release of its own");
        load.stop().assert_whole(&server);
    }
}
