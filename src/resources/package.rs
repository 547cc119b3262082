//! Debian packages, all missing ones in one apt transaction.

use crate::facts::{Ask, Facts};
use crate::plan::{Action, Change, ResourceId, Step};
use crate::shell::{Cmd, Script};

use super::{DiffError, Resource};

const KIND: &str = "package";

/// Waits for whatever else installs packages (cloud-init, unattended upgrades), then runs apt-get.
/// The index is only fetched when it is older than a day or does not satisfy the request.
const APT: &str = r#"export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none
if command -v cloud-init >/dev/null 2>&1 && [ -e /run/cloud-init/enabled ]; then
  timeout 900 cloud-init status --wait >/dev/null 2>&1 || true
fi
apt() {
  tries=0
  # Fetching the index never ends on a full disk; installing must never be cut.
  limit=; [ "$1" != update ] || limit='timeout 600'
  while :; do
    rc=0
    $limit apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" >"$log" 2>&1 || rc=$?
    cat "$log"
    # DPkg::Lock::Timeout does not cover the lock of the package lists.
    if [ $rc -ne 0 ] && [ $tries -lt 120 ] && grep -q 'Could not get lock /var/lib/apt/lists' "$log"; then
      tries=$((tries + 1)); echo 'another program holds the apt lock; waiting'; sleep 5; continue
    fi
    return $rc
  done
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"#;

/// A package that should be installed, or absent.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Whether it should be installed.
    pub installed: bool,
    /// Why the server needs it.
    pub why: String,
}

impl Resource for Package {
    fn id(&self) -> ResourceId {
        ResourceId::new(KIND, &self.name)
    }

    fn asks(&self) -> Vec<Ask> {
        vec![Ask::Package(self.name.clone())]
    }

    fn diff(&self, facts: &Facts) -> Result<Vec<Change>, DiffError> {
        let installed = facts.packages.get(&self.name).is_some_and(|package| package.installed);
        Ok(match (self.installed, installed) {
            (true, true) | (false, false) => Vec::new(),
            (true, false) => {
                let why = if self.why.is_empty() { "not installed".to_string() } else { self.why.clone() };
                vec![Change::new(self.id(), Action::Create, why, Vec::new())]
            }
            (false, true) => {
                let script = Script::fixed(APT)
                    .cmd(Cmd::new("apt").arg("remove").arg("--auto-remove").arg("--").arg(&self.name));
                vec![Change::run(self.id(), Action::Remove, "installed", script)]
            }
        })
    }
}

/// Puts all missing packages into one transaction, at the place of the first, and mends what dpkg left
/// half-way before it.
pub fn merge(changes: Vec<Change>, broken: &[String]) -> Vec<Change> {
    let is_install = |change: &Change| change.id.kind == KIND && change.action == Action::Create;
    let names: Vec<String> =
        changes.iter().filter(|change| is_install(change)).map(|change| change.id.name.clone()).collect();
    let mut merged = Vec::with_capacity(changes.len());
    if !broken.is_empty() {
        merged.push(Change::run(
            ResourceId::new(KIND, broken.join(", ")),
            Action::Update,
            "left half-configured by an interrupted installation",
            mend_script(),
        ));
    }
    // What a later step starts, with its settings in place, no package needs to start with its own.
    let units = changes.iter().filter(|change| change.id.kind == "unit");
    let units = units.filter(|change| change.action == Action::Start);
    let units: Vec<&str> = units.filter_map(|change| change.id.name.strip_suffix(".service")).collect();
    let install = install_script(&names, &units, changes.iter().filter_map(|change| change.early.as_ref()));
    let mut placed = false;
    for change in changes {
        if !is_install(&change) {
            merged.push(change);
        } else if !placed {
            placed = true;
            merged.push(Change::new(
                ResourceId::new(KIND, names.join(", ")),
                Action::Create,
                if names.len() == 1 { change.why } else { "not installed".into() },
                vec![Step::Run(install.clone())],
            ));
        }
    }
    merged
}

fn mend_script() -> Script {
    Script::fixed(APT)
        .cmd(Cmd::new("dpkg").arg("--force-confold").arg("--configure").arg("-a"))
        .cmd(Cmd::new("apt").arg("--fix-broken").arg("--no-install-recommends").arg("install"))
}

/// Packages that would take the place of others which may hold data: apt removes those without a question.
const BESIDE_NOTHING: [&str; 1] = ["mariadb-server"];

/// Keeps packages from starting what `$later` names, for as long as the step runs.
const START_LATER: &str = r#"policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ] || grep -q '^# Managed by ship' $policy; then
  install -d -m 0755 /run/ship
  echo $$ >/run/ship/installing
  trap 'rm -f "$log" $policy /run/ship/installing' EXIT
  cat >$policy.new <<'END'
#!/bin/sh
# Managed by ship, while it installs packages: what it starts itself, with other settings, they need not start.
installing=$(cat /run/ship/installing 2>/dev/null) && kill -0 "$installing" 2>/dev/null || exit 0
case "$2 $(cat /run/ship/later)" in *start*" ${1%.service} "*) exit 101 ;; esac
END
  printf ' %s \n' "$later" >/run/ship/later
  chmod 0755 $policy.new
  mv $policy.new $policy
fi
"#;

fn install_script<'a>(names: &[String], later: &[&str], early: impl Iterator<Item = &'a Script>) -> Script {
    let install = Cmd::new("apt").arg("install").arg("--no-install-recommends");
    let keep = names.iter().any(|name| BESIDE_NOTHING.contains(&name.as_str()));
    let install = if keep { install.arg("--no-remove") } else { install };
    let install = install.arg("--").args(names);
    let mut script = Script::fixed(APT);
    if !later.is_empty() {
        script = script.set("later", later.join(" ")).then(&Script::fixed(START_LATER));
    }
    script = script
        .line("fresh=$(find /var/lib/apt/lists -maxdepth 1 -name '*InRelease' -mmin -1440 2>/dev/null | head -n 1)")
        .line("[ -n \"$fresh\" ] || apt update");
    let mut early = early.peekable();
    if early.peek().is_some() {
        // One may need what the one before brings, but none has to succeed.
        script = script.line("(").line("set +e");
        for early in early {
            script = script.line("( set -e").then(early).line(")");
        }
        script = script.line(") </dev/null >/dev/null 2>&1 &");
    }
    script
        .line(&format!("if ! {}; then", install.text()))
        .line("  [ -n \"$fresh\" ] || exit \"$rc\"")
        .line("  apt update")
        .line(&format!("  {}", install.text()))
        .line("fi")
        .line("wait")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::package::Package as Fact;

    fn wanted(name: &str, installed: bool) -> Package {
        Package { name: name.into(), installed, why: String::new() }
    }

    fn facts(name: &str, installed: bool) -> Facts {
        let mut facts = Facts::default();
        facts.packages.insert(name.into(), Fact { installed, version: "1".into() });
        facts
    }

    #[test]
    fn create_noop_and_remove() {
        let create = wanted("nginx", true).diff(&Facts::default()).unwrap();
        assert_eq!(create.first().map(|change| change.action), Some(Action::Create));
        assert!(wanted("nginx", true).diff(&facts("nginx", true)).unwrap().is_empty());
        assert!(wanted("nginx", false).diff(&Facts::default()).unwrap().is_empty());
        let remove = wanted("nginx", false).diff(&facts("nginx", true)).unwrap();
        assert_eq!(remove.first().map(|change| change.action), Some(Action::Remove));
    }

    #[test]
    fn missing_packages_share_one_transaction() {
        let changes = ["nginx", "postgresql"]
            .iter()
            .flat_map(|name| wanted(name, true).diff(&Facts::default()).unwrap())
            .collect();
        let merged = merge(changes, &["libx".into()]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[1].id.name, "nginx, postgresql");
        let Step::Run(script) = &merged[1].steps[0] else { panic!("not a script") };
        let text = script.text();
        assert!(
            text.contains("if ! apt install --no-install-recommends -- nginx postgresql; then\n"),
            "{text}"
        );
        assert!(!text.contains("policy-rc.d") && !text.contains("&\n"), "{text}");
    }

    #[test]
    fn what_comes_later_and_what_may_come_early_is_known_to_the_transaction() {
        let unit = |action, name: &str| Change::new(ResourceId::new("unit", name), action, "", Vec::new());
        let early = Change {
            early: Some(Script::from_text("fetch uv")),
            ..Change::new(ResourceId::new("command", "install uv"), Action::Run, "", Vec::new())
        };
        let mut changes = wanted("postgresql", true).diff(&Facts::default()).unwrap();
        changes.extend([
            unit(Action::Start, "postgresql.service"),
            unit(Action::Restart, "nginx.service"),
            early,
        ]);
        let merged = merge(changes, &[]);
        let Step::Run(script) = &merged[0].steps[0] else { panic!("not a script") };
        let text = script.text();
        assert!(text.contains("later=postgresql\n") && text.contains("/usr/sbin/policy-rc.d"), "{text}");
        assert!(
            text.contains("(\nset +e\n( set -e\nfetch uv\n)\n) </dev/null >/dev/null 2>&1 &\n"),
            "{text}"
        );
    }
}
