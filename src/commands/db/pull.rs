//! `ship db pull`: the site's database here, in a file or in a database of this computer's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use serde_json::json;

use crate::config::Database;
use crate::error::Failure;
use crate::ui::Ui;

use super::super::Workspace;
use super::spool::{self, Line};
use super::{dump, must_be_here};

/// Where the data goes on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// A file.
    File(PathBuf),
    /// A PostgreSQL database, as its tools take it from their environment.
    Postgres { variables: Vec<(&'static str, String)>, shown: String },
    /// A file that SQLite opens.
    Sqlite(PathBuf),
}

/// Dumps, fetches, and reads it in.
pub(super) async fn run(
    workspace: &Workspace,
    to: Option<&str>,
    anonymise: Option<&Path>,
    ui: &Arc<Ui>,
) -> Result<ExitCode, Failure> {
    must_be_here(&workspace.config)?;
    let from_environment = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let Some(to) = to.map(str::to_owned).or(from_environment) else {
        return Err(Failure::input("where to? DATABASE_URL is not set here")
            .hint("ship db pull library.dump")
            .hint("ship db pull postgres://localhost/library_dev"));
    };
    let target = target(&to)?;
    let question = match (&target, workspace.config.database) {
        (Target::File(_), _) => return dump::run(workspace, Some(&to), anonymise, ui).await,
        (Target::Postgres { shown, .. }, Database::Postgres) => {
            need("psql")?;
            need("pg_restore")?;
            format!("Replace all that {shown} on this computer holds?")
        }
        (Target::Sqlite(path), Database::Sqlite) => format!("Replace {}?", path.display()),
        (Target::Postgres { .. } | Target::Sqlite(_), _) => {
            return Err(Failure::input("the site's database is of another kind than the one here")
                .hint("`ship db pull FILE` fetches a dump"));
        }
    };
    if !ui.confirm(&question)? {
        return Err(Failure::failed("nothing was changed"));
    }
    let (of, script) = spool::read_script(anonymise)?;
    let folder =
        tempfile::tempdir().map_err(|error| Failure::failed(format!("can't make a folder: {error}")))?;
    let file = folder.path().join("pulled");
    let mut line = Line::new(workspace, ui);
    spool::into_file(&mut line, &file, of, script).await?;
    line.close().await;
    ui.working("reading it in");
    let shown = match &target {
        Target::Postgres { variables, shown } => {
            into_postgres(&file, variables)?;
            shown.clone()
        }
        Target::Sqlite(path) | Target::File(path) => {
            std::fs::copy(&file, path)
                .map_err(|error| Failure::failed(format!("can't write {}: {error}", path.display())))?;
            path.display().to_string()
        }
    };
    ui.done(&format!("{shown} has the site's data"), &json!({"into": shown}));
    Ok(ExitCode::SUCCESS)
}

fn need(program: &str) -> Result<(), Failure> {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match there {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err(Failure::input(format!("this computer has no {program}")).hint(
            "install PostgreSQL's client (Debian: postgresql-client), or fetch a file: ship db pull FILE",
        )),
    }
}

/// All or nothing: one transaction empties the database and fills it again.
fn into_postgres(file: &Path, variables: &[(&'static str, String)]) -> Result<(), Failure> {
    let failed = |what: &str, detail: String| {
        Failure::failed(format!("{what}: the database here is as it was")).detail(detail)
    };
    let io = |error: std::io::Error| Failure::failed(format!("can't read the dump in: {error}"));
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", "-"])
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let mut stdin = psql.stdin.take().ok_or_else(|| Failure::failed("psql takes no input"))?;
    let copied = (|| -> std::io::Result<std::process::Output> {
        stdin.write_all(b"drop schema public cascade; create schema public;\n")?;
        let mut script = Command::new("pg_restore")
            .args(["--no-owner", "--no-privileges", "-f", "-"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut out) = script.stdout.take() {
            std::io::copy(&mut out, &mut stdin)?;
        }
        let script = script.wait_with_output()?;
        if !script.status.success() {
            // Takes back the transaction that psql is in.
            stdin.write_all(b"\n\\.\nselect 1/0;\n")?;
        }
        Ok(script)
    })();
    drop(stdin);
    let output = psql.wait_with_output().map_err(io)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match copied {
        Ok(script) if !script.status.success() => Err(failed(
            "pg_restore can't read the dump",
            String::from_utf8_lossy(&script.stderr).into_owned(),
        )
        .hint("is it older than the server's PostgreSQL?")),
        Ok(_) | Err(_) if !output.status.success() => Err(failed("psql has refused the data", text)),
        Ok(_) => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Reads where to.
fn target(to: &str) -> Result<Target, Failure> {
    if let Some(path) = to.strip_prefix("sqlite:///") {
        return Ok(Target::Sqlite(path.into()));
    }
    let Some((scheme, rest)) = to.split_once("://") else { return Ok(Target::File(to.into())) };
    let bad =
        || Failure::input("not the address of a database").hint("such as postgres://localhost/library_dev");
    if !matches!(scheme, "postgres" | "postgresql" | "postgis") {
        return Err(Failure::input(format!("{scheme} is no database that ship reads data into"))
            .hint("`ship db pull FILE` fetches a dump"));
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').ok_or_else(bad)?;
    let name = decoded(path);
    if name.is_empty() {
        return Err(bad());
    }
    let (who, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    // An address of IPv6 has colons of its own, inside brackets.
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or("")),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let host = decoded(host);
    let parts = [
        ("PGHOST", host.clone()),
        ("PGPORT", port.to_owned()),
        ("PGUSER", decoded(user)),
        ("PGPASSWORD", decoded(password)),
    ];
    let mut variables = vec![("PGDATABASE", name.clone())];
    variables.extend(parts.into_iter().filter(|(_, value)| !value.is_empty()));
    let shown = if host.is_empty() { name } else { format!("{name} at {host}") };
    Ok(Target::Postgres { variables, shown })
}

/// `%41` and the like as what they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, after) {
            (b'%', [high, low, tail @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                bytes.push(digit(high).unwrap_or(0) * 16 + digit(low).unwrap_or(0));
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_argument() {
        let Ok(Target::Postgres { variables, shown }) =
            target("postgres://me:p%40ss%2F@db.example.com:5433/dev")
        else {
            panic!("a database");
        };
        let text: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            text.join(" "),
            "PGDATABASE=dev PGHOST=db.example.com PGPORT=5433 PGUSER=me PGPASSWORD=p@ss/"
        );
        assert_eq!(shown, "dev at db.example.com");
        let Ok(Target::Postgres { shown, .. }) = target("postgresql:///dev") else { panic!("a database") };
        assert_eq!(shown, "dev");
        let Ok(Target::Postgres { variables, .. }) =
            target("postgres://[2001:db8::1]:5433/dev?sslmode=require")
        else {
            panic!("a database");
        };
        assert_eq!(variables[1..], [("PGHOST", "2001:db8::1".to_owned()), ("PGPORT", "5433".to_owned())]);
        assert!(target("postgres://localhost:x/dev").is_err());
    }

    #[test]
    fn the_rest_is_a_file_or_refused() {
        assert_eq!(target("a/b.dump").unwrap(), Target::File("a/b.dump".into()));
        assert_eq!(target("sqlite:///db.sqlite3").unwrap(), Target::Sqlite("db.sqlite3".into()));
        assert_eq!(target("sqlite:////tmp/db.sqlite3").unwrap(), Target::Sqlite("/tmp/db.sqlite3".into()));
        assert!(target("mysql://localhost/x").is_err() && target("postgres://localhost").is_err());
    }
}
