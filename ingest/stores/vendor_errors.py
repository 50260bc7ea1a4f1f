"""The one boundary at which the errors of obstore, boto3 and the file system become ours.

No message holds a credential, a signed URL or a query string: only a status, the server's own code for
it, and the place.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from botocore import exceptions as boto
from obstore import exceptions as obs

from ingest.errors import (
    NO_SPACE,
    BucketMissing,
    ChecksumMismatch,
    ClockWrong,
    ItemError,
    KeyConflict,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)

Ours = TypeVar("Ours", bound=StoreError | ItemError)

OBSTORE_ERRORS = (obs.BaseError, OSError, ValueError)
"""What obstore raises on purpose."""
BOTO_ERRORS = (boto.ClientError, boto.BotoCoreError, OSError, ValueError, RuntimeError, EOFError)
"""What boto3 raises on purpose, and what its ways to credentials let through: a ``credential_process`` that is not
there, or that prints no JSON, say."""
CLIENT_ERRORS = (
    boto.EndpointResolutionError,
    boto.InvalidEndpointConfigurationError,
    boto.InvalidRegionError,
    boto.InvalidRetryModeError,
    boto.ParamValidationError,
)
"""Those of them that are about settings, and not about credentials."""

KEY_CODES = frozenset(
    (
        "EntityTooLarge",
        "InvalidResourceName",
        "InvalidUri",
        "KeyTooLong",
        "KeyTooLongError",
        "RequestBodyTooLarge",
        "XMinioInvalidObjectName",
    )
)
"""What is wrong with one key, or with the size of what it is to hold: no waiting cures it, and other items go on."""
_ABOUT_KEY = re.compile(r"object[ -]?(key|name)|\bkey (name|is too long)", re.IGNORECASE)
"""How servers say that an argument that they call invalid is the key."""
_ABOUT_CERTIFICATE = re.compile(r"invalid peer certificate|InvalidCertificate")
"""How obstore says that it does not trust a server."""
_SHOWS_A_CA = "CaUsedAsEndEntity"
_NO_REGION = "Received redirect without LOCATION"
"""What obstore makes of AWS's answer where the bucket is in another region. boto3 finds that one by itself."""
_ABOUT_CLOCK = re.compile(r"request time and the", re.IGNORECASE)
"""How servers say that a signature is of another time, where their code says no more than that it is refused."""
ARCHIVED = "InvalidObjectState"
"""The code for an object that must be restored from an archive before it can be read."""
_TOO_LONG = 414
LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more is asked again all the same."""
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_CODE_OF_ONE = re.compile(r"\(code: ([A-Za-z0-9.]{1,60})\)$")
"""How obstore says why one of many objects was not deleted, in an answer that is a success as a whole."""
_MESSAGE = re.compile(r"<Message>([^<]{1,1000})</Message>")

_CODES: dict[type[StoreError], tuple[str, ...]] = {
    BucketMissing: ("NoSuchBucket", "InvalidBucketName", "ContainerNotFound"),
    ObjectMissing: ("NoSuchKey", "NoSuchUpload", "BlobNotFound"),
    StoreRefused: (
        "AccessDenied",
        "AllAccessDisabled",
        "AccountProblem",
        "AuthenticationFailed",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "IllegalLocationConstraintException",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnauthorizedAccess",
    ),
    ClockWrong: ("RequestTimeTooSkewed",),
    StoreFull: ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"),
    ChecksumMismatch: (
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    ),
    StoreUnreachable: ("IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "SlowDown"),
    ObjectExists: ("BlobAlreadyExists", "ConditionalRequestConflict", "PreconditionFailed"),
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}
_BY_STATUS: dict[int, type[StoreError]] = {
    301: StoreRefused,
    307: StoreRefused,
    401: StoreRefused,
    403: StoreRefused,
    404: ObjectMissing,
    408: StoreUnreachable,
    409: ObjectExists,
    412: ObjectExists,
    429: StoreUnreachable,
    507: StoreFull,
}
_BY_ERRNO: dict[int, type[StoreError]] = {
    **dict.fromkeys(NO_SPACE, StoreFull),
    **dict.fromkeys([errno.EACCES, errno.EPERM, errno.EROFS], StoreRefused),
    errno.ENOENT: ObjectMissing,
    errno.EEXIST: ObjectExists,
}
_NEVER = (501, 505)
"""Of the 5xx, those that waiting does not cure."""
_HINTS: dict[str, str] = {
    "InvalidAccessKeyId": "the access key is unknown there; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret is not the access key's; check AWS_SECRET_ACCESS_KEY or the profile",
    "ExpiredToken": "the credentials have expired; log in again (`aws sso login`) or renew AWS_SESSION_TOKEN",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set destination.region",
    "PermanentRedirect": "the bucket is in another region; set destination.region",
    "InvalidStorageClass": "check destination.storage_class",
}
_HINT_NO_S3 = "is this a server that speaks S3? Check destination.endpoint_url, its http:// or https:// too"
_CREDENTIALS = {"gs": "the GOOGLE_* variables", "az": "the AZURE_* variables"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, for messages: URL, endpoint where that is not the vendor's own, profile."""

    url: str
    endpoint: str | None = None
    profile: str | None = None

    def __str__(self) -> str:
        return self.url + (f" at {self.endpoint}" if self.endpoint else "")

    @property
    def credentials(self) -> str:
        """Where its credentials come from, for hints."""
        if self.profile:
            return f"the profile {self.profile!r}"
        return _CREDENTIALS.get(
            self.url.partition("://")[0], "the AWS_* variables or the profile that is used"
        )


def from_obstore(
    error: Exception, place: Place, key: str | None = None, *, is_head: bool = False
) -> StoreError | ItemError:
    """Our error for one that obstore raised about ``key`` at ``place``. ``is_head``: as for :func:`answered`."""
    text = str(error).partition("\n\nDebug source:")[0]
    code, status = _CODE.search(text) or _CODE_OF_ONE.search(text), _STATUS.search(text)
    if status or code:
        said = _MESSAGE.search(text)
        number, message = int(status[1]) if status else 200, said[1] if said else ""
        return answered(number, code[1] if code else "", place, key, message, is_head=is_head)
    if _NO_REGION in text:
        return answered(301, "PermanentRedirect", place, key)
    if isinstance(error, obs.UnauthenticatedError | obs.PermissionDeniedError):
        return _refused(place, "no usable credentials could be had")
    if isinstance(error, obs.GenericError | OSError) and not isinstance(error, FileNotFoundError):
        return _untrusted(place, str(error)) if _ABOUT_CERTIFICATE.search(str(error)) else unreachable(place)
    return _about_object(error, text, place, key)


def _about_object(error: Exception, text: str, place: Place, key: str | None) -> StoreError | ItemError:
    """Our error for one of obstore's that is about what is asked for, and not about the way there."""
    if isinstance(error, FileNotFoundError):
        return _named(ObjectMissing, place, key, "there is no such object")
    if isinstance(error, obs.AlreadyExistsError | obs.PreconditionError):
        return _named(ObjectExists, place, key, "there is an object already")
    about_key = isinstance(error, obs.InvalidPathError) or text.startswith("Could not parse path")
    kind: type[StoreError | ItemError] = KeyInvalid if about_key and key is not None else StoreError
    return _named(kind, place, key, f"the client refused with {type(error).__name__}")


def from_boto(
    error: Exception, place: Place, key: str | None = None, *, is_head: bool = False
) -> StoreError | ItemError:
    """Our error for one that boto3 raised about ``key`` at ``place``. ``is_head``: as for :func:`answered`."""
    if isinstance(error, boto.ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = error.response.get("Error", {})
        ours = answered(status, said.get("Code", ""), place, key, said.get("Message", ""), is_head=is_head)
        if isinstance(ours, StoreUnreachable):
            ours.retry_after_s = retry_after_s(
                error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            )
        return ours
    if isinstance(error, boto.SSLError):
        return _untrusted(place, str(error))
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError):
        return unreachable(place)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        return _refused(place, "no credentials were found")
    if isinstance(error, CLIENT_ERRORS):
        hint = "check destination.region, and the region and `s3` settings of the AWS config file"
        return _named(StoreError, place, key, f"the client refused with {type(error).__name__}", hint=hint)
    return _refused(place, f"no usable credentials could be had ({type(error).__name__})")


def answered(
    status: int, code: str, place: Place, key: str | None = None, message: str = "", *, is_head: bool = False
) -> StoreError | ItemError:
    """Our error for an answer with this HTTP status, code and message of the server's ("" where it gave none).

    An answer to HEAD (``is_head``) has no body: AWS's 400 there may be credentials that have expired.
    """
    may_have_expired = is_head and status == 400
    kind = StoreRefused if may_have_expired else _BY_CODE.get(code) or _BY_STATUS.get(status)
    said = str(status) if code in ("", str(status)) else f"{status} {code}"
    its_own = None if key is None else _about_key(status, code, place, key, message)
    if its_own is not None:
        return its_own
    if kind is None:
        kind = StoreUnreachable if status >= 500 and status not in _NEVER else StoreError
    if kind is BucketMissing:
        return BucketMissing(
            f"{place}: the bucket does not exist ({said})",
            hint="check destination.url, or create the bucket first",
        )
    if kind is ClockWrong or _ABOUT_CLOCK.search(message):
        return ClockWrong(
            f"{place}: the server refused, for this machine's clock is wrong ({said})",
            hint="set it (`timedatectl set-ntp true` where there is a network); the work goes on by itself",
        )
    if kind is StoreRefused:
        why = "ExpiredToken" if may_have_expired else "PermanentRedirect" if status in (301, 307) else code
        return _refused(place, f"the server refused ({said})", hint=_HINTS.get(why))
    if kind is StoreFull:
        return StoreFull(
            f"{place}: no space or quota is left ({said})", hint="free some; the work goes on by itself"
        )
    is_no_s3 = kind is StoreError and said == str(status)
    hint = _HINT_NO_S3 if is_no_s3 else _HINTS.get(code)
    ours = _named(kind, place, key, f"the server answered {said}", hint=hint)
    if isinstance(ours, StoreUnreachable):
        ours.status = status
    return ours


def _about_key(status: int, code: str, place: Place, key: str, message: str) -> ItemError | None:
    """Our error for an answer that is about one key, and that no waiting cures; None for others."""
    if code == ARCHIVED:
        return KeyConflict(
            f"{place}: what is there under {key!r} is archived, and cannot be read to be compared ({status} {code})",
            hint="restore it first, or set another destination.key",
        )
    is_named = code == "InvalidArgument" and _ABOUT_KEY.search(message) is not None
    if code in KEY_CODES or status == _TOO_LONG or is_named:
        said = str(status) if code in ("", str(status)) else f"{status} {code}"
        return _named(KeyInvalid, place, key, f"the server answered {said}")
    return None


def retry_after_s(headers: Mapping[str, str]) -> float:
    """For how long an answer's ``Retry-After`` asks to be left alone, at most ``LONGEST_RETRY_AFTER_S``; else 0.

    A date is taken from the answer's own ``Date``: this machine's clock may be wrong.
    """
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        until, now = (parsedate_to_datetime(date) for date in (text, headers.get("date", "")))
    except ValueError:
        return 0.0
    return min(max((until - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def unreachable(place: Place) -> StoreUnreachable:
    """Our error for a connection that cannot be made, broke, or timed out."""
    return StoreUnreachable(
        f"{place}: no answer",
        hint="check the network (and HTTPS_PROXY, where that is set), and destination.endpoint_url where it is not AWS",
    )


def _untrusted(place: Place, said: str) -> StoreUnreachable:
    hint = "AWS_CA_BUNDLE names the certificate of a CA of one's own; check destination.endpoint_url, and this clock"
    if _SHOWS_A_CA in said:
        hint = (
            "the server shows the certificate of a CA as its own; make it one with basicConstraints=CA:FALSE"
        )
    return StoreUnreachable(
        f"{place}: its certificate is not trusted here, or it does not speak TLS", hint=hint
    )


def from_os(error: OSError, place: Place, key: str | None = None) -> StoreError | ItemError:
    """Our error for one that the file system of a ``file://`` store raised."""
    said = error.strerror or type(error).__name__
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return KeyConflict(f"{key!r} needs a folder where a file or a link lies, or the other way round")
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL) and key is not None:
        return KeyInvalid(f"{place} cannot hold the key {key!r}: {said}")
    if error.errno == errno.EFBIG and key is not None:
        return KeyInvalid(f"{place} cannot hold a file so large (key {key!r}): {said}")
    kind = _BY_ERRNO.get(error.errno or 0, StoreUnreachable)
    hint = "free some space; the work goes on by itself" if kind is StoreFull else None
    return _named(kind, place, key, said, hint=hint)


def _refused(place: Place, what: str, hint: str | None = None) -> StoreRefused:
    return StoreRefused(
        f"{place}: {what}", hint=hint or f"check {place.credentials}, and what they may do there"
    )


def _named(kind: type[Ours], place: Place, key: str | None, what: str, *, hint: str | None = None) -> Ours:
    return kind(f"{place}: {what}" if key is None else f"{place}: {what} (key {key!r})", hint=hint)
