//! The machine: operating system, processors, memory, free space, Python.

use crate::shell::Script;

use super::{FactError, key_values};

/// The machine and its operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Host {
    /// `ID` of os-release: `debian`, `ubuntu`.
    pub os: String,
    /// `VERSION_ID` of os-release: `12`, `24.04`.
    pub os_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_name: String,
    /// `uname -m`.
    pub arch: String,
    /// Processors that can be used.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Free space of the file system that holds `/srv`, in MiB.
    pub free_mb: u64,
    /// Its size in MiB.
    pub disk_mb: u64,
    /// Memory that programs can still have, in MiB.
    pub available_mb: u64,
    /// Its inodes; `None` where the file system has no fixed number.
    pub inodes: Option<u64>,
    /// Free inodes of the same; `None` where the file system has no fixed number.
    pub free_inodes: Option<u64>,
    /// `3.11.2` if there is a `python3`.
    pub python: Option<String>,
    /// The Python that apt would install, `3.11`.
    pub python_candidate: Option<String>,
    /// Whether a reboot is due.
    pub reboot_required: bool,
}

impl Host {
    /// Whether this is a system that the recipes are made for.
    pub fn is_supported(&self) -> bool {
        matches!(self.os.as_str(), "debian" | "ubuntu")
    }

    /// A server that is yet to be made from an image such as `debian-12`. `None` for images of other names.
    pub fn expected(image: &str, cores: u32, memory_mb: u64) -> Option<Self> {
        let (os, version) = image.split_once('-')?;
        let python = python_of(os, version)?;
        Some(Self {
            os: os.into(),
            os_version: version.into(),
            os_name: image.into(),
            cores,
            memory_mb,
            free_mb: u64::MAX >> 20,
            python_candidate: Some(python.into()),
            ..Self::default()
        })
    }

    /// Whether less than a tenth of the inodes is free.
    pub fn is_short_of_inodes(&self) -> bool {
        matches!((self.free_inodes, self.inodes), (Some(free), Some(total)) if free < total / 10)
    }

    /// Whether less than a tenth of the disk is free.
    pub fn is_short_of_disk(&self) -> bool {
        self.free_mb < self.disk_mb / 10
    }

    /// Memory after what the kernel and firmware keep, rounded to what the size was sold as, in MiB.
    pub fn nominal_memory_mb(&self) -> u64 {
        self.memory_mb.div_ceil(256) * 256
    }

    /// The host as templates see it: sized as it was sold, so that a new kernel's few KiB change no file.
    pub fn nominal(&self) -> Self {
        Self { memory_mb: self.nominal_memory_mb(), ..self.clone() }
    }
}

/// Asks for [`Host`].
pub fn script() -> Script {
    Script::from_text(
        r#"(
. /etc/os-release 2>/dev/null
printf 'os=%s\nos_version=%s\nos_name=%s\n' "${ID-}" "${VERSION_ID-}" "${PRETTY_NAME-}"
printf 'arch=%s\ncores=%s\n' "$(uname -m)" "$(nproc 2>/dev/null)"
while read -r key value _; do
  case "$key" in
  MemTotal:) printf 'memory_kb=%s\n' "$value" ;;
  MemAvailable:) printf 'available_kb=%s\n' "$value"; break ;;
  esac
done </proc/meminfo
top=/srv; [ -d $top ] || top=/
df -Pk $top 2>/dev/null | { read -r _; read -r _ total _ free _; printf 'disk_kb=%s\nfree_kb=%s\n' "$total" "$free"; }
df -Pi $top 2>/dev/null | { read -r _; read -r _ total _ free _; printf 'inodes=%s\nfree_inodes=%s\n' "$total" "$free"; }
printf 'python=%s\n' "$(python3 -V 2>/dev/null)"
[ ! -e /run/reboot-required ] || printf 'reboot_required=1\n'
)
"#,
    )
}

/// Reads what [`script`] printed.
pub fn parse(body: &str) -> Result<Host, FactError> {
    let map = key_values(body);
    let text = |key: &str| map.get(key).map(|value| (*value).to_string()).unwrap_or_default();
    let number = |key: &str| -> Result<u64, FactError> {
        let value = text(key);
        value.parse().map_err(|_| FactError::new("host", format!("{key} is `{value}`")))
    };
    // btrfs and the like say 0 of 0.
    let inodes = number("inodes").ok().filter(|total| *total > 0);
    let os = text("os");
    let os_version = text("os_version");
    Ok(Host {
        python_candidate: python_of(&os, &os_version).map(str::to_string),
        os,
        os_version,
        os_name: text("os_name"),
        arch: text("arch"),
        cores: u32::try_from(number("cores").unwrap_or(1)).unwrap_or(1).max(1),
        memory_mb: number("memory_kb")? / 1024,
        free_mb: number("free_kb").unwrap_or(u64::MAX) / 1024,
        disk_mb: number("disk_kb").unwrap_or(0) / 1024,
        available_mb: number("available_kb").unwrap_or(0) / 1024,
        inodes,
        free_inodes: inodes.and_then(|_| number("free_inodes").ok()),
        python: text("python").strip_prefix("Python ").map(str::to_string),
        reboot_required: map.contains_key("reboot_required"),
    })
}

/// The `python3` of a release, by the distribution's own package lists.
fn python_of(os: &str, version: &str) -> Option<&'static str> {
    match (os, version) {
        ("debian", "11") => Some("3.9"),
        ("debian", "12") => Some("3.11"),
        ("debian", "13") => Some("3.13"),
        ("ubuntu", "22.04") => Some("3.10"),
        ("ubuntu", "24.04") => Some("3.12"),
        ("ubuntu", "25.10") => Some("3.13"),
        ("ubuntu", "26.04") => Some("3.14"),
        _ => None,
    }
}
