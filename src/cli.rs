//! The command line as clap reads it. Types only; what a command does is in `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Takes a Django project and one YAML file to a running site on a server you own.
#[derive(Debug, Parser)]
#[command(name = "ship", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Start with `ship init`, then `ship up`. `ship COMMAND --help` has examples.")]
pub struct Cli {
    /// What is true for every command.
    #[command(flatten)]
    pub global: Global,
    /// The same as --file, before the command: after it, -f can mean "follow"
    #[arg(short = 'f', value_name = "FILE")]
    pub short_file: Option<String>,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What is true for every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The project's folder
    #[arg(short = 'C', long = "dir", global = true, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The configuration file, relative to the project's folder
    #[arg(long, global = true, value_name = "FILE", default_value = "ship.yml")]
    pub file: String,
    /// The environment of ship.yml to work on
    #[arg(short, long, global = true, value_name = "ENVIRONMENT", env = "SHIP_ENVIRONMENT")]
    pub environment: Option<String>,
    /// Print one JSON event a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Show what every step prints
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// No colours (also: NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at the project and write ship.yml
    #[command(
        after_help = "Examples:\n  ship init              write ship.yml for the project in this folder\n  ship init --force      write it anew"
    )]
    Init(Init),
    /// Make it so: server, packages, database, release. Again: only what differs
    #[command(
        after_help = "Examples:\n  ship up                deploy; asks before it changes the server itself\n  ship up -y --json      from CI\n  ship up -e staging     another environment of ship.yml"
    )]
    Up(Up),
    /// Show what `up` would change, and change nothing. Exits with 2 when there are changes
    #[command(
        after_help = "Examples:\n  ship plan              reasons and diffs\n  ship plan --json       for a script"
    )]
    Plan,
    /// List what was released when and by whom, and what it is worth now
    #[command(
        after_help = "Examples:\n  ship releases          the last twenty, newest first\n  ship releases --json   for a script\n\nStates: live serves; good served and can again; bad was gone back from or failed its checks; failed never\nserved; gone has no files on the server any more. A + after the commit stands for uncommitted changes."
    )]
    Releases(Releases),
    /// Go back to a release of before: its code, its packages, its environment
    #[command(
        after_help = "Examples:\n  ship rollback                    to the last good release before the live one\n  ship rollback v7 --reverse       and take back the migrations that v7 doesn't know of\n  ship rollback v7 --restore-dump  and restore the database as it was before them"
    )]
    Rollback(Rollback),
    /// Show the server, its units and the live release
    Status,
    /// Look for what is wrong, and say what mends it. Exits with 1 when something is
    Doctor,
    /// Remove the server and everything that was made for it, after a last copy of its data
    #[command(
        after_help = "Examples:\n  ship destroy                      lists what goes, and asks for the name\n  ship destroy --confirm library    for a script"
    )]
    Destroy(Destroy),
    /// Open a shell on the server, or run a command there
    #[command(after_help = "Examples:\n  ship ssh\n  ship ssh -- df -h")]
    Ssh(Ssh),
    /// Show the logs of the site
    #[command(
        after_help = "Examples:\n  ship logs -f           follow everything\n  ship logs -n 200 --process web --since '1 hour ago'"
    )]
    Logs(Logs),
    /// Run a command in the live release, with its environment and user
    #[command(
        after_help = "Examples:\n  ship run python -c 'import django; print(django.__version__)'\n  ship run -- ls -l"
    )]
    Run(Run),
    /// Run manage.py in the live release
    #[command(after_help = "Examples:\n  ship manage createsuperuser\n  ship manage shell")]
    Manage(Run),
    /// Show, set and remove the site's environment
    #[command(
        after_help = "Examples:\n  ship config                          names, values masked\n  ship config get SECRET_KEY\n  ship config set SENTRY_DSN=https://… MAIL_PASSWORD=@password.txt\n  ship config set TOKEN=- <token.txt   keep a value out of the shell's history\n  ship config unset SENTRY_DSN"
    )]
    Config(Config),
    /// Print the JSON Schema of ship.yml
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  ship completions bash >/etc/bash_completion.d/ship\n  ship completions zsh >~/.zfunc/_ship\n  ship completions fish >~/.config/fish/completions/ship.fish"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// `ship init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
}

/// `ship up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Refuse when there are uncommitted changes
    #[arg(long)]
    pub clean: bool,
    /// Make another server where the one there is can't be changed in place, and move the data to it
    #[arg(long)]
    pub replace: bool,
    /// Take no dump of the database before it is migrated
    #[arg(long)]
    pub no_dump: bool,
    /// Fail at once while somebody else's deploy is running, rather than follow it and go on
    #[arg(long)]
    pub no_wait: bool,
    /// With `dns: none`: wait until the records that you set are there
    #[arg(long)]
    pub wait_dns: bool,
}

/// `ship releases`.
#[derive(Debug, Args)]
pub struct Releases {
    /// Number of releases
    #[arg(short = 'n', long, default_value_t = 20)]
    pub lines: usize,
}

/// `ship rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The release, as `ship releases` lists it; the last good one before the live one if not given
    #[arg(value_name = "vN")]
    pub release: Option<String>,
    /// Take back the migrations that it doesn't know of
    #[arg(long, conflicts_with_all = ["restore_dump", "keep_schema"])]
    pub reverse: bool,
    /// Restore the database as it was before those migrations: what was written since is lost
    #[arg(long, conflicts_with = "keep_schema")]
    pub restore_dump: bool,
    /// Leave the database as it is
    #[arg(long)]
    pub keep_schema: bool,
    /// Confirm a restore by the app's name, for scripts
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

/// `ship destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Fetch no last copy of the database and the media
    #[arg(long)]
    pub no_backup: bool,
    /// Confirm by the name that would be asked for, for scripts
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

/// `ship ssh`.
#[derive(Debug, Args)]
pub struct Ssh {
    /// The command, run by the login shell; none for an interactive shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `ship logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Follow
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Number of lines
    #[arg(short = 'n', long, default_value_t = 100)]
    pub lines: u32,
    /// Only since then, as journalctl takes it: `1 hour ago`, `2026-01-31 12:00`
    #[arg(long)]
    pub since: Option<String>,
    /// Only this process: web, a worker's name, nginx, postgres
    #[arg(long)]
    pub process: Option<String>,
}

/// `ship run` and `ship manage`.
#[derive(Debug, Args)]
pub struct Run {
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

/// `ship config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do; nothing lists the names.
    #[command(subcommand)]
    pub action: Option<ConfigAction>,
    /// Show the values
    #[arg(long)]
    pub reveal: bool,
}

/// What `ship config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print one value
    Get {
        /// Its name
        name: String,
    },
    /// Set values and restart the live release with them
    Set {
        /// NAME=VALUE, NAME=@FILE or NAME=- for stdin
        #[arg(required = true, value_name = "NAME=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove values and restart the live release without them
    Unset {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}
