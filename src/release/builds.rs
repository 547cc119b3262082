//! Why a Python package could not be built, in the words of its own build.
//!
//! Invariant: pure, and only for output that says that a build failed.

use crate::project::libraries;
use crate::project::normalized;

/// A failed build, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// What could not be built, and what its build said.
    pub cause: String,
    /// What may help.
    pub hints: Vec<String>,
}

/// Looks for a failed build in what uv or pip printed.
pub fn explain(lines: &[String]) -> Option<BuildFailure> {
    let package = package(lines)?;
    let text: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let missing = text.iter().find_map(|line| missing(line));
    let reason = match &missing {
        Some((_, said)) => said.clone(),
        None => last_words(&text),
    };
    let cause = if reason.is_empty() {
        format!("{package} could not be built")
    } else {
        format!("{package} could not be built: {reason}")
    };
    let (name, version) = package.split_once("==").unwrap_or((&package, ""));
    let own = libraries::for_building(&normalized(name));
    let wanted = missing.as_ref().and_then(|(what, _)| libraries::having(what));
    let mut hints = Vec::new();
    if let Some(wanted) = own.or(wanted) {
        hints.push(format!(
            "its compilation needs the system packages {0}: `- package: [{0}]` in a file that `playbooks:` names",
            wanted.join(", ")
        ));
    }
    // One without a version is the project's own, or pip says no more of it.
    if !version.is_empty() {
        hints.push(format!(
            "there is no ready-made package (wheel) of {name} {version} for this Python: a newer {name}, or the Python \
             of its days (`python:` in ship.yml), spares the compilation"
        ));
    }
    Some(BuildFailure { cause, hints })
}

/// What may help against an import that fails in a release.
pub fn import_hint(cause: &str) -> Option<String> {
    if let Some((_, module)) = cause.split_once("ModuleNotFoundError: No module named '") {
        let module = module.split(['\'', '.']).next()?;
        return Some(format!(
            "`{module}` is neither in the project nor in its list of packages; where it works, `pip freeze` names the package that has it"
        ));
    }
    let (_, library) = cause.split_once("ImportError: ")?;
    let (library, _) = library.split_once(": cannot open shared object file")?;
    let package = libraries::having(library).map_or_else(|| "…".to_owned(), |names| names.join(", "));
    Some(format!(
        "the system package that has {library} is missing: `- package: [{package}]` in a file that `playbooks:` names"
    ))
}

/// The package whose build failed, as `name==version` where that was said.
fn package(lines: &[String]) -> Option<String> {
    let quoted = |line: &str, start: &str| {
        let (_, rest) = line.split_once(start)?;
        let name = rest.split('`').next()?;
        // From a file or an address: the name is enough.
        Some(name.split(" @ ").next().unwrap_or(name).trim().to_owned())
    };
    let uv = lines.iter().find_map(|line| {
        quoted(line, "Failed to build `").or_else(|| quoted(line, "Failed to download and build `"))
    });
    let pip = || {
        let wheel = lines.iter().find_map(|line| line.split_once("Failed building wheel for "));
        let wheel = wheel.map(|(_, name)| name.trim().to_owned());
        let built =
            lines.iter().any(|line| line.contains("install-failure") || line.contains("subprocess-exited"));
        let named = || lines.iter().find_map(|line| line.trim_start().strip_prefix("╰─> "));
        wheel.or_else(|| named().filter(|_| built).map(|name| name.trim().to_owned()))
    };
    uv.or_else(pip).filter(|name| !name.is_empty() && !name.contains(char::is_whitespace))
}

/// What a line says is not there, and how it is said to the user.
fn missing(line: &str) -> Option<(String, String)> {
    let between = |start: &str, end: &str| {
        let (_, rest) = line.split_once(start)?;
        Some(rest.split_once(end)?.0.trim().to_owned())
    };
    let compiler = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        if name.ends_with("g++") || name == "c++" {
            "g++".to_owned()
        } else if name.ends_with("gcc") || name == "cc" || name == "clang" {
            "gcc".to_owned()
        } else {
            name.to_owned()
        }
    };
    if let Some(header) = between("fatal error: ", ": No such file") {
        return Some((header.clone(), format!("the header {header} is missing")));
    }
    let program = between("No such file or directory: '", "'")
        .or_else(|| between("error: command '", "' failed: No such file"))
        .or_else(|| between("unable to execute '", "': No such file"))
        .or_else(|| between("sh: 1: ", ": not found"))
        .filter(|name| !name.contains(' '))
        .or_else(|| line.contains("pg_config executable not found").then(|| "pg_config".to_owned()))
        .or_else(|| line.contains("an't find Rust compiler").then(|| "rustc".to_owned()))
        .or_else(|| {
            line.contains("Cargo, the Rust package manager, is not installed").then(|| "cargo".to_owned())
        });
    if let Some(program) =
        program.map(|name| compiler(&name)).filter(|name| libraries::having(name).is_some())
    {
        return Some((program.clone(), format!("the program {program} is missing")));
    }
    let library = between("files could not be found for ", ",")
        .or_else(|| between("No package '", "' found"))
        .or_else(|| between("Dependency \"", "\" not found"))
        .or_else(|| line.contains("Can not find valid pkg-config name").then(|| "mysqlclient".to_owned()))?;
    Some((library.clone(), format!("the library {library} is missing")))
}

/// The last line that looks like an error of the build itself.
fn last_words(lines: &[&str]) -> String {
    let is_tools = |line: &str| {
        ["hint: ", "note: ", "cause: ", "error: Failed to build", "error: Failed to download and build"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let is_error = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        line.contains(": ")
            && !name.contains(' ')
            && (name == "error" || name.ends_with("Error") || name.ends_with("Exception") || name == "ERROR")
    };
    let found = lines.iter().rev().find(|line| is_error(line) && !is_tools(line));
    let found = found.map(|line| line.strip_prefix("error: ").unwrap_or(line).to_owned()).unwrap_or_default();
    found.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match explain(&text.lines().map(str::to_owned).collect::<Vec<_>>()) {
            Some(failure) => failure.hints.iter().fold(failure.cause, |all, hint| format!("{all}\n  {hint}")),
            None => "no build failed".to_owned(),
        }
    }

    #[test]
    fn imports_that_fail() {
        let hint = |cause: &str| import_hint(cause).unwrap_or_default();
        let missing = hint("ModuleNotFoundError: No module named 'environ.compat'");
        assert!(missing.starts_with("`environ` is neither"), "{missing}");
        let library = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory";
        assert!(hint(library).contains("- package: [libgl1]"), "{}", hint(library));
        assert!(hint("ImportError: libx.so: cannot open shared object file: No").contains("[…]"));
        assert_eq!(import_hint("ImportError: cannot import name 'a' from 'b'"), None);
        assert_eq!(import_hint("KeyError: 'A'"), None);
    }

    #[test]
    fn real_failures() {
        let header = "error: Failed to build `python-ldap==3.4.8`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)

         [stderr]
         no previously-included directories found matching 'Doc/.build'
         In file included from Modules/LDAPObject.c:3:
         Modules/common.h:15:10: fatal error: lber.h: No such file or directory
            15 | #include <lber.h>
         compilation terminated.
         error: Command '['x86_64-linux-gnu-gcc', '-Wsign-compare']' returned non-zero exit status 1.

hint: This error likely indicates that you need to install a library that provides `lber.h`";
        insta::assert_snapshot!(check(header), @r"
        python-ldap==3.4.8 could not be built: the header lber.h is missing
          its compilation needs the system packages gcc, libldap2-dev, libsasl2-dev, python3-dev: `- package: [gcc, libldap2-dev, libsasl2-dev, python3-dev]` in a file that `playbooks:` names
          there is no ready-made package (wheel) of python-ldap 3.4.8 for this Python: a newer python-ldap, or the Python of its days (`python:` in ship.yml), spares the compilation
        ");
        let compiler = "error: Failed to build `psycopg2-binary==2.7.7`
  cause: The build backend returned an error

         [stderr]
         It appears you are missing some prerequisite to build the package from source.
         error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'

hint: Build failures usually indicate a problem with the package or the build environment";
        insta::assert_snapshot!(check(compiler), @r"
        psycopg2-binary==2.7.7 could not be built: the program gcc is missing
          its compilation needs the system packages gcc, python3-dev: `- package: [gcc, python3-dev]` in a file that `playbooks:` names
          there is no ready-made package (wheel) of psycopg2-binary 2.7.7 for this Python: a newer psycopg2-binary, or the Python of its days (`python:` in ship.yml), spares the compilation
        ");
        let mysql = "error: Failed to build `mysqlclient==2.3.1`
         /bin/sh: 1: pkg-config: not found
         Exception: Can not find valid pkg-config name.
         Specify MYSQLCLIENT_CFLAGS and MYSQLCLIENT_LDFLAGS env vars manually";
        insta::assert_snapshot!(check(mysql), @r"
        mysqlclient==2.3.1 could not be built: the program pkg-config is missing
          its compilation needs the system packages default-libmysqlclient-dev, gcc, pkg-config, python3-dev: `- package: [default-libmysqlclient-dev, gcc, pkg-config, python3-dev]` in a file that `playbooks:` names
          there is no ready-made package (wheel) of mysqlclient 2.3.1 for this Python: a newer mysqlclient, or the Python of its days (`python:` in ship.yml), spares the compilation
        ");
        let own = "error: Failed to build `odd==1.0`
  cause: The build backend returned an error

         [stderr]
         Traceback (most recent call last):
           File \"<string>\", line 5, in <module>
         AttributeError: module 'inspect' has no attribute 'getargspec'

hint: Build failures usually indicate a problem with the package or the build environment";
        insta::assert_snapshot!(check(own), @r"
        odd==1.0 could not be built: AttributeError: module 'inspect' has no attribute 'getargspec'
          there is no ready-made package (wheel) of odd 1.0 for this Python: a newer odd, or the Python of its days (`python:` in ship.yml), spares the compilation
        ");
        let jpeg = "error: Failed to build `pillow==5.4.1`
         The headers or library files could not be found for jpeg,
         a required dependency when compiling Pillow from source.";
        insta::assert_snapshot!(check(jpeg), @r"
        pillow==5.4.1 could not be built: the library jpeg is missing
          its compilation needs the system packages libjpeg-dev, zlib1g-dev: `- package: [libjpeg-dev, zlib1g-dev]` in a file that `playbooks:` names
          there is no ready-made package (wheel) of pillow 5.4.1 for this Python: a newer pillow, or the Python of its days (`python:` in ship.yml), spares the compilation
        ");
        let local = "error: Failed to build `ourlib @ file:///srv/x`\n         SyntaxError: invalid syntax";
        insta::assert_snapshot!(check(local), @r"
        ourlib could not be built: SyntaxError: invalid syntax
        ");
        let pip = "      ./psycopg/psycopg.h:36:10: fatal error: libpq-fe.h: No such file or directory
      error: command '/usr/bin/x86_64-linux-gnu-gcc' failed with exit code 1
error: legacy-install-failure

× Encountered error while trying to install package.
╰─> psycopg2";
        insta::assert_snapshot!(check(pip), @r"
        psycopg2 could not be built: the header libpq-fe.h is missing
          its compilation needs the system packages gcc, libpq-dev, python3-dev: `- package: [gcc, libpq-dev, python3-dev]` in a file that `playbooks:` names
        ");
        assert_eq!(check("error: No solution found\n  cause: Because x was not found"), "no build failed");
        assert_eq!(check("Traceback (most recent call last):\nKeyError: 'x'"), "no build failed");
    }

    proptest::proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "\\PC*") {
            check(&format!("error: Failed to build `x==1`\n{text}"));
            check(&format!("Failed to build `{text}"));
        }
    }
}
