"""``ingest tags``: whale tags on the network."""

from __future__ import annotations

import click

from ingest.cli import tags_clean, tags_list, tags_offload, tags_trust


@click.group("tags")
def command() -> None:
    """Find whale tags, offload them, erase what is proven stored, and accept their host keys.

    Tags are reached over SSH: by a key (--key-file, an agent, or ~/.ssh), or by a password, which is asked for with
    --ask-password or taken from the variable INGEST_TAG_PASSWORD.

    \b
    Example:
      ingest tags list
      ingest tags offload wt-a1b2c3d4 --to s3://bucket --backup /media/drive/tags
    """


for module in (tags_list, tags_offload, tags_clean, tags_trust):
    command.add_command(module.command)
