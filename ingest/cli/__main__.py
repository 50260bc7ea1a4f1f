"""``python -m ingest.cli``: the command line, where its script is not on PATH."""

from ingest.cli import main

main(prog_name="ingest")
