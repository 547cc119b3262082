# How an exception is shown: the beginning of preflight.py and of migrations.py.
import traceback


def shown(error, folder):
    """The traceback without the stairs of import and of the middleware: the project's frames, and where it ends."""
    causes = [error]
    while causes[-1] is not None:
        last = causes[-1]
        causes.append(last.__cause__ or (None if last.__suppress_context__ else last.__context__))
    lines = []
    for one in reversed(causes[:-1][:4]):
        frames = traceback.extract_tb(one.__traceback__)
        frames = [frame for frame in frames if not frame.filename.startswith("<") and "/importlib/" not in frame.filename]
        ours = [frame.filename.startswith(folder) for frame in frames]
        # The last one, and what called it if that is not the project's own.
        keep = [own or i >= len(frames) - (1 if ours[-1] else 2) for i, own in enumerate(ours)]
        lines.append("Traceback (most recent call last):")
        for i, frame in enumerate(frames):
            if keep[i]:
                lines.append("".join(traceback.format_list([frame])).rstrip())
            elif i == 0 or keep[i - 1]:
                lines.append("  ...")
        lines.append("".join(traceback.format_exception_only(type(one), one)).rstrip())
    return lines
