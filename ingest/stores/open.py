"""The store that a destination names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.config import Destination, UploadConfig, local_folder
from ingest.errors import ConfigError
from ingest.stores.base import Capabilities, Store
from ingest.stores.local import LocalStore

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Client

_BAD_SEGMENTS = frozenset(("", ".", ".."))


def open_store(
    destination: Destination, upload: UploadConfig, capabilities: Capabilities | None = None
) -> Store:
    """The store for ``destination``; nothing is asked of it yet.

    Make it in the process that uses it, never before a fork. Without ``capabilities`` it takes nothing for
    granted until :meth:`Store.probe` was called, and keeps what that found.

    Raises:
        ConfigError: the URL cannot be used, or an S3 region is neither given nor known.
        StoreRefused: there are no credentials.
    """
    root = local_folder(destination.url)
    if root is not None:
        return LocalStore(destination.url, root, checksum=destination.checksum, capabilities=capabilities)
    scheme, _, rest = destination.url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if (prefix and not _BAD_SEGMENTS.isdisjoint(prefix.split("/"))) or not prefix.isprintable():
        raise ConfigError(
            f"the prefix {prefix!r} has an empty name, '.', '..' or a control character",
            place="destination.url",
        )
    if scheme == "s3":
        return _s3(destination, upload, bucket, prefix, capabilities)
    return _other(destination, upload, bucket, prefix, capabilities)


def open_bucket(
    destination: Destination, upload: UploadConfig, capabilities: Capabilities | None = None
) -> Store:
    """The whole bucket that ``destination`` lies in, whose keys begin at its root; see :func:`open_store`."""
    return open_store(destination.bucket, upload, capabilities)


def _s3(
    destination: Destination,
    upload: UploadConfig,
    bucket: str,
    prefix: str,
    capabilities: Capabilities | None,
) -> Store:
    from ingest.stores.s3 import S3Store
    from ingest.stores.s3_clients import S3Clients

    return S3Store(S3Clients(destination, upload, bucket, prefix), destination, upload, capabilities)


def _other(
    destination: Destination,
    upload: UploadConfig,
    bucket: str,
    prefix: str,
    capabilities: Capabilities | None,
) -> Store:
    from obstore.store import AzureStore, GCSStore

    from ingest.stores.objects import NO_RETRIES, ObjectStore, client_options
    from ingest.stores.vendor_errors import OBSTORE_ERRORS, Place, from_obstore

    place = Place(destination.url)
    kind: type[GCSStore | AzureStore] = GCSStore if destination.url.startswith("gs://") else AzureStore
    try:
        client: Client = kind(
            bucket, prefix=prefix or None, client_options=client_options(upload), retry_config=NO_RETRIES
        )
    except OBSTORE_ERRORS as error:
        raise from_obstore(error, place) from None
    return ObjectStore(client, destination, upload, place, capabilities)
