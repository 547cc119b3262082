//! Servers and laptops that are set up unlike most.

use crate::boxes::{Sudo, TestBox};
use crate::support::{Project, Ran, get, wait_for};

/// Everything at once, since each is harmless to the others.
const ODD: &str = "
set -e
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq -y install --no-install-recommends csh locales; } >/dev/null 2>&1
localedef -i tr_TR -f UTF-8 tr_TR.UTF-8
printf 'LANG=tr_TR.UTF-8\\nLC_ALL=tr_TR.UTF-8\\n' | tee /etc/default/locale >>/etc/environment
sed -i 's/^UMASK.*/UMASK 077/' /etc/login.defs
usermod -s /bin/csh deploy
printf 'umask 077\\necho \"Welcome to this server. [uyarı] %%s $HOME\"\\n' >/home/deploy/.cshrc
printf 'umask 077\\n' >>/root/.profile
echo 'Authorised users only!' >/etc/motd
printf 'Banner /etc/motd\\n' >/etc/ssh/sshd_config.d/banner.conf
systemctl reload ssh
hostname nowhere-to-be-found
echo nowhere-to-be-found >/etc/hostname
mount -t tmpfs -o noexec,nosuid tmpfs /tmp
";

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn an_odd_server_and_a_laptop_whose_clock_is_off_by_a_day() {
    let server = TestBox::builder().user("deploy", Sudo::NoPassword).boot();
    server.exec(ODD);
    let project = Project::for_user(&server, "deploy");
    let faketime = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(std::path::Path::new(faketime).exists(), "apt-get install faketime");
    // A box has this machine's clock, so it is the laptop's that is wrong.
    let up = |skew: &str| {
        let mut ship = project.command(&["up", "--yes"]);
        ship.env("LD_PRELOAD", faketime).env("FAKETIME", skew).env("LC_ALL", "tr_TR.UTF-8");
        Ran::of(&mut ship).exits(0)
    };
    up("-1d").says("v1 serves");
    assert_eq!(get(&server, "/").status, 200);
    assert_eq!(get(&server, "/static/catalog/site.css").status, 200);
    up("+1d").says("Nothing to change: v1");
    project.put_on_page("second");
    up("+1d").says("v2 serves");
    assert!(get(&server, "/").text().contains("second"));
    project.ship(&["config", "set", "GREETING=merhaba"]).exits(0).says("v3");
    assert_eq!(project.ship(&["run", "echo $GREETING; umask"]).exits(0).stdout, "merhaba\n0022\n");
    project.up().says("Nothing to change: v3");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_database_server_that_does_not_run_is_started_and_kept_as_it_is() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.up().says("v1 serves");
    let rows = "cd /; runuser -u postgres -- psql -Atc 'select count(*) from catalog_book' library";
    let before = server.exec(rows);
    // As after a power loss, while it still recovers: nobody can say which roles and databases it has.
    server.exec("systemctl stop postgresql.service 'postgresql@*.service'");
    project.up().says("start postgresql.service").says("v1 serves");
    assert_eq!(server.exec(rows), before);
    assert_eq!(get(&server, "/").status, 200);
    project.up().says("Nothing to change: v1");
}

/// What the box's `date` says from now on: `shift` like `+1d`.
fn shift_clock(server: &TestBox, shift: &str) {
    server.write("/etc/shift", shift);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_server_whose_clock_is_off_by_a_day_and_leaps_in_the_middle_of_a_deploy() {
    let server = TestBox::builder().packages(true).boot();
    // A box has this machine's clock, so it is what tells ship's steps the time that is shifted; a process of Python's or
    // systemd's can't be, since libfaketime breaks their waiting.
    server.exec(
        "{ apt-get -qq update && apt-get -qq -y install --no-install-recommends libfaketime; } >/dev/null 2>&1
         mv /usr/bin/date /usr/bin/date.real
         printf '%s\\n' '#!/bin/sh' 'export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1' \
           'export FAKETIME=\"$(cat /etc/shift)\"' 'exec /usr/bin/date.real \"$@\"' >/usr/bin/date
         chmod 755 /usr/bin/date",
    );
    shift_clock(&server, "-1d");
    let day = || server.exec("date +%s").trim().parse::<i64>().unwrap() / 3600;
    let real = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap() / 3600
    };
    assert_eq!((day() - real()).abs(), 24, "the box has another day");
    let project = Project::new(&server);
    project.up().says("v1 serves");
    project.up().says("Nothing to change: v1");
    for (round, shift) in [(2, "+1d"), (3, "-1d"), (4, "+0")] {
        project.put_on_page(&format!("round {round}"));
        let ship = project.start_up();
        wait_for("the server to be in the middle of it", 60, || {
            server.exec_status("grep -q preflight /var/lib/ship/library/apply/*/journal").status.success()
        });
        shift_clock(&server, shift);
        Ran::finished(ship).exits(0).says(&format!("v{round} serves"));
        assert!(get(&server, "/").text().contains(&format!("round {round}")));
        project.up().says(&format!("Nothing to change: v{round}"));
    }
    project.ship(&["rollback"]).exits(0).says("v5 serves");
    project.ship(&["config", "set", "GREETING=hello"]).exits(0).says("v6");
}
