"""``python -m ingest``: the command line, where its script is not on PATH."""

from ingest.start import main

main()
