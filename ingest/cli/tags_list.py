"""``ingest tags list``: the whale tags that answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ingest.cli.output import emit_json, human_bytes, note, plural, table
from ingest.cli.tag_args import scan_of, tag_options
from ingest.tags.discovery import Found, find_tags, not_let_in


@click.command("list")
@tag_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a tag.")
def command(
    networks: Sequence[str], port: int, user: str, key_file: Path | None, ask_password: bool, as_json: bool
) -> None:
    """Find the whale tags on the network, and say what is on them.

    Each address of the networks is asked whether an SSH server answers; where one does, Ingest logs in and asks for its
    name. The host key of a tag is recorded when it is first seen. On a network that is not yours, log in by a key: a
    password is told to whatever lets itself be logged in to.

    \b
    Example:
      ingest tags list
      ingest tags list --network 192.168.50.0/24 --json
    """
    scan, settings = scan_of(networks, port, user, key_file, ask_password=ask_password)
    unknown: list[Found] = []
    found = find_tags(scan, settings, unknown=unknown)
    if as_json:
        for one in found:
            emit_json(
                {
                    "tag": one.name,
                    "address": str(one.address),
                    "free_bytes": one.free_bytes,
                    "files": one.files,
                    "size_bytes": one.size_bytes,
                    "firmware": one.firmware,
                    "capture": one.capture,
                    "trouble": one.trouble or None,
                }
            )
    elif found:
        headers = ("TAG", "ADDRESS", "FREE", "FILES", "SIZE", "FIRMWARE", "CAPTURE", "TROUBLE")
        table(headers, [_row(one) for one in found], right=("FREE", "FILES", "SIZE"))
    note(f"{plural(len(found), 'tag')} on {', '.join(map(str, scan.networks))}")
    if hint := not_let_in(unknown):
        note(hint)


def _row(one: Found) -> tuple[object, ...]:
    free, size = (human_bytes(n) if n is not None else None for n in (one.free_bytes, one.size_bytes))
    return one.name, one.address, free, one.files, size, one.firmware, one.capture, one.trouble
