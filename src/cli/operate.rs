//! The arguments of the commands that operate a site day by day. Types only.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ship logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Follow
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// Number of lines [default: 100, or all with --since]
    #[arg(short = 'n', long)]
    pub lines: Option<u32>,
    /// Only since then: `10m`, `1 hour ago`, `yesterday`, `2026-01-31 12:00`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only these processes: web, a worker's or a job's name, run, nginx, postgres
    #[arg(short, long, value_name = "NAME,…")]
    pub process: Vec<String>,
    /// Only what this release said
    #[arg(long, value_name = "vN")]
    pub release: Option<String>,
    /// Only lines that match this regular expression; in lower case, it finds capitals as well
    #[arg(long, value_name = "PATTERN")]
    pub grep: Option<String>,
}

/// `ship run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Leave it running on the server and return at once; `ship logs --process run` shows what it says
    #[arg(long)]
    pub detach: bool,
    /// The command and its arguments; one argument with spaces is a line for the shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

/// `ship manage`.
#[derive(Debug, Args)]
pub struct Manage {
    /// The subcommand of manage.py and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub command: Vec<String>,
}

/// `ship shell`.
#[derive(Debug, Args)]
pub struct Shell {
    /// Arguments for `manage.py shell`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// `ship scale`.
#[derive(Debug, Args)]
pub struct Scale {
    /// A process and how many of it: `web=4`, `web=auto`, `worker=2`; none shows what is there
    #[arg(value_name = "PROCESS=NUMBER")]
    pub wishes: Vec<String>,
}

/// `ship restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// The process; all of them if not given
    pub process: Option<String>,
}

/// `ship domains`.
#[derive(Debug, Args)]
pub struct Domains {
    /// What to do; nothing lists them.
    #[command(subcommand)]
    pub action: Option<DomainsAction>,
}

/// What `ship domains` does.
#[derive(Debug, Subcommand)]
pub enum DomainsAction {
    /// Write domains into ship.yml; `ship up` makes it so
    #[command(after_help = "Examples:\n  ship domains add example.com www.example.com && ship up")]
    Add {
        /// Their names
        #[arg(required = true, value_name = "DOMAIN")]
        names: Vec<String>,
    },
    /// Take domains out of ship.yml; `ship up` makes it so
    #[command(after_help = "Examples:\n  ship domains remove www.example.com && ship up")]
    Remove {
        /// Their names
        #[arg(required = true, value_name = "DOMAIN")]
        names: Vec<String>,
    },
}

/// `ship open`.
#[derive(Debug, Args)]
pub struct Open {
    /// A page of the site
    #[arg(default_value = "/")]
    pub path: String,
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
    #[command(after_help = "Examples:\n  ship config get SECRET_KEY")]
    Get {
        /// Its name
        name: String,
    },
    /// Set values and restart the live release with them
    #[command(
        after_help = "Examples:\n  ship config set SENTRY_DSN=https://… MAIL_PASSWORD=@password.txt\n  ship config set TOKEN=- <token.txt      keeps a value out of the shell's history\n  pass show token | ship config set TOKEN=-\n  ship config set --env-file .env\n  ship config set --no-restart KEY=…      for code that is yet to come with `ship up`"
    )]
    Set {
        /// NAME=VALUE, NAME=@FILE or NAME=- for stdin
        #[arg(value_name = "NAME=VALUE", required_unless_present = "env_file")]
        pairs: Vec<String>,
        /// Take all values of a `.env` file, or of stdin (-)
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
        /// Keep them for the next `ship up`, and leave what runs alone
        #[arg(long)]
        no_restart: bool,
    },
    /// Remove values and restart the live release without them
    #[command(after_help = "Examples:\n  ship config unset SENTRY_DSN")]
    Unset {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// Leave what runs alone; the next `ship up` goes without them
        #[arg(long)]
        no_restart: bool,
    },
    /// Change values in your editor ($VISUAL, $EDITOR), and restart the live release once with all changes
    #[command(
        after_help = "The values are in a file that only you can read, and that is gone afterwards. A value written as $(COMMAND), without\nquotes, is what the command prints on this computer:\n\n  MAIL_PASSWORD=$(pass show mail/library)\n  API_TOKEN=$(op read op://vault/library/token)\n\nExamples:\n  ship config edit\n  EDITOR='code --wait' ship config edit"
    )]
    Edit,
}

/// `ship man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The command; none for ship's own page
    pub command: Vec<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    pub into: Option<PathBuf>,
}
