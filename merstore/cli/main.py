"""The `merstore` command: finds the command asked for, and turns what goes wrong into one line and an exit code.

Exit codes: 0 ok, 1 problems were found or something failed, 2 wrong usage, 130 interrupted.
"""

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from merstore._version import __version__
from merstore.cli import console
from merstore.errors import InvalidKey, MerstoreError, NotAStore, UnknownView

# In the order in which a newcomer meets them. Each is `merstore.cli.<module>.<command>`.
COMMANDS = {
    "ls": "ls",
    "info": "info",
    "failures": "failures",
    "import": "importing",
    "export": "exporting",
    "run-with": "run_with",
    "prewarm": "prewarm",
    "merge": "merge",
    "affectgpt": "affectgpt",
    "tune": "tune",
    "infer": "infer",
    "zero-shot": "zero_shot",
    "train": "train",
    "verify": "verify",
    "compact": "compact",
    "noise": "noise",
    "extract-labels": "extract_labels",
    "score": "score",
    "report": "report",
    "corpora": "corpora",
    "encoders": "encoders",
    "doctor": "doctor",
}
WRONG_USAGE = (InvalidKey, NotAStore, UnknownView)  # the command line named what is not there
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Commands(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"merstore.cli.{COMMANDS[name]}")
        command = getattr(module, f"{name.replace('-', '_')}_")
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="merstore %(version)s")
def cli() -> None:
    """A feature store for multimodal emotion recognition.

    STORE is always the store's folder, VIEW a view's path such as
    mer2023/frame@CLIP_VIT_LARGE/uniform_8frms, or its legacy folder name. Put -- before an argument
    that begins with a dash.
    """


def run(args: Sequence[str], command: click.Command = cli, name: str = "merstore") -> int:
    """Runs one command line and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a name the terminal cannot show is escaped, not fatal
            stream.reconfigure(errors="backslashreplace")
    try:
        with command.make_context(name, list(args), obj=tuple(args)) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        bare.show()
        return bare.exit_code
    except click.ClickException as wrong:
        if isinstance(wrong, click.UsageError) and wrong.ctx is not None:
            console.note(wrong.ctx.get_usage())
        console.error(wrong.format_message())
        return wrong.exit_code
    except MerstoreError as refused:
        console.error(str(refused))
        return 2 if isinstance(refused, WRONG_USAGE) else 1
    except (KeyboardInterrupt, click.Abort):
        console.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as failed:
        console.error(f"{failed.filename}: {failed.strerror}" if failed.filename else str(failed))
        return 1
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
