//! Servers and laptops that are set up unlike most.

use crate::boxes::{Sudo, TestBox};
use crate::support::{Project, Ran, get};

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
