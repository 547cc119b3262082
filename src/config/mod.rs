//! `ship.yml`: the types as written (`spec`) and the validated types that the rest of the code sees.
//!
//! Invariant: nothing downstream of this module sees an `Option` that stands for a default, and
//! nothing is created anywhere before the whole file is valid.

use std::collections::BTreeMap;

/// A whole deployment, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of the application: lowercase letters, digits and dashes, at most 30 characters.
    pub app: String,
    /// The environment chosen with `-e`, if any.
    pub environment: Option<String>,
    /// Where the site runs.
    pub server: Server,
    /// Names the site answers to; empty means any.
    pub domains: Vec<String>,
    /// The Python the project wants.
    pub python: PythonWish,
    /// Where Django is.
    pub django: Django,
    /// The database.
    pub database: Database,
    /// gunicorn's settings.
    pub web: Web,
    /// Further long-running processes, by name: the command line each runs.
    pub workers: BTreeMap<String, String>,
    /// Environment of the site, not secret.
    pub env: BTreeMap<String, String>,
    /// Names of the secrets that must be set on the server.
    pub secrets: Vec<String>,
    /// Extra playbooks, in order.
    pub playbooks: Vec<PlaybookRef>,
    /// How many releases stay on the server.
    pub keep_releases: u32,
}

/// Where the site runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// An existing Debian or Ubuntu host.
    Ssh(SshServer),
    /// A local virtual machine.
    Vagrant(VagrantServer),
}

/// How to reach an existing host. What is `None` is left to `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshServer {
    /// Host name, address or alias of `~/.ssh/config`.
    pub host: String,
    /// Login name.
    pub user: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Private key file; `~` is expanded.
    pub key: Option<String>,
}

/// A Vagrant machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VagrantServer {
    /// Vagrant's provider; `Auto` asks what is installed.
    pub provider: VagrantProvider,
    /// The box, if not the provider's usual one.
    pub vagrant_box: Option<String>,
    /// Memory in MiB.
    pub memory_mb: u32,
    /// Virtual processors.
    pub cpus: u32,
}

/// Which hypervisor Vagrant drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VagrantProvider {
    /// Whatever this machine has.
    Auto,
    /// Linux containers.
    Lxc,
    /// VirtualBox.
    Virtualbox,
    /// KVM through libvirt.
    Libvirt,
}

/// The Python version the project asks for, as `3.11` or `3.11.4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonWish {
    /// Whatever the distribution has.
    Distribution,
    /// This version; the origin tells which file or key said so.
    Version {
        /// `3.11` or `3.11.4`.
        version: String,
        /// The file or key that said so.
        origin: String,
    },
}

/// Where Django is inside the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Django {
    /// Folder of `manage.py` relative to the project, `.` for the top.
    pub root: String,
    /// Settings module.
    pub settings: String,
    /// WSGI callable as gunicorn takes it, `package.wsgi` or `package.wsgi:application`.
    pub wsgi: String,
    /// Requirements files relative to the project, in order.
    pub requirements: Vec<String>,
    /// Path that the health check asks for.
    pub health: String,
}

/// Which database the site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// PostgreSQL on the same server.
    Postgres,
    /// A file in the shared folder.
    Sqlite,
    /// Elsewhere; `DATABASE_URL` is a secret.
    External,
}

/// gunicorn's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Number of worker processes; `None` sizes them from cores and memory when the server is known.
    pub workers: Option<u32>,
    /// Seconds after which a request is given up, in nginx and in gunicorn.
    pub timeout_s: u32,
    /// Largest request body in MiB.
    pub max_upload_mb: u32,
}

/// An extra playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaybookRef {
    /// One of the product's own, by name.
    Builtin(String),
    /// A file relative to the project.
    File(String),
}
