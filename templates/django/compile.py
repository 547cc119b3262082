# Compiles the Python files of a release or of a virtual environment, which the site itself can't: those that are the very
# files of the one before (links to them) get what is compiled of those. Arguments: its folder, that of the one before, and
# a folder that is wanted first.
import compileall
import importlib.util
import os
import sys

release, before, *first = sys.argv[1:]
# More than these are worth starting a process for each core.
MANY = 100


def compiled_before(source, place):
    """Whether it could be linked."""
    old = os.path.join(before, os.path.relpath(source, release))
    try:
        if not os.path.samefile(source, old) or os.path.islink(os.path.dirname(place)):
            return False
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.link(importlib.util.cache_from_source(old), place)
    except OSError:
        return False
    return True


for folder in first:
    compileall.compile_dir(folder, quiet=2)
    # Who may read it there may read what is compiled of it.
    for name in os.listdir(os.path.join(folder, "__pycache__")):
        os.chown(os.path.join(folder, "__pycache__", name), -1, os.stat(folder).st_gid)
rest = []
for top, _, names in os.walk(release):
    for source in [os.path.join(top, name) for name in names if name.endswith(".py")]:
        if not os.path.islink(source) and not compiled_before(source, importlib.util.cache_from_source(source)):
            rest.append(source)
if len(rest) > MANY:
    compileall.compile_dir(release, quiet=2, workers=0)
else:
    for source in rest:
        compileall.compile_file(source, quiet=2)
