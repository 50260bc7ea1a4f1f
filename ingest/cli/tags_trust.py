"""``ingest tags trust``: accept a tag's new host key."""

from __future__ import annotations

import sys

import click

from ingest.cli.options import load_settings
from ingest.cli.output import note
from ingest.errors import ConfigError, SourceAway
from ingest.ssh.connection import shown_key
from ingest.ssh.tag import addresses_of, known_hosts_of


@click.command("trust")
@click.argument("tag", metavar="TAG[=ADDRESS]")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(tag: str, yes: bool) -> int:
    """Accept the host key that TAG shows now, in place of the one that it showed before.

    A tag's key changes when it is set up anew. If it was not, something else may answer in its place: compare the
    fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the tag itself.

    \b
    Example:
      ingest tags trust wt-a1b2c3d4
      ingest tags trust wt-a1b2c3d4=192.168.1.20
    """
    name, _, address = tag.partition("=")
    try:
        addresses = addresses_of(name, address)
    except ValueError as error:
        raise ConfigError(str(error), place="TAG") from None
    known_hosts = known_hosts_of(load_settings())
    try:
        key = shown_key(name, addresses)
    except SourceAway as error:
        hint = f"is it on? `ingest tags list` shows addresses; {name}=ADDRESS says where it is"
        raise SourceAway(error.what, hint=hint) from None
    known = known_hosts.keys(name)
    if key in known:
        note(f"{name} shows the key that it showed before, {key.fingerprint}: nothing to do")
        return 0
    note(f"known so far: {known[0].fingerprint if known else 'none'}")
    note(f"{name} shows {key.get_name()} {key.fingerprint}")
    if (other := known_hosts.name_of(key)) is not None:
        note(
            f"this is the key of {other}: if {name} is no copy of its card, {other} has the address of {name} now"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("nobody is there to ask", hint="add --yes to go on without asking")
        click.confirm("Trust it from now on?", default=False, abort=True, err=True)
    known_hosts.replace(name, key)
    note(f"recorded in {known_hosts.path}")
    return 0
