//! The command line as clap reads it. Types only; what a command does is in `commands/`.

pub mod data;
pub mod operate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use data::{Backups, BackupsAction, Db, DbAction, Heroku, Import, ImportFrom};
pub use operate::{
    Config, ConfigAction, Domains, DomainsAction, Logs, Man, Manage, Open, Restart, Run, Scale, Shell,
};

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
#[command(next_help_heading = "Options of every command")]
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
    /// Show what every step prints, and all of the new files in a plan
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
        after_help = "Examples:\n  ship plan                                reasons and diffs\n  ship plan --json                         for a script\n  ship plan --format markdown >plan.md     for a comment on a pull request\n\nExit code 2 means that there are changes."
    )]
    Plan(Plan),
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
    /// Talk to the site's database, dump and restore it, back it up, bring it to and fro
    #[command(
        after_help = "Examples:\n  ship db psql\n  ship db dump before.dump\n  ship db restore before.dump\n  ship db backups\n  ship db pull --anonymise scrub.sql postgres://localhost/library_dev"
    )]
    Db(Db),
    /// Bring a project from elsewhere
    #[command(after_help = "Examples:\n  heroku config -s | ship import heroku --config -")]
    Import(Import),
    /// Show the server, its units and the live release
    #[command(after_help = "Examples:\n  ship status\n  ship status --json     for a script")]
    Status,
    /// Show visitors a page that says to come back soon, or the site again
    #[command(
        after_help = "Examples:\n  ship maintenance on    every page answers 503 until it is off; `ship up` goes on working\n  ship maintenance off"
    )]
    Maintenance(Maintenance),
    /// Show what runs: processes with release, memory, CPU, restarts
    #[command(after_help = "Examples:\n  ship ps\n  ship ps --json         for a script")]
    Ps,
    /// Say how many of a process there are: in ship.yml, and on the server
    #[command(
        after_help = "Examples:\n  ship scale                     what is there\n  ship scale web=4 worker=2      written into ship.yml, its comments kept, and deployed\n  ship scale web=auto            as many as the server's cores and memory allow"
    )]
    Scale(Scale),
    /// Restart the live release without losing a request
    #[command(
        after_help = "Examples:\n  ship restart           all processes\n  ship restart worker    one of them\n\nA second instance of the site answers while the first one restarts; if it does not start, nothing is changed."
    )]
    Restart(Restart),
    /// List the domains with their DNS records and certificates, add and remove some
    #[command(
        after_help = "Examples:\n  ship domains\n  ship domains add www.example.com && ship up\n  ship domains remove www.example.com && ship up"
    )]
    Domains(Domains),
    /// Open the site in a browser
    #[command(after_help = "Examples:\n  ship open\n  ship open /admin/\n  ship -e staging open")]
    Open(Open),
    /// List what is on the server: applications with release, port, domains, disk space
    #[command(after_help = "Examples:\n  ship apps")]
    Apps,
    /// Look for what is wrong, and say what mends it. Exits with 1 when something is
    #[command(
        after_help = "Examples:\n  ship doctor\n  ship doctor --json     for a script, or a monitor: exit code 1 when something is wrong"
    )]
    Doctor,
    /// Remove the server and everything that was made for it, after a last copy of its data
    #[command(
        after_help = "Examples:\n  ship destroy                      lists what goes, and asks for the name\n  ship destroy --confirm library    for a script"
    )]
    Destroy(Destroy),
    /// Open a shell on the server, or run a command there
    #[command(after_help = "Examples:\n  ship ssh\n  ship ssh -- df -h")]
    Ssh(Ssh),
    /// Show the logs of the site: its processes, nginx, PostgreSQL, in the order of time
    #[command(
        after_help = "Examples:\n  ship logs -f                               follow everything, across releases and lost connections\n  ship logs -n 200 --process web,worker\n  ship logs --since 10m --grep 'error|timeout'\n  ship logs --release v7 --process web\n  ship logs --json --since yesterday | jq -r .message"
    )]
    Logs(Logs),
    /// Run a command in the live release, with its environment and user
    #[command(
        after_help = "Examples:\n  ship run python -c 'import django; print(django.__version__)'\n  ship run 'ls -l | wc -l'                   a line for the shell\n  ship run -- ls -l\n  ship run cat media/book.pdf >book.pdf\n  ship run --detach python manage.py rebuild_index\n\nThe exit code is the command's own; 128 + n after signal n."
    )]
    Run(Run),
    /// Run manage.py in the live release
    #[command(
        after_help = "Examples:\n  ship manage createsuperuser\n  ship manage showmigrations\n  ship manage dumpdata catalog >catalog.json"
    )]
    Manage(Manage),
    /// Open Django's shell in the live release
    #[command(after_help = "Examples:\n  ship shell\n  echo 'print(1 + 1)' | ship shell")]
    Shell(Shell),
    /// Show, set and remove the site's environment; each change is a release
    #[command(
        after_help = "Examples:\n  ship config                          names, values masked\n  ship config get SECRET_KEY\n  ship config set SENTRY_DSN=https://… MAIL_PASSWORD=@password.txt\n  ship config set TOKEN=- <token.txt   keeps a value out of the shell's history\n  ship config set --env-file .env\n  ship config edit                     in your editor\n  ship config unset SENTRY_DSN"
    )]
    Config(Config),
    /// Print the JSON Schema of ship.yml
    #[command(after_help = "Examples:\n  ship schema >ship.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  ship completions bash >/etc/bash_completion.d/ship\n  ship completions zsh >~/.zfunc/_ship\n  ship completions fish >~/.config/fish/completions/ship.fish"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(
        after_help = "Examples:\n  ship man | man -l -\n  ship man config set | man -l -\n  ship man --into ~/.local/share/man/man1"
    )]
    Man(Man),
}

/// `ship init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
}

/// `ship up`.
#[derive(Debug, Default, Args)]
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

/// `ship maintenance`.
#[derive(Debug, Args)]
pub struct Maintenance {
    /// Whether it is on
    #[arg(value_enum)]
    pub state: Switch,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// `ship plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// How it is written
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

/// How `ship plan` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// For a terminal.
    Text,
    /// For a comment on a pull request: with a hidden marker at the top, secrets masked.
    Markdown,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn without_examples(command: &clap::Command, name: &str, into: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let name = format!("{name} {}", below.get_name());
            let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
            let own = below.get_name();
            // Its own lines, so that no help is that of another command.
            if below.get_name() != "help" && !(help.contains("Examples:") && help.contains(own)) {
                into.push(name.clone());
            }
            without_examples(below, &name, into);
        }
    }

    #[test]
    fn every_command_has_examples() {
        let mut missing = Vec::new();
        without_examples(&Cli::command(), "ship", &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn examples_are_command_lines_that_ship_reads() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|line| line.strip_prefix("  ship ")) {
                // What comes after two spaces explains; what comes after these signs is the shell's.
                let line = line.split("  ").next().unwrap_or(line);
                let line = line.split([';', '>', '<', '|', '&']).next().unwrap_or(line);
                let words = if line.matches('\'').count() % 2 == 0 { shlex::split(line) } else { continue };
                let words = words.unwrap_or_else(|| panic!("{line}"));
                let words = std::iter::once("ship".to_owned()).chain(words);
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("ship {line}: {error}");
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
