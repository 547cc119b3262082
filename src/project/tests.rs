use insta::assert_snapshot;

use super::*;

const MANAGE: &str = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings')\n";
const WSGI: &str = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings')\n";

fn look(files: &[(&str, &str)]) -> Project {
    detect(&Tree::from_map(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect()))
}

fn plain() -> Vec<(&'static str, &'static str)> {
    vec![
        ("manage.py", MANAGE),
        ("library/__init__.py", ""),
        ("library/settings.py", "WSGI_APPLICATION = 'library.wsgi.application'\n"),
        ("library/wsgi.py", WSGI),
        ("requirements.txt", "Django==4.2\ngunicorn\n"),
    ]
}

/// Where the packages of the first root come from.
fn from(project: &Project) -> String {
    project.roots[0].dependencies.as_ref().map(Dependencies::shown).unwrap_or_default()
}

fn failure(error: ProjectError) -> String {
    Failure::from(error).to_string()
}

fn django(project: &Project) -> String {
    let root = match project.root(None) {
        Ok(root) => root,
        Err(error) => return failure(error),
    };
    let settings = match project.settings(root, None) {
        Ok(settings) => settings,
        Err(error) => return failure(error),
    };
    match project.wsgi(root, &settings) {
        Ok(wsgi) => format!("{} {settings} {wsgi}", root.dir),
        Err(error) => failure(error),
    }
}

fn findings(project: &Project) -> String {
    project.findings.iter().map(|f| format!("{}\n  {}\n", f.what, f.why)).collect()
}

#[test]
fn an_ordinary_project() {
    let project = look(&plain());
    assert_eq!(django(&project), ". library.settings library.wsgi");
    assert_eq!(from(&project), "requirements.txt");
    assert!(project.packages.contains("gunicorn"));
    assert_snapshot!(findings(&project), @r"
    packages are installed from requirements.txt
      the first of the usual names of a requirements file
    ");
}

#[test]
fn where_django_is() {
    let nested = [
        ("site/manage.py", MANAGE),
        ("site/library/settings/__init__.py", ""),
        ("site/library/wsgi.py", ""),
        ("venv/lib/site-packages/django/conf/project_template/manage.py", MANAGE),
        (".tox/manage.py", MANAGE),
        ("node_modules/x/manage.py", MANAGE),
        ("env/pyvenv.cfg", ""),
        ("env/x/manage.py", MANAGE),
    ];
    let served = [
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.local') # django"),
        ("config/settings/local.py", ""),
        ("config/settings/production.py", ""),
        ("config/wsgi.py", "setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.production')"),
    ];
    let callable = [
        ("manage.py", MANAGE),
        ("library/settings.py", "WSGI_APPLICATION = \"library.serve.app\""),
        ("library/serve.py", ""),
    ];
    let computed = [("manage.py", "django"), ("library/settings.py", ""), ("library/wsgi.py", "")];
    let flat = [
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'settings') # django"),
        ("settings.py", ""),
        ("wsgi.py", ""),
    ];
    for (files, expected) in [
        (&nested[..], "site library.settings library.wsgi"),
        (&served, ". config.settings.production config.wsgi"),
        (&callable, ". library.settings library.serve:app"),
        (&computed, ". library.settings library.wsgi"),
        (&flat, ". settings wsgi"),
    ] {
        assert_eq!(django(&look(files)), expected);
    }
    assert_snapshot!(findings(&look(&served)), @r"
    manage.py uses `config.settings.local`, config/wsgi.py uses `config.settings.production`
      a site is served through config/wsgi.py, so its settings are taken; `django.settings` overrides
    no requirements file
      the site's packages can't be installed without one: `pip freeze > requirements.txt` in its virtual environment
    ");
}

#[test]
fn without_manage_py() {
    assert_snapshot!(django(&look(&[("README.md", ""), ("app/manage.py", "flask_script")])), @r"
    error: no manage.py of a Django project in this folder or below it (2 files searched)
    hint: app/manage.py does not mention Django
    hint: run ship in the project's folder, or name it with `-C DIR`
    hint: virtual environments, node_modules and hidden folders are not searched, nor what git ignores
    ");
    let named = detect(&Tree::new([""; 0], |_| None).in_folder("~/src/library"));
    assert!(
        django(&named).starts_with("error: no manage.py of a Django project in `~/src/library` or below it")
    );
    assert_snapshot!(django(&look(&[])), @r"
    error: no manage.py of a Django project in this folder or below it (0 files searched)
    hint: run ship in the project's folder, or name it with `-C DIR`
    hint: virtual environments, node_modules and hidden folders are not searched, nor what git ignores
    ");
}

#[test]
fn several_manage_py() {
    let project = look(&[("b/manage.py", MANAGE), ("a/deep/manage.py", MANAGE)]);
    assert_snapshot!(django(&project), @r"
    error: the project has several manage.py, in b, a/deep
    hint: name the folder of the one to deploy: `django: {root: …}`
    ");
    assert_snapshot!(failure(project.root(Some("c")).unwrap_err()), @r"
    error: the folder `c` has no manage.py of a Django project
    hint: manage.py is in b, a/deep
    ");
    assert_eq!(project.root(Some("a/deep")).unwrap().dir, "a/deep");
}

#[test]
fn settings_that_do_not_exist() {
    let project = look(&[
        ("manage.py", MANAGE),
        ("libary/settings.py", ""),
        ("libary/settings_prod.py", ""),
        ("libary/wsgi.py", ""),
    ]);
    assert_snapshot!(django(&project), @r"
    error: manage.py names the settings module `library.settings`, which does not exist
    hint: did you mean `libary.settings`?
    hint: settings modules here: libary.settings, libary.settings_prod
    hint: name one with `django: {settings: …}`
    ");
    let project = look(&plain());
    let root = project.root(None).unwrap();
    assert_snapshot!(failure(project.settings(root, Some("library.setings")).unwrap_err()), @r"
    error: the settings module `library.setings` does not exist as a file below the project's folder
    hint: did you mean `library.settings`?
    hint: settings modules here: library.settings
    ");
    let undecided = look(&[("manage.py", "django"), ("a/settings.py", ""), ("b/settings.py", "")]);
    assert_snapshot!(django(&undecided), @r"
    error: manage.py does not say plainly which settings module it uses
    hint: settings modules here: a.settings, b.settings
    hint: name one with `django: {settings: …}`
    ");
    assert_snapshot!(django(&look(&[("manage.py", MANAGE)])), @r"
    error: manage.py names the settings module `library.settings`, which does not exist
    hint: no settings module was found below the project's folder
    ");
}

#[test]
fn wsgi_that_is_unclear() {
    assert_snapshot!(django(&look(&[("manage.py", MANAGE), ("library/settings.py", "")])), @r"
    error: no wsgi.py below the project's folder
    hint: `django-admin startproject` writes one beside the settings; name it with `django: {wsgi: package.wsgi}`
    ");
    assert_snapshot!(
        django(&look(&[("manage.py", MANAGE), ("library/settings.py", ""), ("a/wsgi.py", ""), ("b/wsgi.py", "")])),
        @r"
    error: several WSGI modules: a.wsgi, b.wsgi
    hint: name the one to serve: `django: {wsgi: package.wsgi}`
    "
    );
}

#[test]
fn python_wishes() {
    for (files, python, bound) in [
        (&[("runtime.txt", "python-3.10.2\n")][..], Some("3.10.2 runtime.txt"), None),
        (&[(".python-version", "# note\n3.11\n")], Some("3.11 .python-version"), None),
        (&[("runtime.txt", "python-3.10.2"), (".python-version", "3.12")], Some("3.10.2 runtime.txt"), None),
        (&[("pyproject.toml", "[project]\nrequires-python = '>=3.9'")], None, Some(">=3.9 pyproject.toml")),
        (
            &[("pyproject.toml", "[project]\nrequires-python = '==3.9.*'")],
            None,
            Some("==3.9.* pyproject.toml"),
        ),
        (
            &[("pyproject.toml", "[tool.poetry.dependencies]\npython = '^3.10'\ndjango = '*'")],
            None,
            Some("^3.10 pyproject.toml"),
        ),
        (&[("Pipfile", "[requires]\npython_version = '3.9'")], Some("3.9 Pipfile"), None),
        (&[("Pipfile", "[requires]\npython_full_version = '3.9.4'")], Some("3.9.4 Pipfile"), None),
        (&[("setup.py", "setup(\n    python_requires='>=3.8, <4',\n)")], None, Some(">=3.8, <4 setup.py")),
        (&[("setup.cfg", "[options]\npython_requires = >=3.8\n")], None, Some(">=3.8 setup.cfg")),
        (&[("runtime.txt", "python-3.x"), (".python-version", "pypy3.9")], None, None),
        (
            &[("site/manage.py", MANAGE), ("site/runtime.txt", "python-3.9.1")],
            Some("3.9.1 site/runtime.txt"),
            None,
        ),
    ] {
        let project = look(files);
        let wish = project.python.as_ref().map(|found| format!("{} {}", found.value, found.origin));
        let allowed = project.python_bounds.as_ref().map(|(bounds, origin)| format!("{bounds} {origin}"));
        assert_eq!(wish.as_deref(), python, "{files:?}");
        assert_eq!(allowed.as_deref(), bound, "{files:?}");
    }
}

#[test]
fn requirements_are_followed() {
    let project = look(&[
        ("manage.py", MANAGE),
        ("requirements/production.txt", "-r base.txt\n-c limits.txt\n-r ../requirements/production.txt\n"),
        ("requirements/base.txt", "Gunicorn==21\n"),
        ("requirements/limits.txt", "pillow<12\n"),
    ]);
    assert_eq!(from(&project), "requirements/production.txt");
    assert_eq!(project.packages.iter().collect::<Vec<_>>(), ["gunicorn"]);
    let nested = look(&[("a/site/manage.py", MANAGE), ("a/requirements.txt", ""), ("requirements.txt", "")]);
    assert_eq!(from(&nested), "a/requirements.txt");
    let utf16 = detect(&Tree::new(["manage.py", "requirements.txt"], |path| {
        (path == "manage.py").then(|| MANAGE.to_owned())
    }));
    assert_snapshot!(findings(&utf16), @r"
    packages are installed from requirements.txt
      the first of the usual names of a requirements file
    requirements.txt is not UTF-8 text
      PowerShell's `>` writes UTF-16, which pip on the server can't read: save the file as UTF-8
    ");
}

#[test]
fn the_procfile() {
    let project = look(&[(
        "Procfile",
        "# heroku\nweb: gunicorn x\nrelease: ./bin/release.sh\ncelery_beat: celery -A x beat\nnonsense\n",
    )]);
    assert_eq!(project.worker_candidates().collect::<Vec<_>>(), [("celery_beat", "celery -A x beat")]);
    assert_snapshot!(findings(&project), @r"
    Procfile has the line `nonsense`
      it is not of the form `name: command` and was left out
    Procfile has the release step `./bin/release.sh`
      it runs once for each release, after the migrations and before the release serves
    ");
}

#[test]
fn settings_are_those_for_a_server() {
    let split = [
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.local') # django"),
        ("config/settings/__init__.py", ""),
        ("config/settings/base.py", ""),
        ("config/settings/local.py", ""),
        ("config/settings/production.py", ""),
        ("config/wsgi.py", ""),
        ("requirements.txt", ""),
    ];
    assert_eq!(django(&look(&split)), ". config.settings.production config.wsgi");
    assert_snapshot!(findings(&look(&split)), @r"
    settings are `config.settings.production`, although manage.py names `config.settings.local`
      by their name they are meant for a server; `django: {settings: …}` overrides
    packages are installed from requirements.txt
      the first of the usual names of a requirements file
    ");
}

#[test]
fn what_heroku_was_told() {
    let app = r#"{"env": {"MAIL_PASSWORD": {}}, "formation": {"web": {"quantity": 1}, "worker": {"quantity": 2}},
                  "scripts": {"postdeploy": "python manage.py loaddata x"}}"#;
    assert_snapshot!(findings(&look(&[("app.json", app)])), @r"
    app.json asks for 1 web, 2 worker
      the site's workers are sized for the server; others are named under `processes`
    app.json runs `python manage.py loaddata x` after the first deploy
      ship does not: `ship run` does, once the site is up
    app.json wants MAIL_PASSWORD
      they are in `secrets`; `ship config set NAME=VALUE` sets each before the first `ship up`
    ");
}

#[test]
fn libraries_of_the_system() {
    let project = look(&[
        ("manage.py", MANAGE),
        ("library/models.py", "from django.contrib.gis.db import models\n"),
        ("requirements.txt", "psycopg2\npython-magic\n"),
    ]);
    assert!(project.geodjango);
    assert_snapshot!(findings(&project), @r"
    packages are installed from requirements.txt
      the first of the usual names of a requirements file
    library/models.py uses GeoDjango
      its libraries GDAL, GEOS and PROJ are installed
    psycopg2 needs what no wheel brings
      the server gets gcc, libpq-dev, python3-dev
    python-magic needs what no wheel brings
      the server gets file
    ");
    assert!(!look(&[("a/settings.py", "# 'django.contrib.gis'\n")]).geodjango);
}
