//! What breaks in the middle, and what the next `ship up` makes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::boxes::TestBox;
use crate::support::{Project, Ran, get, wait_for};

/// A `ship up --yes` that is under way.
fn start(project: &Project) -> Child {
    project.command(&["up", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run ship")
}

/// Ends it as a crash or a closed laptop would: without a chance to say goodbye.
fn kill(mut ship: Child) {
    ship.kill().expect("kill ship");
    ship.wait().expect("wait for ship");
}

fn holds(server: &TestBox, condition: &str) -> bool {
    server.exec_status(condition).status.success()
}

/// Waits until dpkg itself is unpacking or configuring packages for ship: the worst moment.
fn wait_for_dpkg(server: &TestBox) {
    wait_for("dpkg to be in the middle of nginx and PostgreSQL", 120, || {
        holds(server, "pgrep -x dpkg >/dev/null && ! dpkg-query -W -f '${db:Status-Status}' nginx-common postgresql-15 2>/dev/null | grep -qv installed && dpkg -l | grep -q '^i[UFH]'")
    });
}

/// What must be true once everything was finished, whatever came before.
fn finished(server: &TestBox, project: &Project) {
    assert_eq!(get(server, "/").status, 200);
    assert_eq!(server.exec("dpkg --audit"), "", "packages are left half-way");
    assert!(holds(server, "flock -n /var/lib/ship/library/lock true"), "the deploy lock is still held");
    assert_eq!(server.exec("ls /var/lib/ship/library/applying 2>/dev/null || true"), "");
    assert_eq!(server.exec("systemctl list-units --all --no-legend 'ship-library-*'"), "");
    project.up().says("Nothing to change");
}
