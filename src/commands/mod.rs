//! One file a verb: what it does, in order.

mod apps;
mod completions;
mod config;
mod db;
mod destroy;
mod doctor;
mod domains;
mod import;
mod init;
mod logs;
mod maintenance;
mod names;
mod open;
mod plan;
mod ps;
mod releases;
mod restart;
mod rollback;
mod run;
mod scale;
mod ssh;
mod status;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::assets::Assets;
use crate::cli::{Cli, Command, Global, Up};
use crate::config::tls::Origin;
use crate::config::{Config, Defaults};
use crate::engine::Desired;
use crate::error::{Exit, Failure};
use crate::project;
use crate::providers::{self, Place};
use crate::release::Source;
use crate::source;
use crate::transport::Session;
use crate::ui::{Options, Ui};

/// Runs a command and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { mut global, short_file, command } = cli;
    global.file = short_file.unwrap_or(global.file);
    let options =
        Options { json: global.json, yes: global.yes, verbose: global.verbose, no_color: global.no_color };
    let ui = Arc::new(Ui::new(options));
    let result = match command {
        // These need neither a server nor a runtime.
        Command::Init(args) => init::run(&global, &args, &ui),
        Command::Schema => completions::schema(&ui),
        Command::Completions { shell } => completions::run(shell),
        Command::Man(args) => completions::man(&args),
        other => block_on(run_remote(global, other, Arc::clone(&ui))),
    };
    match result {
        Ok(code) => {
            ui.idle();
            code
        }
        Err(failure) => {
            ui.failure(&failure);
            failure.exit.into()
        }
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start: {error}")))?;
    let result = runtime.block_on(work);
    // A thread that still reads the terminal must not keep the program alive.
    runtime.shutdown_background();
    result
}

async fn run_remote(global: Global, command: Command, ui: Arc<Ui>) -> Result<ExitCode, Failure> {
    if matches!(
        command,
        Command::Up(_) | Command::Config(_) | Command::Rollback(_) | Command::Scale(_) | Command::Restart(_)
    ) {
        let shown = Arc::clone(&ui);
        ui.interrupts().listen(move || {
            shown.idle();
            shown.warn("interrupted");
        });
    }
    if let Command::Import(args) = command {
        return import::run(&global, args, &ui).await;
    }
    let mut workspace = Workspace::open(&global)?;
    if let Command::Up(Up { no_dump: true, .. }) = &command {
        workspace.config.dump_limit_mb = 0;
    }
    match command {
        Command::Up(args) => up::run(workspace, &args, &ui).await,
        Command::Plan(args) => plan::run(workspace, &args, &ui).await,
        Command::Releases(args) => releases::run(workspace, &args, &ui).await,
        Command::Rollback(args) => rollback::run(workspace, &args, &ui).await,
        Command::Db(args) => db::run(&global, workspace, args, &ui).await,
        Command::Status => status::run(workspace, &ui).await,
        Command::Maintenance(args) => maintenance::run(workspace, &args, &ui).await,
        Command::Doctor => doctor::run(workspace, &ui).await,
        Command::Destroy(args) => destroy::run(workspace, &args, &ui).await,
        Command::Ssh(args) => ssh::run(workspace, &args, &ui).await,
        Command::Logs(args) => logs::run(workspace, &args, &ui).await,
        Command::Run(args) if args.detach => run::detach(workspace, &args.command, &ui).await,
        Command::Run(args) => run::run(workspace, &args.command, &ui).await,
        Command::Manage(args) => run::manage(workspace, args.command, &ui).await,
        Command::Shell(args) => {
            let words = std::iter::once("shell".to_string()).chain(args.arguments).collect();
            run::manage(workspace, words, &ui).await
        }
        Command::Ps => ps::run(workspace, &ui).await,
        Command::Scale(args) => scale::run(workspace, &global, &args, &ui).await,
        Command::Restart(args) => restart::run(workspace, &args, &ui).await,
        Command::Domains(args) => domains::run(workspace, &global, args, &ui).await,
        Command::Open(args) => open::run(workspace, &args, &ui).await,
        Command::Apps => apps::run(workspace, &ui).await,
        Command::Config(args) => config::run(workspace, args, &ui).await,
        Command::Init(_)
        | Command::Import(_)
        | Command::Schema
        | Command::Completions { .. }
        | Command::Man(_) => Ok(ExitCode::SUCCESS),
    }
}

/// The project on this computer, read and valid.
pub(crate) struct Workspace {
    folder: PathBuf,
    config: Config,
    assets: Assets,
    paths: Vec<String>,
}

impl Workspace {
    fn open(global: &Global) -> Result<Self, Failure> {
        let folder = folder(global)?;
        let assets = Assets::load(&folder)?;
        // A template that can't be read is told before a server is created for it.
        assets.templates()?;
        let file = folder.join(&global.file);
        let text = std::fs::read(&file).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Failure::input(format!("there is no {} in {}", global.file, folder.display()))
                    .hint("`ship init` writes one, -C names another folder")
            } else {
                Failure::input(format!("can't read {}: {error}", file.display()))
            }
        })?;
        let text = String::from_utf8(text).map_err(|error| {
            let line = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to())
                .filter(|b| **b == b'\n')
                .count();
            Failure::input(format!("{}:{}: not UTF-8 text", global.file, line + 1))
        })?;
        let mut paths = source::list(&folder)?;
        let project = detect(&folder, &paths);
        let names: Vec<&str> = assets.playbook_names().collect();
        let defaults = Defaults { folder_name: &folder_name(&folder), playbooks: &names };
        let config =
            crate::config::load(&global.file, &text, global.environment.as_deref(), &project, &defaults)?;
        // A secret file goes its own way, whatever git thinks of it.
        let secret = |path: &String| {
            config.files.iter().any(|(name, here)| path == name || *path == project::join(".", here))
                || matches!(&config.tls.origin, Origin::Own { key, .. } if *path == project::join(".", key))
        };
        paths.retain(|path| !secret(path));
        Ok(Self { folder, config, assets, paths })
    }

    /// Whether another text of the configuration file would be valid.
    fn check(&self, global: &Global, text: &str) -> Result<(), Failure> {
        let project = detect(&self.folder, &self.paths);
        let names: Vec<&str> = self.assets.playbook_names().collect();
        let defaults = Defaults { folder_name: &folder_name(&self.folder), playbooks: &names };
        crate::config::load(&global.file, text, global.environment.as_deref(), &project, &defaults)?;
        Ok(())
    }

    fn source(&self) -> Result<Source, Failure> {
        let git = source::git(&self.folder);
        Ok(Source {
            tree: source::tree(&self.folder, &self.paths)?,
            packages: source::packages(&self.folder, &self.config.django.dependencies)?,
            migrations: source::migrations(&self.folder, &self.paths),
            settings: source::settings(&self.folder, &self.paths, &self.config.django),
            files: source::placed(&self.folder, &self.config)?,
            commit: git.commit,
            branch: git.branch,
            dirty: git.dirty,
            who: source::who(),
        })
    }

    fn desired(&self) -> Result<Desired, Failure> {
        Desired::new(&self.folder, self.config.clone(), self.source()?, self.assets.clone())
    }

    fn place(&self, may_create: bool) -> Place<'_> {
        Place { project: &self.folder, config: &self.config, assets: &self.assets, may_create }
    }

    /// For changes that take the live release's code as it is.
    fn without_source(self) -> Result<(PathBuf, Desired), Failure> {
        let source = Source::without_code(source::who());
        let desired = Desired::new(&self.folder, self.config, source, self.assets)?;
        Ok((self.folder, desired))
    }

    async fn connect(&self, may_create: bool, ui: &Arc<Ui>) -> Result<(Session, String), Failure> {
        providers::connect(&self.place(may_create), ui).await
    }
}

fn folder(global: &Global) -> Result<PathBuf, Failure> {
    global
        .dir
        .canonicalize()
        .map_err(|error| Failure::input(format!("can't open the folder {}: {error}", global.dir.display())))
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Looks at the project's files, the small ones inside too.
fn detect(folder: &Path, paths: &[String]) -> project::Project {
    const LARGEST: u64 = 1 << 20;
    let read = |path: &str| {
        let full = folder.join(path);
        let small = full.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        small.then(|| std::fs::read_to_string(full).ok()).flatten()
    };
    project::detect(&project::Tree::new(paths.iter().map(String::as_str), read))
}

/// What the live release is called in messages.
fn release_name(number: Option<u32>) -> String {
    number.map_or_else(|| "no release".into(), |number| format!("v{number}"))
}

/// The status of a command that ran on the server, as this program's own.
fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status.clamp(0, 255)).unwrap_or(Exit::Failed as u8))
}
