//! The whole story on a real Vagrant machine (lxc), which ship itself makes, starts again and makes anew.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Browser, Project, Ran};

/// A project whose machine is gone when this is.
struct Machine {
    project: Project,
}

impl Machine {
    fn new() -> Self {
        let setup = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vagrant/setup");
        let ready = Command::new(setup).status().unwrap();
        assert!(ready.success(), "vagrant/setup failed; what it printed says why");
        Self { project: Project::elsewhere("{provider: vagrant, vagrant_provider: lxc}") }
    }

    fn folder(&self) -> PathBuf {
        self.project.dir.join(".ship/vagrant/library")
    }

    /// `ship`, which finds the boxes of the user who runs this.
    fn ship(&self, words: &[&str]) -> Ran {
        Ran::of(self.project.command(words).env("VAGRANT_HOME", vagrant_home()))
    }

    fn vagrant(&self, words: &[&str]) {
        let mut vagrant = Command::new("vagrant");
        let ran = vagrant
            .args(words)
            .current_dir(self.folder())
            .env("VAGRANT_HOME", vagrant_home())
            .output()
            .unwrap();
        assert!(ran.status.success(), "vagrant {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn page(&self, path: &str) -> (u16, String) {
        let config = std::fs::read_to_string(self.folder().join("ssh-config")).unwrap();
        let host = config.lines().find_map(|line| line.trim().strip_prefix("HostName ")).unwrap();
        let response = Browser::open(host).unwrap().request("GET", path, "", b"").unwrap();
        (response.status, response.text())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.folder().join("Vagrantfile").exists() {
            self.vagrant(&["destroy", "-f"]);
        }
    }
}

fn vagrant_home() -> PathBuf {
    let own = std::env::var_os("VAGRANT_HOME").map(PathBuf::from);
    own.unwrap_or_else(|| std::env::home_dir().unwrap().join(".vagrant.d"))
}

#[test]
#[ignore = "needs Vagrant with lxc: scripts/test runs it"]
fn the_whole_story() {
    let machine = Machine::new();
    machine.ship(&["up", "--yes"]).exits(0);
    let (status, page) = machine.page("/books/");
    assert_eq!(status, 200);
    assert!(page.contains("A Tale of Two Cities"), "{page}");
    machine.ship(&["up"]).exits(0).says("Nothing to change: v1 serves http://");
    machine.ship(&["plan"]).exits(0);

    machine.project.put_on_page("A second edition");
    machine.ship(&["plan"]).exits(2);
    machine.ship(&["up", "--yes"]).exits(0).says("v2 serves");
    assert!(machine.page("/").1.contains("A second edition"));

    // Off, and on again: the site is back by itself.
    machine.vagrant(&["halt"]);
    machine.ship(&["plan"]).exits(4).says("hint: start it with `ship up`");
    machine.ship(&["up", "--yes"]).exits(0).says("Nothing to change: v2 serves");
    assert_eq!(machine.page("/").0, 200);

    // Made anew behind ship's back: another address, another host key, nothing on it.
    machine.vagrant(&["destroy", "-f"]);
    machine.ship(&["up", "--yes"]).exits(0).says("v1 serves");
    assert!(machine.page("/").1.contains("A second edition"));
}
