"""`roundelay`: private transformer inference between two parties, and what it costs."""

from __future__ import annotations

import importlib
from difflib import get_close_matches

import click

from engine.cli.common import set_up_logging, stop_on_terminate, text_errors
from engine.memory import keep_memory

COMMANDS = {
    "demo": "demo", "compile": "compile", "plan": "plan", "keygen": "keys", "pair": "keys", "deal": "deal",
    "serve": "serve", "embed": "client", "classify": "client", "fuzz": "fuzz", "report": "report", "bench": "bench",
    "networks": "networks", "calibrate": "calibrate", "simulate": "simulate", "sweep": "sweep",
}  # fmt: skip
"""Each command's module under engine.cli, imported when it is asked for."""


class Lazy(click.Group):
    """Imports a command's module on first use: `--help` stays quick, `fuzz` needs no ZeroMQ."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"engine.cli.{COMMANDS[cmd_name]}")
        found = getattr(module, cmd_name.replace("compile", "compile_"))
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess at what was meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, 1)
            guess = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"No such command '{args[0]}': {guess}")
        return super().resolve_command(ctx, args)


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to stderr. Never data, never keys.")
@click.version_option(package_name="roundelay")
def cli(verbose: bool) -> None:
    """Two parties run a transformer on a private prompt and private weights, showing each other nothing.

    \b
    See it work, three processes on this machine:   roundelay demo
    Know the cost before anything runs:             roundelay plan minilm --tokens 128
    Two machines, step by step (docs/tutorial.md):
      owner    roundelay compile minilm -o model/ ;  roundelay keygen
      dealer   roundelay keygen ;  roundelay deal --serve tcp://0.0.0.0:7001 --owner KEY --client KEY
      owner    roundelay serve model/ --listen tcp://0.0.0.0:7000 --client KEY --dealer tcp://HOST:7001 --dealer-key KEY
      client   roundelay pair tcp://HOST:7000 --owner KEY
               roundelay embed tcp://HOST:7000 --dealer tcp://HOST:7001 --dealer-key KEY "a private sentence"

    \b
    Exit codes: 0 well; 1 other; 2 wrong input; 3 the other side's fault; 4 a tape; 5 this machine's fault;
                6 a check failed (fuzz, demo).
    """
    keep_memory()
    set_up_logging(verbose)
    stop_on_terminate()


main = text_errors(cli)

if __name__ == "__main__":
    main()
