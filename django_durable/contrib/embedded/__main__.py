"""The command line of the embedded server."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from django_durable.contrib.embedded import EmbeddedServer, EmbeddedServerError

NOT_RUNNING = 3  # what pg_ctl and systemd answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m django_durable.contrib.embedded",
        description="A PostgreSQL server of your own, from a wheel.",
    )
    parser.add_argument("command", choices=("start", "stop", "url", "status", "remove"))
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR")
    parser.add_argument("--database", default="postgres", help="made if it is not there")
    parser.add_argument("--port", type=int, help="also listen on 127.0.0.1 (start)")
    options = parser.parse_args(arguments)
    try:
        return _perform(options.command, options.data_dir, options.database, options.port)
    except (EmbeddedServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _perform(command: str, data_dir: Path, database: str, port: int | None) -> int:
    server = EmbeddedServer.find(data_dir)
    if command == "remove":
        return _remove(data_dir, server)
    if command == "start" and server is None:
        server = EmbeddedServer.start(data_dir, port=port)
    if server is None:
        print(f"No server runs over {data_dir}.", file=sys.stderr)
        return 0 if command == "stop" else NOT_RUNNING
    if command == "stop":
        server.stop()
    elif command == "status":
        print(f"A server runs over {data_dir}: {server.url(database)}")
    else:
        server.create_database(database)
        print(server.url(database))
    return 0


def _remove(data_dir: Path, server: EmbeddedServer | None) -> int:
    """Stop the server and remove its data, which may lie behind a link."""
    if not (data_dir / "PG_VERSION").exists():
        raise EmbeddedServerError(f"{data_dir} is no data folder of PostgreSQL.")
    if server:
        server.stop("immediate")
    shutil.rmtree(data_dir.resolve())
    if data_dir.is_symlink():
        data_dir.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
