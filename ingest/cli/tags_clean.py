"""``ingest tags clean``: erase from tags what is proven stored."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ingest import offloads
from ingest.cli.output import emit_json, human_bytes, note, plural, printable
from ingest.cli.tag_args import addressed, scan_of, tag_options
from ingest.config import Settings
from ingest.errors import ConfigError, IngestError, ItemError, SourceAway, StoreError
from ingest.ssh.tag import ROOT, Tag, open_tag
from ingest.tags.clean import Cleaning, Erased
from ingest.tags.proof import Left, Proof


@click.command("clean")
@click.argument("tags", nargs=-1, metavar="[TAG[=ADDRESS]]...")
@click.option("--all", "all_tags", is_flag=True, help="All tags that are found.")
@tag_options
@click.option("--root-dir", default=ROOT, show_default=True, help="The folder of the data on the tags.")
@click.option("--dry-run", is_flag=True, help="Look for the proofs; erase nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    tags: Sequence[str],
    all_tags: bool,
    networks: Sequence[str],
    port: int,
    user: str,
    key_file: Path | None,
    ask_password: bool,
    root_dir: str,
    dry_run: bool,
    as_json: bool,
    yes: bool,
) -> int:
    """Erase from whale tags the files that are proven stored, and no others.

    A file is erased where a complete offload's manifest, read from the destination, has the SHA-256 that the file has
    on the tag now, where its object, read back and decoded, has it, and its backup copy too. All other files stay, each
    with the reason. The files are listed with their proofs, and you are asked; each is looked at again right before it
    is erased. To be run on the machine that offloaded the tags. The exit code is 3 where files are left.

    Of several tags, one that cannot be cleaned is left and named at the end; the exit code is for the first.

    \b
    Example:
      ingest tags clean wt-a1b2c3d4 --dry-run
      ingest tags clean wt-a1b2c3d4
      ingest tags clean --all
    """
    if bool(tags) == all_tags:
        raise ConfigError("name the tags to clean, or give --all", hint="`ingest tags list` shows them")
    if not dry_run:
        _ensure_asked(yes=yes)  # before hours of reading
    scan, settings = scan_of(networks, port, user, key_file, ask_password=ask_password)
    left, troubles = 0, dict[str, IngestError]()
    named = addressed(tags, scan, settings)
    for name, address in named.items():
        tag = open_tag(name, address, settings, user=scan.user, key_file=scan.key_file, root=root_dir)
        try:
            left += _clean(tag, settings, dry_run=dry_run, as_json=as_json, yes=yes)
        except (ConfigError, ItemError, SourceAway, StoreError) as error:
            if len(named) == 1:
                raise
            troubles[name] = error
            note(f"{name} is left: {error.what}{f' ({error.hint})' if error.hint else ''}")
        finally:
            tag.close()
    if troubles:
        note(f"left: {', '.join(troubles)}")
        return next(iter(troubles.values())).exit_code
    return 3 if left else 0


def _clean(tag: Tag, settings: Settings, *, dry_run: bool, as_json: bool, yes: bool) -> int:
    """Clean one tag; how many of its files are left that were not proven, or not erased after all."""
    cleaning = Cleaning(tag, settings)
    proofs, left = [], 0
    for finding in cleaning.findings():
        _show(tag.name, finding, as_json=as_json)
        if isinstance(finding, Proof):
            proofs.append(finding)
        else:
            left += 1
    size_bytes = sum(proof.file.size_bytes or 0 for proof in proofs)
    files = f"{plural(len(proofs), 'file')} ({human_bytes(size_bytes)})"
    note(f"{tag.name}: {files} proven stored, {plural(left, 'file')} left")
    if dry_run or not proofs:
        return left
    _ask(f"Erase {files} from {tag.name}?", yes=yes)
    for proof in proofs:
        done = cleaning.erase(proof)
        if as_json or isinstance(done, Left):
            _show(tag.name, done, as_json=as_json)
        left += isinstance(done, Left)
    note(
        f"{tag.name}: {plural(left, 'file')} left; what was erased is in {offloads.cleaned_path(settings, tag.name)}"
    )
    return left


def _ensure_asked(*, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise ConfigError(
            "nobody is there to ask",
            hint="add --yes to go on without asking, or --dry-run to look for the proofs only",
        )


def _ask(question: str, *, yes: bool) -> None:
    _ensure_asked(yes=yes)
    if not yes:
        click.confirm(question, default=False, abort=True, err=True)


def _show(tag: str, finding: Proof | Left | Erased, *, as_json: bool) -> None:
    event = {Proof: "proven", Left: "left", Erased: "erased"}[type(finding)]
    proof = finding.proof if isinstance(finding, Erased) else finding
    if as_json:
        facts = {"event": event, "tag": tag, "path": proof.file.path, "size_bytes": proof.file.size_bytes}
        emit_json(facts | (_facts(proof) if isinstance(proof, Proof) else {"reason": proof.reason}))
        return
    if isinstance(proof, Left):
        line = f"left    {proof.file.path}: {proof.reason}"
    else:
        how = "as it is" if proof.row.conversion == "as_is" else proof.row.conversion
        line = (
            f"proven  {proof.file.path}: SHA-256 {proof.sha256[:12]}… on the tag, in {proof.row.key} ({how}, "
            f"job {proof.job_id}) and in {proof.backup}"
        )
    click.echo(printable(line))


def _facts(proof: Proof) -> dict[str, str]:
    return {
        "sha256": proof.sha256,
        "job_id": proof.job_id,
        "key": proof.row.key,
        "conversion": proof.row.conversion,
        "backup": str(proof.backup),
    }
