//! The command line of `ship db` and `ship import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ship db`.
#[derive(Debug, Args)]
pub struct Db {
    /// What to do.
    #[command(subcommand)]
    pub action: DbAction,
}

/// What `ship db` does.
#[derive(Debug, Subcommand)]
pub enum DbAction {
    /// Talk to the site's database, as the site: a terminal, one command, or what stdin says
    #[command(
        visible_alias = "shell",
        after_help = "Examples:\n  ship db psql\n  ship db psql -c 'select count(*) from auth_user'\n  ship db psql <report.sql"
    )]
    Psql {
        /// One command, which ends it
        #[arg(short = 'c', long = "command", value_name = "SQL")]
        command: Option<String>,
    },
    /// Fetch a dump of the database
    #[command(
        after_help = "Examples:\n  ship db dump                              library-20260131T120000Z.dump, in this folder\n  ship db dump before.dump\n  ship db dump - | pg_restore --list\n  ship db dump --anonymise scrub.sql small.dump\n\nA line that was cut is taken up again, and so is a dump that was broken off: run the same command once more."
    )]
    Dump {
        /// Where to; - for stdout
        #[arg(value_name = "FILE")]
        to: Option<String>,
        /// A script of SQL or Python (.py) that goes over a copy on the server first
        #[arg(long, value_name = "SCRIPT")]
        anonymise: Option<PathBuf>,
    },
    /// Put a dump, a copy or a backup in the place of the database
    #[command(
        after_help = "Examples:\n  ship db restore before.dump                       a file on this computer\n  ship db restore .ship/backups/library-20260131T…   a copy that `ship destroy` or `backups fetch` has left, media too\n  ship db restore latest                            the newest backup, media too\n  ship db restore 1a2b3c4d                          a backup, as `ship db backups` lists it\n  ship db restore v7                                the dump from before release v7\n\nThe database as it is is dumped first. The site serves until the other one is ready, then waits for a few seconds."
    )]
    Restore {
        /// A file or folder on this computer, or what `ship db backups` lists
        #[arg(value_name = "FILE|BACKUP")]
        what: String,
        /// Confirm by the app's name, for scripts
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        /// Leave the uploaded files as they are
        #[arg(long)]
        no_media: bool,
    },
    /// List the backups, take one, fetch one, or have the newest proved
    #[command(
        after_help = "Examples:\n  ship db backups              those that are there\n  ship db backups now\n  ship db backups fetch latest\n  ship db backups drill        restores the newest for trial"
    )]
    Backups(Backups),
    /// Bring the site's database to this computer: into a file, or into a database here
    #[command(
        after_help = "Examples:\n  ship db pull --anonymise scrub.sql                      into the database of DATABASE_URL\n  ship db pull --anonymise scrub.py postgres://localhost/library_dev\n  ship db pull library.dump"
    )]
    Pull {
        /// A file, or postgres://…; what DATABASE_URL says if not given
        #[arg(value_name = "FILE|URL")]
        to: Option<String>,
        /// A script of SQL or Python (.py) that goes over a copy on the server first
        #[arg(long, value_name = "SCRIPT")]
        anonymise: Option<PathBuf>,
    },
    /// Put the site's database in the place of another environment's
    #[command(
        after_help = "Examples:\n  ship db push staging --anonymise scrub.sql       from outside the environments to staging\n  ship -e staging db push preview"
    )]
    Push {
        /// The environment of ship.yml whose database is replaced; `default` is what is outside them
        #[arg(id = "target", value_name = "ENVIRONMENT")]
        to: String,
        /// A script of SQL or Python (.py) that goes over a copy on the server first
        #[arg(long, value_name = "SCRIPT")]
        anonymise: Option<PathBuf>,
        /// Confirm by the name of the app whose database is replaced, for scripts
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// Bring a fixture, or the SQLite database of before, into the site's empty database
    #[command(
        after_help = "Examples:\n  ship db import db.sqlite3      everything of a database that the project had on your computer\n  ship db import books.json      a fixture, as `manage.py dumpdata` writes it"
    )]
    Import {
        /// A fixture, or an SQLite database
        #[arg(id = "data", value_name = "FILE")]
        file: PathBuf,
        /// Empty the database first
        #[arg(long)]
        replace: bool,
    },
}

/// `ship db backups`.
#[derive(Debug, Args)]
pub struct Backups {
    /// What to do; nothing lists them.
    #[command(subcommand)]
    pub action: Option<BackupsAction>,
}

/// What `ship db backups` does.
#[derive(Debug, Subcommand)]
pub enum BackupsAction {
    /// List the backups, and the dumps on the server
    #[command(
        after_help = "Examples:\n  ship db backups list\n  ship db backups list --json     for a script"
    )]
    List,
    /// Take a backup now
    #[command(after_help = "Examples:\n  ship db backups now")]
    Now,
    /// Fetch a backup into a folder: the database, and the media as an archive
    #[command(
        after_help = "Examples:\n  ship db backups fetch latest\n  ship db backups fetch 1a2b3c4d before-the-move"
    )]
    Fetch {
        /// Its id; `latest` is the newest
        #[arg(value_name = "BACKUP")]
        id: String,
        /// The folder; one in .ship/backups if not given
        #[arg(id = "folder", value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Restore the newest backup for trial, compare it with when it was taken, and remove it again
    #[command(after_help = "Examples:\n  ship db backups drill")]
    Drill,
    /// Print the key that backups are encrypted with: without it they are worth nothing on another server
    #[command(
        after_help = "Examples:\n  ship db backups key >library.key     and keep it where the server isn't"
    )]
    Key,
    /// Set what opens the bucket, or the key of backups that are there already
    #[command(
        after_help = "Examples:\n  ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@secret.txt\n  ship db backups set BACKUP_KEY=@library.key     on a server that takes another one's place"
    )]
    Set {
        /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or BACKUP_KEY: NAME=VALUE, NAME=@FILE or NAME=- for stdin
        #[arg(required = true, value_name = "NAME=VALUE")]
        pairs: Vec<String>,
    },
}

/// `ship import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Where from.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// Where `ship import` brings a project from.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// From Heroku: ship.yml from app.json, Procfile and config; secrets to the server; data into its database
    #[command(
        after_help = "Examples:\n  heroku config -s | ship import heroku --config -      writes ship.yml, or sets the secrets once it names a server\n  ship import heroku --config config.env --server '{provider: ssh, host: 203.0.113.7}'\n  ship import heroku --data latest.dump                 after `heroku pg:backups:capture` and `pg:backups:download`"
    )]
    Heroku(Heroku),
}

/// `ship import heroku`.
#[derive(Debug, Args)]
pub struct Heroku {
    /// What `heroku config -s` printed; - for stdin
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// A dump, as `heroku pg:backups:download` fetches it
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// The value of `server` for a ship.yml that is yet to be written
    #[arg(long, value_name = "YAML")]
    pub server: Option<String>,
    /// Take over Heroku's own variables too, DATABASE_URL among them: the data stays there
    #[arg(long)]
    pub keep_addons: bool,
    /// Write ship.yml anew
    #[arg(long)]
    pub force: bool,
}
