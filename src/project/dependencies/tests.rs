//! What is installed from which files, as data.

use insta::assert_snapshot;

use super::*;

const MANAGE: &str = "# django";
const POETRY: &str = r#"
[tool.poetry]
name = "my-site"
[tool.poetry.dependencies]
python = "^3.10"
django = {version = "^5.2", extras = ["bcrypt"]}
[tool.poetry.group.prod.dependencies]
gunicorn = "*"
[tool.poetry.group.dev.dependencies]
pytest = "*"
[build-system]
requires = ["poetry-core"]
"#;

fn tree(files: &[(&str, &str)]) -> Tree<'static> {
    Tree::from_map(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
}

/// What is found, and what would be installed.
fn shown(files: &[(&str, &str)], root: &str) -> String {
    let tree = tree(files);
    let found = search(&tree, root);
    let mut out: String = found.findings.iter().map(|f| format!("{}: {}\n", f.what, f.why)).collect();
    let Some(dependencies) = found.dependencies else { return out };
    let inputs = inputs(&dependencies, |path| tree.text(path).ok_or(())).unwrap();
    match Packages::read(&dependencies, inputs) {
        Ok(packages) => {
            let names = packages.names.iter().map(|(name, version)| match version {
                Some(version) => format!("{name} {version}"),
                None => name.clone(),
            });
            out.push_str(&format!("names: {}\n", names.collect::<Vec<_>>().join(", ")));
            let flag = |yes, text: &str| if yes { format!(" {text}") } else { String::new() };
            out.push_str(&format!(
                "how:{}{}{} {}",
                flag(packages.local, "local"),
                flag(packages.git, "git"),
                flag(dependencies.itself, "itself"),
                match packages.how {
                    How::Files(files) => files.join(" "),
                    How::Text(text) => format!("text\n{text}"),
                    How::Sync(arguments) => format!("uv sync {}", arguments.join(" ")),
                    How::Itself => "the project".into(),
                }
            ));
        }
        Err(error) => out.push_str(&crate::error::Failure::from(error).to_string()),
    }
    out
}

#[test]
fn the_most_exact_file_counts() {
    let pyproject = "[project]\nname = 'x'\ndependencies = ['django']\n";
    for (files, from) in [
        (&["requirements.txt"][..], "requirements.txt"),
        (&["requirements-prod.txt", "requirements_base.txt"], "requirements-prod.txt"),
        (&["pyproject.toml"], "pyproject.toml"),
        (&["pyproject.toml", "requirements.txt"], "requirements.txt"),
        (&["pyproject.toml", "requirements.txt", "uv.lock"], "uv.lock"),
        (&["pyproject.toml", "requirements.txt", "poetry.lock", "Pipfile.lock"], "poetry.lock"),
        (&["pyproject.toml", "pdm.lock"], "pdm.lock"),
        (&["Pipfile", "Pipfile.lock", "requirements.txt"], "Pipfile.lock"),
        (&["uv.lock"], ""),
        (&["Pipfile"], ""),
    ] {
        let text = |name: &str| if name == "pyproject.toml" { pyproject } else { "" };
        let files: Vec<(&str, &str)> = files.iter().map(|name| (*name, text(name))).collect();
        let found = search(&tree(&files), ".").dependencies.map(|found| found.shown()).unwrap_or_default();
        assert_eq!(found, from, "{files:?}");
    }
}

#[test]
fn what_is_found_is_said_with_its_reason() {
    assert_snapshot!(shown(&[("poetry.lock", ""), ("pyproject.toml", ""), ("requirements.txt", "")], "."), @r"
    packages are installed from poetry.lock, not requirements.txt: a lock file says most exactly what is installed; `requirements: requirements.txt` takes the other
    names: 
    how: text
    ");
    assert_snapshot!(shown(&[("Pipfile", "")], "."), @"Pipfile alone does not say what exactly is installed: `pipenv lock` writes a file that does");
    assert_snapshot!(shown(&[("pyproject.toml", POETRY)], "."), @"pyproject.toml alone does not say what exactly is installed: `poetry lock` writes a file that does");
    assert_snapshot!(shown(&[("manage.py", MANAGE)], "."), @"no requirements file: the site's packages can't be installed without one: `pip freeze > requirements.txt` in its virtual environment");
}

#[test]
fn requirements_with_all_that_they_may_hold() {
    let text = "--index-url https://user:${TOKEN}@packages.example.com/simple\nDjango==5.2.8 \\\n    --hash=sha256:abc\n\
                -e ./lib\ngit+https://example.com/x.git\n-c limits.txt\npsycopg[binary]>=3; python_version > '3.8'\n";
    let files = [("requirements.txt", text), ("limits.txt", "pillow<12\n")];
    assert_snapshot!(shown(&files, "."), @r"
    packages are installed from requirements.txt: the first of the usual names of a requirements file
    names: django 5.2.8, psycopg, psycopg-binary
    how: local git requirements.txt
    ");
    let tree = tree(&files);
    let dependencies = Dependencies::requirements(vec!["requirements.txt".into()]);
    let inputs = inputs(&dependencies, |path| tree.text(path).ok_or(())).unwrap();
    let packages = Packages::read(&dependencies, inputs).unwrap();
    assert_eq!(packages.variables().into_iter().collect::<Vec<_>>(), ["TOKEN"]);
    assert_eq!(packages.inputs.len(), 2);
}

#[test]
fn poetry_locks() {
    let lock = r#"
[[package]]
name = "django"
version = "5.2.8"
optional = false
groups = ["main", "dev"]
files = [{file = "a.whl", hash = "sha256:aa"}, {file = "a.tar.gz", hash = "sha256:ab"}]

[[package]]
name = "gunicorn"
version = "23.0.0"
optional = false
groups = ["prod"]
markers = {prod = "sys_platform != \"win32\""}
files = [{file = "b.whl", hash = "sha256:bb"}]

[[package]]
name = "private"
version = "1.0"
optional = false
groups = ["main"]
markers = "python_version < \"3.11\""
files = [{file = "c.whl", hash = "sha256:cc"}]
[package.source]
type = "legacy"
url = "https://packages.example.com/simple"
reference = "ours"

[[package]]
name = "pytest"
version = "8.0"
optional = false
groups = ["dev"]
files = [{file = "d.whl", hash = "sha256:dd"}]

[metadata]
lock-version = "2.1"
"#;
    assert_snapshot!(shown(&[("poetry.lock", lock), ("pyproject.toml", POETRY)], "."), @r#"
    packages are installed from poetry.lock: poetry's lock file, production groups only
    names: django 5.2.8, gunicorn 23.0.0, private 1.0
    how: text
    --extra-index-url https://packages.example.com/simple
    django[bcrypt]==5.2.8 \
        --hash=sha256:aa \
        --hash=sha256:ab
    gunicorn==23.0.0 ; sys_platform != "win32" \
        --hash=sha256:bb
    private==1.0 ; python_version < "3.11" \
        --hash=sha256:cc
    "#);
    let other = POETRY.replace("gunicorn", "daphne");
    assert_snapshot!(shown(&[("poetry.lock", lock), ("pyproject.toml", &other)], "."), @r"
    packages are installed from poetry.lock: poetry's lock file, production groups only
    error: poetry.lock: does not know `daphne` of pyproject.toml
    hint: renew it with `poetry lock`, and commit it
    ");
    assert_snapshot!(shown(&[("poetry.lock", "[[package]\n"), ("pyproject.toml", &other)], "."), @r"
    packages are installed from poetry.lock: poetry's lock file, production groups only
    error: poetry.lock:1: unclosed array table, expected `]`
    ");
}

#[test]
fn poetry_locks_of_before_that_say_nothing_of_groups() {
    let lock = r#"
[[package]]
name = "django"
version = "4.2"
category = "main"
[package.dependencies]
asgiref = ">=3.6"
"backports.zoneinfo" = {version = "*", markers = "python_version < \"3.9\""}
bcrypt = {version = "*", optional = true, markers = "extra == \"bcrypt\""}
argon2 = {version = "*", optional = true}
[package.extras]
bcrypt = ["bcrypt"]
argon2 = ["argon2"]

[[package]]
name = "asgiref"
version = "3.7"
[package.dependencies]
typing-extensions = {version = ">=4", markers = "python_version < \"3.11\""}

[[package]]
name = "typing-extensions"
version = "4.5"

[[package]]
name = "backports.zoneinfo"
version = "0.2.1"

[[package]]
name = "bcrypt"
version = "4.0"

[[package]]
name = "argon2"
version = "1.0"

[[package]]
name = "gunicorn"
version = "20.1"
[package.source]
type = "git"
url = "https://example.com/gunicorn.git"
reference = "main"
resolved_reference = "0123abc"

[[package]]
name = "pytest"
version = "7.0"

[metadata]
lock-version = "1.1"
[metadata.files]
django = [{file = "a.whl", hash = "sha256:aa"}]
"#;
    assert_snapshot!(shown(&[("poetry.lock", lock), ("pyproject.toml", POETRY)], "."), @r#"
    packages are installed from poetry.lock: poetry's lock file, production groups only
    names: asgiref 3.7, backports-zoneinfo 0.2.1, bcrypt 4.0, django 4.2, gunicorn 20.1, typing-extensions 4.5
    how: git text
    asgiref==3.7
    backports.zoneinfo==0.2.1 ; (python_version < "3.9")
    bcrypt==4.0
    django[bcrypt]==4.2
    gunicorn @ git+https://example.com/gunicorn.git@0123abc
    typing-extensions==4.5 ; (python_version < "3.11")
    "#);
}

#[test]
fn pdm_locks() {
    let pyproject = "[project]\nname = 'x'\ndependencies = ['django>=5']\n";
    let lock = r#"
[metadata]
groups = ["default", "dev"]
strategy = ["inherit_metadata"]
lock_version = "4.5.0"

[[package]]
name = "django"
version = "5.2.8"
requires_python = ">=3.10"
groups = ["default"]
dependencies = ["asgiref>=3.8.1", "tzdata; sys_platform == \"win32\""]
files = [{file = "a.whl", hash = "sha256:aa"}]

[[package]]
name = "asgiref"
version = "3.9"
groups = ["default"]
files = [{file = "b.whl", hash = "sha256:bb"}]

[[package]]
name = "tzdata"
version = "2025.1"
groups = ["default"]
marker = "sys_platform == \"win32\""
files = [{file = "c.whl", hash = "sha256:cc"}]

[[package]]
name = "pytest"
version = "8.0"
groups = ["dev"]
files = [{file = "d.whl", hash = "sha256:dd"}]
"#;
    let text = shown(&[("pdm.lock", lock), ("pyproject.toml", pyproject)], ".");
    assert_snapshot!(text, @r#"
    packages are installed from pdm.lock: PDM's lock file, production groups only
    names: asgiref 3.9, django 5.2.8, tzdata 2025.1
    how: text
    asgiref==3.9 \
        --hash=sha256:bb
    django==5.2.8 \
        --hash=sha256:aa
    tzdata==2025.1 ; sys_platform == "win32" \
        --hash=sha256:cc
    "#);
    // Without the groups the dependencies are followed, to the same end.
    let plain: String =
        lock.lines().filter(|line| !line.starts_with("groups = ")).map(|line| format!("{line}\n")).collect();
    assert_eq!(shown(&[("pdm.lock", &plain), ("pyproject.toml", pyproject)], "."), text);
}

#[test]
fn pipenv_locks() {
    let lock = r#"{
      "_meta": {"sources": [
        {"name": "pypi", "url": "https://index.example.com/simple", "verify_ssl": true},
        {"name": "ours", "url": "https://${USER}:${PASSWORD}@packages.example.com/simple", "verify_ssl": true}]},
      "default": {
        "django": {"version": "==5.2.8", "hashes": ["sha256:ab", "sha256:aa"], "markers": "python_version >= '3.10'", "index": "pypi"},
        "celery": {"version": "==5.4", "extras": ["redis"], "hashes": ["sha256:cc"]}},
      "develop": {"pytest": {"version": "==8.0", "hashes": []}}}"#;
    assert_snapshot!(shown(&[("Pipfile.lock", lock)], "."), @r"
    packages are installed from Pipfile.lock: pipenv's lock file, without its dev-packages
    names: celery 5.4, django 5.2.8
    how: text
    --extra-index-url https://${USER}:${PASSWORD}@packages.example.com/simple
    celery[redis]==5.4 \
        --hash=sha256:cc
    django==5.2.8 ; python_version >= '3.10' \
        --hash=sha256:aa \
        --hash=sha256:ab
    ");
    let elsewhere = r#"{"default": {
        "django": {"version": "==5.2.8", "hashes": ["sha256:aa"]},
        "lib": {"path": "./lib", "editable": true},
        "tool": {"git": "https://example.com/tool.git", "ref": "abc"}}}"#;
    assert_snapshot!(shown(&[("Pipfile.lock", elsewhere)], "."), @r"
    packages are installed from Pipfile.lock: pipenv's lock file, without its dev-packages
    names: django 5.2.8, lib, tool
    how: local git text
    django==5.2.8
    ./lib
    tool @ git+https://example.com/tool.git@abc
    ");
    assert_snapshot!(shown(&[("Pipfile.lock", "{}")], "."), @r"
    packages are installed from Pipfile.lock: pipenv's lock file, without its dev-packages
    error: Pipfile.lock: has no section `default`
    hint: renew it with `pipenv lock`, and commit it
    ");
    assert_snapshot!(shown(&[("Pipfile.lock", r#"{"default": {"django": {}}}"#)], "."), @r"
    packages are installed from Pipfile.lock: pipenv's lock file, without its dev-packages
    error: Pipfile.lock: does not pin `django`
    hint: renew it with `pipenv lock`, and commit it
    ");
}

#[test]
fn uv_locks() {
    let pyproject = "[project]\nname = 'my-site'\ndependencies = ['django']\n[dependency-groups]\ndev = []\nprod = ['gunicorn']\n";
    let lock = r#"
version = 1
[[package]]
name = "django"
version = "5.2.8"
source = { registry = "https://index.example.com/simple" }
dependencies = [{ name = "asgiref" }]
[[package]]
name = "asgiref"
version = "3.9"
source = { registry = "https://index.example.com/simple" }
[[package]]
name = "lib"
version = "0"
source = { editable = "lib" }
[[package]]
name = "gunicorn"
version = "23"
source = { registry = "https://index.example.com/simple" }
[[package]]
name = "psycopg"
version = "3.2"
source = { registry = "https://index.example.com/simple" }
[package.optional-dependencies]
binary = [{ name = "psycopg-binary" }]
[[package]]
name = "psycopg-binary"
version = "3.2"
source = { registry = "https://index.example.com/simple" }
[[package]]
name = "my-site"
version = "0.1.0"
source = { virtual = "." }
dependencies = [{ name = "django" }, { name = "psycopg", extra = ["binary"] }]
[package.dev-dependencies]
dev = [{ name = "gunicorn" }, { name = "lib" }]
"#;
    assert_snapshot!(shown(&[("uv.lock", lock), ("pyproject.toml", pyproject)], "."), @r"
    packages are installed from uv.lock: uv's lock file, production groups only
    names: asgiref 3.9, django 5.2.8, psycopg 3.2, psycopg-binary 3.2
    how: uv sync --group prod
    ");
    let member = lock.replace("[{ name = \"django\" },", "[{ name = \"django\" }, { name = \"lib\" },");
    assert!(
        shown(&[("uv.lock", &member), ("pyproject.toml", pyproject)], ".").contains("how: local uv sync")
    );
}

#[test]
fn projects_without_a_lock_file() {
    let plain = "[project]\nname = 'x'\ndependencies = ['django>=5', 'psycopg[binary]']\n\
                 [project.optional-dependencies]\nprod = ['gunicorn']\ndev = ['pytest']\n";
    assert_snapshot!(shown(&[("pyproject.toml", plain)], "."), @r"
    packages are installed from pyproject.toml: its [project] names them; there is no lock file, so versions may differ next time
    names: django, gunicorn, psycopg, psycopg-binary
    how: text
    django>=5
    psycopg[binary]
    gunicorn
    ");
    let dynamic = "[project]\nname = 'x'\ndynamic = ['dependencies']\n[tool.setuptools.dynamic]\ndependencies = {file = ['deps.txt']}\n";
    assert_snapshot!(shown(&[("pyproject.toml", dynamic), ("deps.txt", "django\n")], "."), @r"
    packages are installed from deps.txt: the first of the usual names of a requirements file
    names: django
    how: deps.txt
    ");
    let setup = "setup(\n  name='x',\n  install_requires=[\n    'Django>=4',\n    \"gunicorn\",\n  ],\n)";
    assert_snapshot!(shown(&[("setup.py", setup)], "."), @r"
    packages are installed from setup.py: the project is a package that says what it needs
    names: django, gunicorn
    how: local itself the project
    ");
    let cfg = "[options]\ninstall_requires =\n    Django>=4\n    psycopg2\npackages = find:\n";
    assert_snapshot!(shown(&[("setup.py", "setup()"), ("setup.cfg", cfg)], "."), @r"
    packages are installed from setup.py: the project is a package that says what it needs
    names: django, psycopg2
    how: local itself the project
    ");
}

#[test]
fn a_project_is_installed_itself_only_if_it_must_be() {
    let with = |text: &str| format!("[project]\nname = 'my-site'\ndependencies = ['django']\n{text}");
    let built = "[build-system]\nrequires = ['hatchling']\n";
    for (text, package, root, expected) in [
        (with(""), "src/my_site/__init__.py", ".", false),
        (with(built), "src/my_site/__init__.py", ".", true),
        (with(built), "src/my_site/__init__.py", "src", false),
        (with(built), "my_site/__init__.py", ".", false),
        (with(built), "my_site/__init__.py", "site", true),
        (with(built), "other/__init__.py", ".", false),
        (with(&format!("{built}[tool.uv]\npackage = false\n")), "src/my_site/__init__.py", ".", false),
        (
            with(&format!("{built}[project.scripts]\nwork = 'my_site:main'\n")),
            "my_site/__init__.py",
            ".",
            true,
        ),
    ] {
        let files = [("pyproject.toml", text.as_str()), (package, "")];
        let found = search(&tree(&files), root).dependencies.unwrap();
        assert_eq!(found.itself, expected, "{text} {package} {root}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = locks::pipenv(&text);
        setup_requires(&format!("install_requires{text}"));
        let _ = table_of("x", &text);
    }
}
