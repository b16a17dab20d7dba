"""The command line. Exit codes follow sysexits.h: 64 usage, 69, 70, 73, 77 from the master, 78 settings."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mta_front import __version__, checks, development
from mta_front.commandline import DEFAULT_FILE, Exit, FileOption, load_settings, refuse, settings_file
from mta_front.config import Loaded
from mta_front.limits_cli import limits_app
from mta_front.master import handover
from mta_front.queue_cli import queue_app
from mta_front.reloading import Source
from mta_front.settings import render

app = typer.Typer(
    help="A mail front door: SMTP in, durable before 250, relayed to where it belongs.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Show settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(limits_app, name="limits")
app.add_typer(queue_app, name="queue")

WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Front workers; over server.workers.")
]
NoRelayOption = Annotated[bool, typer.Option("--no-relay", help="Only receive; another process relays.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mta-front {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def serve(config: FileOption = None, workers: WorkersOption = None, no_relay: NoRelayOption = False) -> None:
    """Run the server. Without a settings file: a development server on loopback with an embedded store."""
    flags = {"server.workers": workers, "relay.workers": 0 if no_relay else None}
    path = settings_file(config)
    loaded = load_settings(path, flags)
    remarks = _examine(loaded, make=True)
    from mta_front.master.supervisor import run
    from mta_front.observe import log

    log.set_up(loaded.settings.log.format, loaded.settings.log.level, process="master")
    for remark in remarks:
        log.logger().warning("settings", remark=remark)

    def tell() -> None:
        with_user = development.has_user(loaded.tree)
        print(development.text(loaded.settings, with_user=with_user), flush=True)

    on_ready = tell if path is None else None
    source = Source(path, flags)
    raise typer.Exit(run(loaded.settings, with_relay=not no_relay, on_ready=on_ready, source=source))


@app.command()
def relay(config: FileOption = None) -> None:
    """Run relay workers alone: deliver what other processes have received."""
    path = settings_file(config)
    if path is None:
        raise typer.BadParameter(f"needs a settings file: -c FILE, or ./{DEFAULT_FILE}")
    loaded = load_settings(path, {})
    faults = _relay_faults(loaded)
    if faults:
        refuse(faults)
    from mta_front.master.supervisor import run

    raise typer.Exit(run(loaded.settings, relay_only=True, source=Source(path, {}, receives=False)))


@app.command()
def check(config: FileOption = None) -> None:
    """Check the settings, certificates, users and the hooks class, and start nothing. 0, or 78 and one line for each
    fault. What may not be meant is remarked on, and is no fault.
    """
    path = settings_file(config)
    loaded = load_settings(path, {})
    for remark in _examine(loaded, make=False):
        print(f"remark: {remark}", file=sys.stderr)
    print(f"{path or 'development settings'}: no faults")


@app.command()
def passwd(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Option("-f", "--file", metavar="FILE", help="Users file to change. Default: print the line."),
    ] = None,
    scheme: Annotated[
        str, typer.Option("--scheme", metavar="SCHEME", help="argon2id, scrypt, bcrypt, scram-sha-256 or plain.")
    ] = "argon2id",
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address", metavar="PATTERN", help="What the user may send as: a@b.example, *@b.example, *. Repeatable."
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the user out of FILE.")] = False,
) -> None:
    """Hash a password, asked for or from the first line of standard input, for the users file of [auth.file]."""
    from mta_front.passwd import PasswdError, delete_user, line_of, read_password, set_user

    if delete and file is None:
        raise typer.BadParameter("--delete needs -f FILE")
    try:
        if delete and file:
            delete_user(file, name)
            return
        line = line_of(name, read_password(), scheme, address or ())
        if file is None:
            print(line)
        else:
            set_user(file, line)
    except PasswdError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(error.code) from None


@config_app.command()
def schema() -> None:
    """Print the JSON schema of a settings file."""
    print(render.schema_json())


@config_app.command()
def show(config: FileOption = None) -> None:
    """Print the settings in effect and where each was set. Secrets are redacted."""
    loaded = load_settings(settings_file(config), {})
    print(render.effective_toml(loaded.settings, loaded.tree), end="")


@config_app.command()
def defaults() -> None:
    """Print a settings file with every key, its default and what it is for."""
    print(render.defaults_toml(), end="")


def _examine(loaded: Loaded, *, make: bool) -> list[str]:
    """Refuse what keeps good settings from being served; returns remarks. `make`: as in `checks.examine`."""
    if not loaded.settings.listeners:
        loaded.tree.fault(("listeners",), "there is none; add [[listeners]]")
    findings = checks.examine(loaded, make=make, held=handover.is_adopting())
    if findings.faults:
        refuse(findings.faults, findings.exit_code)
    return findings.remarks


def _relay_faults(loaded: Loaded) -> list[str]:
    if not loaded.settings.relay.routes:
        loaded.tree.fault(("relay", "routes"), "there is none; add [[relay.routes]]")
    if not loaded.settings.relay.workers:
        loaded.tree.fault(("relay", "workers"), "must be at least 1 to relay")
    return loaded.tree.fault_lines()


def main() -> NoReturn:
    """Entry point of `mta-front` and of `python -m mta_front.cli`."""
    try:
        app(prog_name="mta-front")
    except SystemExit as end:
        sys.exit(Exit.USAGE if end.code == 2 else end.code)  # the parser of arguments says 2
    except Exception:  # noqa: BLE001 (a bug, whatever it is, has its exit code)
        traceback.print_exc()
        sys.exit(Exit.SOFTWARE)
    sys.exit(Exit.OK)


if __name__ == "__main__":
    main()
