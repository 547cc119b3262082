//! Which Python runs a project: the distribution's when that will do, else one that uv brings.
//!
//! Invariant: a project that no Python here can run is refused before anything is sent.

use crate::config::PythonWish;
use crate::facts::Facts;
use crate::facts::host::Host;
use crate::plan::{Action, Change, ResourceId};
use crate::project::{Bounds, Packages, Version, parse_version};
use crate::shell::Script;

use super::ReleaseError;

/// The minor versions of Python 3 that uv brings: those of python-build-standalone that its releases list.
const MANAGED: std::ops::RangeInclusive<u32> = 8..=14;

/// Releases of Django that can't even be imported by newer Pythons: every one below the first belongs to a Python
/// below the second. Their sources import `collections.Iterator`, gone in 3.10, `distutils`, gone in 3.12, `cgi`, gone in
/// 3.13.
const DJANGO_BELOW: [((u32, u32), u32); 3] = [((2, 1), 10), ((3, 2), 12), ((4, 1), 13)];

/// The Python of a virtual environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// `3.11`.
    pub series: String,
    /// Whether uv brings it.
    pub managed: bool,
    /// Why it is not the distribution's.
    pub why: String,
}

impl Interpreter {
    /// What tells it from any other in the name of a virtual environment.
    pub fn key(&self) -> String {
        if self.managed { format!("{} by uv", self.series) } else { self.series.clone() }
    }

    /// Its program on the server.
    pub fn program(&self) -> String {
        if self.managed {
            format!("/opt/ship/python/{0}/bin/python{0}", self.series)
        } else {
            "/usr/bin/python3".into()
        }
    }

    /// Brings it to the server, unless it is there.
    pub fn install(&self, facts: &Facts, mirror: Option<&str>) -> Option<Change> {
        if !self.managed || facts.host.managed_pythons.contains(&self.series) {
            return None;
        }
        let script = Script::new()
            .set("series", &self.series)
            .set("mirror", mirror.unwrap_or_default())
            .set("why", &self.why)
            .then(&Script::fixed(INSTALL));
        let name = format!("install Python {}", self.series);
        Some(Change::run(ResourceId::new("python", name), Action::Run, self.why.clone(), script))
    }
}

/// Exits with [`super::NEEDS_INPUT`] when the Python can't be had: then it is for the user to ask for another.
const INSTALL: &str = r#"uv=/opt/ship/uv/bin/uv
umask 022
export UV_PYTHON_INSTALL_DIR=/opt/ship/python UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 UV_NO_CONFIG=1 UV_NO_PROGRESS=1 \
  UV_CACHE_DIR=/opt/ship/python/.cache SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
unmet() {
  echo "ship-cause: Python $series can't be had: $1 ($why)"
  echo "ship-hint: the server has $(ls /usr/bin/python3.[0-9]* /opt/ship/python/3.*/bin/python3.[0-9]* 2>/dev/null | sed 's|.*/python||' | grep -x '3\.[0-9]*' | sort -uV | tr '\n' ' ' | sed 's/ $//; s/ /, /g'); \`python:\` in ship.yml takes another than the project's files ask for"
  echo "ship-hint: for a network without GitHub, \`python_mirror:\` in ship.yml names a mirror of python-build-standalone's releases"
  rm -rf "$UV_CACHE_DIR"
  exit 65
}
[ -x $uv ] || unmet 'PyPI has no uv for this machine'
case $mirror in
  *.json) export UV_PYTHON_DOWNLOADS_JSON_URL="$mirror" ;;
  ?*) export UV_PYTHON_INSTALL_MIRROR="$mirror" ;;
esac
install -d -m 0755 "$UV_PYTHON_INSTALL_DIR"
said=$(mktemp)
if ! $uv python install --no-bin "$series" >"$said" 2>&1 </dev/null; then
  cat "$said"
  reason=$(grep -o 'Failed to download `[^`]*`' "$said" | head -n 1 | sed 's/Failed to download/can not download/; s/`//g')
  [ -n "$reason" ] || reason=$(sed -n 's/^error: //p' "$said" | head -n 1)
  rm -f "$said"
  unmet "${reason:-uv could not install it}"
fi
rm -f "$said"
program=$($uv python find --managed-python --no-project "$series" </dev/null)
rm -rf "$UV_CACHE_DIR"
# The name without patch number comes last: it says that all is there.
home=$(dirname "$(dirname "$(readlink -f "$program")")")
chmod -R a+rX "$home"
sync -f "$home"
ln -sfn "$home" "$UV_PYTHON_INSTALL_DIR/.new"
mv -fT "$UV_PYTHON_INSTALL_DIR/.new" "$UV_PYTHON_INSTALL_DIR/$series"
"$UV_PYTHON_INSTALL_DIR/$series/bin/python$series" -V
"#;

/// Decides which Python it is.
pub fn choose(wish: &PythonWish, packages: &Packages, host: &Host) -> Result<Interpreter, ReleaseError> {
    let has = host.python.clone().or_else(|| host.python_candidate.clone()).unwrap_or_else(|| "3".into());
    let own = parse_version(&has);
    let series = |version: Version| format!("{}.{}", version.major, version.minor);
    let distribution = || Interpreter {
        series: own.map_or_else(|| has.clone(), series),
        managed: false,
        why: String::new(),
    };
    let os = if host.os_name.is_empty() { "the distribution" } else { &host.os_name };
    let managed = |version: Version, asked: String| Interpreter {
        series: series(version),
        managed: true,
        why: format!("{asked}; {os} has {has}"),
    };
    let refuse = |wanted: String, origin: &str| {
        Err(ReleaseError::Python { wanted, origin: origin.into(), os: os.to_owned(), has: has.clone() })
    };
    match wish {
        PythonWish::Version { version, origin } => match (parse_version(version), own) {
            (Some(wanted), Some(own)) if (wanted.major, wanted.minor) == (own.major, own.minor) => {
                Ok(distribution())
            }
            (Some(wanted), _) if wanted.major == 3 && MANAGED.contains(&wanted.minor) => {
                Ok(managed(wanted, format!("{origin} asks for {version}")))
            }
            (Some(_) | None, _) => refuse(version.clone(), origin),
        },
        PythonWish::Bounds { bounds, origin } => match own {
            Some(own) if !bounds.allows(own) => match nearest(bounds, own) {
                Some(version) => Ok(managed(version, format!("{origin} allows {bounds}"))),
                None => refuse(bounds.to_string(), origin),
            },
            Some(_) | None => Ok(distribution()),
        },
        PythonWish::Distribution => {
            let newest = packages.version("django").and_then(|django| {
                let (_, below) = DJANGO_BELOW.iter().find(|(release, _)| django < *release)?;
                Some((django, *below))
            });
            match (newest, own) {
                (Some(((major, minor), below)), Some(own)) if own.minor >= below => {
                    let version = Version { major: 3, minor: below - 1, patch: None };
                    Ok(managed(version, format!("Django {major}.{minor} needs a Python below 3.{below}")))
                }
                (Some(_) | None, _) => Ok(distribution()),
            }
        }
    }
}

/// Of the Pythons that are allowed, the one closest to the distribution's: the oldest of the newer ones, which the
/// project was begun with, or the newest of the older ones.
fn nearest(bounds: &Bounds, own: Version) -> Option<Version> {
    let version = |minor| Version { major: 3, minor, patch: None };
    let allowed: Vec<Version> = MANAGED.map(version).filter(|version| bounds.allows(*version)).collect();
    let newer = allowed.iter().find(|version| version.minor > own.minor);
    newer.or_else(|| allowed.iter().rfind(|version| version.minor < own.minor)).copied()
}

/// The Pythons that uv brings, for messages.
pub fn managed_range() -> String {
    format!("3.{} to 3.{}", MANAGED.start(), MANAGED.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wish: &PythonWish, has: &str, django: Option<&str>) -> String {
        let mut packages = Packages::default();
        packages.names.extend(django.map(|version| ("django".to_owned(), Some(version.to_owned()))));
        let host = Host { os_name: "Debian".into(), python: Some(has.into()), ..Host::default() };
        match choose(wish, &packages, &host) {
            Ok(python) if python.managed => format!("{} by uv: {}", python.series, python.why),
            Ok(python) => python.series,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_distributions_python_when_it_will_do() {
        let version = |text: &str| PythonWish::Version { version: text.into(), origin: "runtime.txt".into() };
        let bounds = |text: &str| PythonWish::Bounds {
            bounds: Bounds::parse(text).unwrap(),
            origin: "pyproject.toml".into(),
        };
        let distribution = PythonWish::Distribution;
        for (wish, has, django, expected) in [
            (&distribution, "3.11.2", None, "3.11"),
            (&version("3.11.9"), "3.11.2", None, "3.11"),
            (
                &version("3.10.2"),
                "3.11.2",
                None,
                "3.10 by uv: runtime.txt asks for 3.10.2; Debian has 3.11.2",
            ),
            (
                &version("3.7.0"),
                "3.11.2",
                None,
                "the project wants Python 3.7.0 (runtime.txt), and Debian has 3.11.2",
            ),
            (&bounds(">=3.9"), "3.11.2", None, "3.11"),
            (
                &bounds(">=3.12"),
                "3.11.2",
                None,
                "3.12 by uv: pyproject.toml allows >=3.12; Debian has 3.11.2",
            ),
            (
                &bounds(">=3.8,<3.11"),
                "3.11.2",
                None,
                "3.10 by uv: pyproject.toml allows >=3.8,<3.11; Debian has 3.11.2",
            ),
            (
                &bounds("^2.7"),
                "3.11.2",
                None,
                "the project wants Python ^2.7 (pyproject.toml), and Debian has 3.11.2",
            ),
            (&distribution, "3.13.5", Some("5.2.8"), "3.13"),
            (
                &distribution,
                "3.13.5",
                Some("3.1.14"),
                "3.11 by uv: Django 3.1 needs a Python below 3.12; Debian has 3.13.5",
            ),
            (
                &distribution,
                "3.13.5",
                Some("4.0"),
                "3.12 by uv: Django 4.0 needs a Python below 3.13; Debian has 3.13.5",
            ),
            (&distribution, "3.11.2", Some("3.2.25"), "3.11"),
        ] {
            assert_eq!(chosen(wish, has, django), expected);
        }
    }
}
