"""Where uploads go: the ``destination`` of a job config, and the URLs that name one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ingest.config.key_template import KeyTemplate
from ingest.config.paths import from_config_folder
from ingest.config.strict import Strict

MARKERS_FOLDER = "raw/hash/"
"""Where ``destination.dedupe`` keeps its markers, at a bucket's root; see :mod:`ingest.markers`."""


MAX_PORT = 65535
_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://([a-z0-9-]+(\.[a-z0-9-]+)*\.?|\[[0-9a-f:.]+\])(:(?P<port>\d+))?(/[!-~]*)?",
    re.IGNORECASE,
)
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class Destination(Strict):
    """Where uploads go, under which keys, and what happens where something is already there."""

    url: str = Field(
        description="`s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder` "
        "(with `%20` for a space, as in any URL) or a folder relative to the config file, as it is named."
    )
    endpoint_url: str | None = Field(
        default=None, description="URL of an S3-compatible server that is not AWS."
    )
    region: str | None = Field(
        default=None, description="The bucket's region, where the profile does not say."
    )
    profile: str | None = Field(default=None, description="Name of an AWS profile on each node; never a key.")
    key: KeyTemplate | None = Field(
        default=None,
        description="Template for keys. Default: the tile processor's own where it has one, else `{path}` for "
        "files and `{resolution}/{z}/{y}_{x}{suffix}` "
        "for tiles (with `{t}/` before it where there are several time points).",
    )
    on_existing: Literal["skip", "overwrite", "fail"] = Field(
        default="skip",
        description="What to do with a key that exists: `skip` where content is equal and fail the item "
        "where it is not, `overwrite` always, `fail` always (but in a folder, which cannot tell who stored a file, "
        "one with equal content passes when `ingest retry` tries the item again).",
    )
    checksum: Literal["auto", "sha256", "md5", "read_back", "none"] = Field(
        default="auto",
        description="How the store's answer is checked. `auto` tries this store out: a SHA-256 header that "
        "the server checks, else an ETag that is the MD5, else everything is read back. `none` trusts the "
        "connection.",
    )
    storage_class: str | None = Field(
        default=None,
        pattern="^[!-~]+$",
        description="S3 storage class of the data, such as `STANDARD_IA` or `GLACIER`. Manifests and markers, which "
        "are read again, get the bucket's own.",
    )
    dedupe: Literal["sha256"] | None = Field(
        default=None,
        description="`sha256`: content that this bucket has under any key is not sent again. Markers "
        "(`raw/hash/<sha256>`, at the bucket's root) say where it is.",
    )

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password:
            raise ValueError(
                "must not hold a user or password; name a profile, or set AWS_* variables on each node"
            )
        if parts.scheme in ("s3", "gs", "az"):
            if not parts.netloc:
                raise ValueError(f"names no bucket; expected {parts.scheme}://bucket/prefix")
            if not _BUCKET.fullmatch(parts.netloc):
                raise ValueError(
                    f"the bucket {parts.netloc!r} has characters that no bucket's name has (of an access point give "
                    "the alias, not the ARN)"
                )
            _check_no_query(url)
            return parts.scheme + url[len(parts.scheme) :].rstrip("/")
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise ValueError(f"{url!r} names the host {parts.netloc!r}; a local folder is file:///folder")
            return _canonical_folder_url(url)
        if "://" in url or not url:
            raise ValueError(f"{url!r} is no destination; expected s3://, gs://, az://, file:// or a folder")
        return folder_url(from_config_folder(Path(url), info).absolute())

    @field_validator("endpoint_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if "@" in url:  # wherever: a password may hold a slash
            raise ValueError("must not hold a user or password")
        _check_no_query(url)
        return checked_endpoint(url)

    @model_validator(mode="after")
    def _may_be_shared(self) -> Self:
        """Others rely on an object whose content they do not store again: it is checked, and stays as it is."""
        if self.dedupe is not None and self.on_existing == "overwrite":
            raise ValueError(
                "dedupe does not go with on_existing 'overwrite': other items may refer to what it replaces"
            )
        if self.dedupe is not None and self.checksum == "none":
            raise ValueError(
                "dedupe does not go with checksum 'none': other items rely on what was stored; use 'auto'"
            )
        return self

    @property
    def prefix(self) -> str:
        """What its keys begin with in the bucket, with a slash at the end; "" where that is nothing.

        A folder (``file://``) is a bucket itself.
        """
        scheme, _, rest = self.url.partition("://")
        prefix = "" if scheme == "file" else rest.partition("/")[2]
        return prefix and f"{prefix}/"

    @property
    def bucket(self) -> Self:
        """The whole bucket that it lies in, as a destination without a prefix, in the bucket's own storage class."""
        scheme, _, rest = self.url.partition("://")
        if scheme == "file":
            return self
        return self.model_copy(update={"url": f"{scheme}://{rest.partition('/')[0]}", "storage_class": None})


def checked_endpoint(url: str) -> str:
    """The URL of a server, its scheme in lower case.

    Raises:
        ValueError: it is none that both of our clients take.
    """
    found = _ENDPOINT.fullmatch(url)
    if found is None or int(found["port"] or 0) > MAX_PORT:
        raise ValueError(
            f"{url!r} is no URL; expected http://host:port or https://host, where a host's name has letters, digits, "
            "`-` and `.` alone"
        )
    return found["scheme"].lower() + url[len(found["scheme"]) :]


def local_folder(url: str) -> Path | None:
    """The folder that a destination's URL names; None where it is no folder of this machine."""
    scheme, _, rest = url.partition("://")
    return Path(unquote(rest.removeprefix("localhost"))) if scheme == "file" else None


def folder_url(folder: Path) -> str:
    """What :func:`local_folder` turns into ``folder`` again: of its characters ``%`` alone is written as an escape."""
    return "file://" + str(folder).replace("%", "%25")


def _canonical_folder_url(url: str) -> str:
    """A folder's URL with no escape but that of ``%``, whether it came with spaces or with ``%20`` (RFC 8089).

    Raises:
        ValueError: it names another folder if its escapes are none, and that one is there; or it is no path.
    """
    literal = url[len("file:") :].removeprefix("//").removeprefix("localhost")
    if not literal.startswith("/"):
        raise ValueError(f"{url!r} names no folder; a local folder is file:///folder")
    try:
        folder = Path(unquote(literal, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError(f"{url!r} has escapes that are no UTF-8; give the folder as a plain path") from None
    if "\0" in str(folder):
        raise ValueError("has a NUL character; no path has")
    if unquote(literal.replace("%25", "")) != literal.replace("%25", "") and Path(literal).is_dir():
        raise ValueError(
            f"{url!r} means {str(folder)!r}, and there is a folder {literal!r}; give the one that you mean as a "
            "plain path, without file://"
        )
    return folder_url(folder)


def _check_no_query(url: str) -> None:
    """What follows a `?` may be a secret, such as a SAS token; a config goes to Redis and into the manifest."""
    if "?" in url or "#" in url:
        raise ValueError(
            "must not hold `?` or `#`: a token does not belong in a config; set AWS_*, GOOGLE_* or AZURE_* "
            "variables on each node"
        )
