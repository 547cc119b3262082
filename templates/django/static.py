# What collectstatic would work from, as a proof that it has nothing to do. A module of preflight.py's program.
import hashlib
import os
import sys


def proof(release):
    """A digest of the sources and whether all that was made of them is there; None where that can't be told: files that
    are kept elsewhere, or a command of the project's own."""
    from django.apps import apps
    from django.contrib.staticfiles.finders import get_finders
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.files.storage import FileSystemStorage
    from django.core.management import get_commands

    staticfiles_storage._setup()
    storage = staticfiles_storage._wrapped
    if get_commands().get("collectstatic") != "django.contrib.staticfiles" or not isinstance(storage, FileSystemStorage):
        return None

    def entry(path, name):
        path = os.path.realpath(path)
        stat = os.stat(path)
        if path.startswith(release + os.sep):
            path = os.path.relpath(path, release)
        return "%s\0%s\0%d\0%d\n" % (name, path, stat.st_size, stat.st_mtime_ns)

    found = {}
    ignored = apps.get_app_config("staticfiles").ignore_patterns
    for finder in get_finders():
        for path, source in finder.list(ignored):
            name = os.path.join(source.prefix, path) if getattr(source, "prefix", None) else path
            # The first of a name is taken, as collectstatic does it.
            if name not in found:
                found[name] = entry(source.path(path), name)
    names = list(found)
    if hasattr(storage, "read_manifest"):
        if storage.read_manifest() is None:
            names.append(storage.manifest_name)
        names += storage.hashed_files.values()
    there = all(storage.exists(name) for name in names)
    modules = {getattr(sys.modules.get(one.__module__), "__file__", None) for one in type(storage).__mro__} - {None}
    lines = sorted(found.values()) + sorted(entry(file, "storage") for file in modules)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest(), there
