"""Both clients of an S3 store, from one session: obstore's for the many small calls, boto3's for the rest."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import ProfileNotFound
from botocore.loaders import Loader
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Client

from ingest.config import Destination, UploadConfig, checked_endpoint
from ingest.errors import ConfigError, StoreRefused
from ingest.stores.objects import CONNECT_TIMEOUT_S, NO_RETRIES, client_options
from ingest.stores.vendor_errors import BOTO_ERRORS, OBSTORE_ERRORS, Place, from_boto

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CREDENTIALS_TTL = timedelta(minutes=5)
"""How long obstore keeps credentials before it asks boto3 again, which renews them in good time."""
LOOK_AGAIN_S = 2.0
"""How often credentials that are refused are read anew, at most."""
BOTO_CLIENTS = ("_boto", "_boto_for_parts")
READ_TIMEOUT_S = 60
"""How long boto3 waits for a socket that neither takes nor gives a byte."""


class _Loader(Loader):
    """botocore's, which else looks into the folders of all 400 services before it loads the one that is wanted."""

    @classmethod
    def in_place_of(cls, loader: Loader) -> _Loader:
        """One that finds what this one finds."""
        return cls(extra_search_paths=[*loader.search_paths], include_default_search_paths=False)

    def list_available_services(self, type_name: str) -> list[str]:
        """The names of the services' folders."""
        folders = [Path(path) for path in self.search_paths]
        return sorted({one.name for folder in folders if folder.is_dir() for one in folder.iterdir()})


@dataclass
class S3Clients:
    """The clients for one destination. Made in the process that uses them, and safe in all its threads.

    Raises:
        StoreRefused: the profile does not exist, or no credentials are found.
        ConfigError: neither the destination nor the profile names a region, and the server is AWS.
    """

    destination: Destination
    upload: UploadConfig
    bucket: str
    prefix: str
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._looked_s = time.monotonic()
        self.session = self._open_session()
        named = self.destination
        self.place = Place(named.url, self.endpoint, named.profile)

    def _open_session(self) -> boto3.Session:
        named = self.destination
        place = Place(named.url, named.endpoint_url, named.profile)
        try:
            core = botocore.session.Session(profile=named.profile)
            core.register_component("data_loader", _Loader.in_place_of(core.get_component("data_loader")))
            session = boto3.Session(botocore_session=core, region_name=named.region)
            credentials = session.get_credentials()
            self._ca_bundle: str | None = core.get_config_variable("ca_bundle") or os.environ.get(
                "REQUESTS_CA_BUNDLE"
            )
        except ProfileNotFound as error:
            profile = error.kwargs["profile"]
            raise StoreRefused(
                f"{place}: there is no profile {profile!r} here",
                hint=f"`aws configure --profile {shlex.quote(profile)}` makes one; ~/.aws/config has them",
            ) from None
        except BOTO_ERRORS as error:
            raise from_boto(error, place) from None
        if credentials is None:
            raise StoreRefused(
                f"{place}: no credentials were found",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a destination.profile",
            )
        _refuse_slips(credentials, place)
        return session

    def renew_credentials(self) -> bool:
        """Read the credentials anew, every few seconds at most; True where they are others now.

        boto3 renews by itself what it got for a while only. A key in a file it reads once, whatever a person
        writes there later.
        """
        with self._lock:
            if time.monotonic() - self._looked_s < LOOK_AGAIN_S:
                return False
            self._looked_s = time.monotonic()
            try:
                session = self._open_session()
                if _key_of(session) == _key_of(self.session):
                    return False
            except (*BOTO_ERRORS, StoreRefused):
                return False
            self.session = session
            for name in BOTO_CLIENTS:
                self.__dict__.pop(name, None)
            return True

    @cached_property
    def endpoint(self) -> str | None:
        """The server that is not AWS, as the destination, the profile or AWS_ENDPOINT_URL names it."""
        if self.destination.endpoint_url is not None:
            return self.destination.endpoint_url.rstrip("/")
        url = str(
            self._make_boto(self.session.region_name or "us-east-1", path_style=False).meta.endpoint_url
        )
        host = url.partition("://")[2].partition("/")[0]
        if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return None
        try:
            return checked_endpoint(url).rstrip("/")
        except ValueError:
            raise _no_endpoint() from None

    @cached_property
    def region(self) -> str:
        """The region to sign for; servers that are not AWS take ``us-east-1`` where none is named."""
        region: Any = self.session.region_name
        if region is None and self.endpoint is None:
            raise ConfigError(
                "names no region, and neither does the profile",
                place="destination.region",
                hint="give the bucket's region, such as us-east-1, or set AWS_REGION",
            )
        return region or "us-east-1"

    @property
    def boto(self) -> S3Client:
        """The boto3 client, made when first needed."""
        with self._lock:
            return self._boto

    @property
    def boto_for_parts(self) -> S3Client:
        """As :attr:`boto`, for requests whose body need not be hashed once more to be signed.

        They carry a SHA-256 in a header, which is signed, or the store's capabilities have ``unsigned_body``.
        """
        with self._lock:
            return self._boto_for_parts

    def close(self) -> None:
        """Let go of boto3's connections."""
        with self._lock:
            for name in BOTO_CLIENTS:
                if name in self.__dict__:
                    self.__dict__.pop(name).close()

    @cached_property
    def _boto(self) -> S3Client:
        return self._make_boto(self.region, path_style=self.endpoint is not None)

    @cached_property
    def _boto_for_parts(self) -> S3Client:
        return self._make_boto(self.region, path_style=self.endpoint is not None, signs_body=False)

    def _make_boto(self, region: str, *, path_style: bool, signs_body: bool = True) -> S3Client:
        s3: Any = {"addressing_style": "path"} if path_style else {}
        if not signs_body:
            s3["payload_signing_enabled"] = False
        config = Config(
            signature_version="s3v4",
            s3=s3,
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            max_pool_connections=self.upload.threads + 4,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            return self.session.client(
                "s3",
                region_name=region,
                endpoint_url=self.destination.endpoint_url,
                verify=self._ca_bundle or True,  # an empty AWS_CA_BUNDLE is taken for "do not look" else
                config=config,
            )
        except BOTO_ERRORS as error:
            if type(error) is ValueError:
                raise _no_endpoint() from None
            raise from_boto(error, Place(self.destination.url, self.destination.endpoint_url)) from None

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is."""
        return (self.endpoint or "https://").startswith("https://")

    def obstore(self, *, sha256: bool, unsigned_body: bool = False) -> Client:
        """An obstore client; with ``sha256`` every put carries the SHA-256 header for the server to check.

        With ``unsigned_body`` the body's hash is no part of a request's signature.
        """
        named: dict[str, Any] = {"checksum_algorithm": "sha256"} if sha256 else {}
        if unsigned_body:
            named["unsigned_payload"] = True
        if self.endpoint is not None:
            named["endpoint"] = self.endpoint
        elif "." not in self.bucket:
            domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
            named["endpoint"] = f"https://{self.bucket}.s3.{self.region}.{domain}"
        options = client_options(
            self.upload,
            allow_http=(self.endpoint or "").startswith("http://"),
            ca_certificates=_read_certificates(self._ca_bundle),
        )
        try:
            return Client(
                self.bucket,
                prefix=self.prefix or None,
                region=self.region,
                virtual_hosted_style_request=self.endpoint is None and "." not in self.bucket,
                client_options=options,
                retry_config=NO_RETRIES,
                credential_provider=Boto3CredentialProvider(self.session, ttl=CREDENTIALS_TTL),
                **named,
            )
        except OBSTORE_ERRORS as error:
            raise ConfigError(
                f"{self.place}: the client cannot be made ({type(error).__name__})",
                hint="one of the AWS_* variables, or of the certificates that AWS_CA_BUNDLE names, cannot be used",
            ) from None


def _no_endpoint() -> ConfigError:
    """Our error for a server's URL that is none; it may hold a password."""
    return ConfigError(
        "names no URL that can be used",
        place="AWS_ENDPOINT_URL",
        hint="expected http://host:port or https://host",
    )


def _read_certificates(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the CA's certificates {path!r} cannot be read: {error.strerror}",
            hint="AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or `ca_bundle` in the AWS config file names them",
        ) from None


def _refuse_slips(credentials: Credentials, place: Place) -> None:
    """Refuse what no header can hold, such as a line break that was pasted with a key: clients fail without a word."""
    if isinstance(credentials, RefreshableCredentials):
        return
    for name in ("access_key", "secret_key", "token"):
        value = getattr(credentials, name) or ""
        if value != value.strip() or not value.isprintable():
            raise StoreRefused(
                f"{place}: the {name.replace('_', ' ')} has a space or a line break that does not belong to it",
                hint=f"check {place.credentials}",
            )


def _key_of(session: boto3.Session) -> object:
    """What tells one set of credentials from another."""
    credentials = session.get_credentials()
    return credentials and credentials.get_frozen_credentials()
