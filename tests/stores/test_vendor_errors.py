"""Every answer a server may give becomes the error it should, and nothing secret is repeated."""

from __future__ import annotations

import errno

import pytest
from botocore import exceptions as boto
from obstore import exceptions as obs

from ingest.errors import (
    BucketMissing,
    ChecksumMismatch,
    ClockWrong,
    IngestError,
    KeyConflict,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from ingest.stores.vendor_errors import Place, answered, from_boto, from_obstore, from_os

PLACE = Place("s3://bucket/prefix", "https://minio.example", "field")

ANSWERS: list[tuple[int, str, type[IngestError]]] = [
    (403, "AccessDenied", StoreRefused),
    (403, "", StoreRefused),
    (400, "ExpiredToken", StoreRefused),
    (403, "RequestTimeTooSkewed", ClockWrong),
    (401, "", StoreRefused),
    (301, "PermanentRedirect", StoreRefused),
    (404, "NoSuchBucket", BucketMissing),
    (404, "NoSuchKey", ObjectMissing),
    (404, "NoSuchUpload", ObjectMissing),
    (404, "404", ObjectMissing),
    (412, "PreconditionFailed", ObjectExists),
    (409, "ConditionalRequestConflict", ObjectExists),
    (507, "XMinioStorageFull", StoreFull),
    (403, "QuotaExceeded", StoreFull),
    (400, "BadDigest", ChecksumMismatch),
    (400, "RequestTimeout", StoreUnreachable),
    (503, "SlowDown", StoreUnreachable),
    (500, "InternalError", StoreUnreachable),
    (502, "", StoreUnreachable),
    (429, "", StoreUnreachable),
    (408, "", StoreUnreachable),
    (501, "NotImplemented", StoreError),
    (400, "InvalidArgument", StoreError),
    (400, "KeyTooLongError", KeyInvalid),
    (400, "KeyTooLong", KeyInvalid),
    (400, "EntityTooLarge", KeyInvalid),
    (400, "XMinioInvalidObjectName", KeyInvalid),
    (413, "RequestBodyTooLarge", KeyInvalid),
    (414, "", KeyInvalid),
]


@pytest.mark.parametrize(("status", "code", "kind"), ANSWERS)
def test_answers_of_both_clients_become_the_same_error(
    status: int, code: str, kind: type[IngestError]
) -> None:
    text = (
        f"Generic S3 error: Error performing PUT https://minio.example/bucket?X-Amz-Signature=SECRET in 1ms - "
        f"Server returned non-2xx status code: {status} Said: <Error><Code>{code}</Code></Error>"
        "\n\nDebug source:\nGeneric { SECRET }"
    )
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    errors = [
        answered(status, code, PLACE, "k"),
        from_obstore(obs.GenericError(text), PLACE, "k"),
        from_boto(boto.ClientError(answer, "PutObject"), PLACE, "k"),  # type: ignore[arg-type]
    ]
    assert [type(error) for error in errors] == [kind] * 3
    for error in errors:
        assert "SECRET" not in str(error)
        assert "s3://bucket/prefix at https://minio.example" in error.what
        assert str(status) in error.what


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Object name contains unsupported characters.", KeyInvalid),
        ("The object key is too long.", KeyInvalid),
        ("The access key is of another region.", StoreError),
        ("Invalid storage class.", StoreError),
    ],
)
def test_an_invalid_argument_is_the_items_fault_only_where_it_is_its_key(
    message: str, kind: type[IngestError]
) -> None:
    text = f"status code: 400 Said: <Error><Code>InvalidArgument</Code><Message>{message}</Message></Error>"
    answer = {
        "Error": {"Code": "InvalidArgument", "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    for key, expected in (("k", kind), (None, StoreError)):
        errors = [
            from_obstore(obs.GenericError(text), PLACE, key),
            from_boto(boto.ClientError(answer, "PutObject"), PLACE, key),  # type: ignore[arg-type]
        ]
        assert [type(error) for error in errors] == [expected] * 2


def test_a_key_that_the_client_refuses_is_the_items_fault() -> None:
    for error in (obs.InvalidPathError("SECRET"), ValueError("Could not parse path: SECRET")):
        ours = from_obstore(error, PLACE, "k")
        assert type(ours) is KeyInvalid
        assert "SECRET" not in str(ours)
    assert type(from_obstore(ValueError("another"), PLACE, "k")) is StoreError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (boto.EndpointConnectionError(endpoint_url="https://x?SECRET"), StoreUnreachable),
        (boto.ReadTimeoutError(endpoint_url="https://x?SECRET"), StoreUnreachable),
        (boto.ConnectionClosedError(endpoint_url="https://x?SECRET"), StoreUnreachable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnreachable),
        (boto.NoCredentialsError(), StoreRefused),
        (boto.TokenRetrievalError(provider="sso", error_msg="SECRET"), StoreRefused),
        (boto.CredentialRetrievalError(provider="x", error_msg="SECRET"), StoreRefused),
        (boto.ParamValidationError(report="SECRET"), StoreError),
    ],
)
def test_errors_of_boto3_without_an_answer(error: Exception, kind: type[StoreError]) -> None:
    ours = from_boto(error, PLACE)
    assert type(ours) is kind
    assert "SECRET" not in str(ours)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (obs.GenericError("HTTP error: error sending request SECRET"), StoreUnreachable),
        (obs.UnauthenticatedError("External AWS credential provider: SECRET"), StoreRefused),
        (FileNotFoundError("SECRET"), ObjectMissing),
        (obs.AlreadyExistsError("SECRET"), ObjectExists),
        (obs.InvalidPathError("SECRET"), StoreError),
    ],
)
def test_errors_of_obstore_without_an_answer(error: Exception, kind: type[StoreError]) -> None:
    ours = from_obstore(error, PLACE)
    assert type(ours) is kind
    assert "SECRET" not in str(ours)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreRefused),
        (errno.EPERM, StoreRefused),
        (errno.EROFS, StoreRefused),
        (errno.ENOTDIR, KeyConflict),
        (errno.EISDIR, KeyConflict),
        (errno.ELOOP, KeyConflict),
        (errno.ENAMETOOLONG, KeyInvalid),
        (errno.EFBIG, KeyInvalid),
        (errno.EEXIST, ObjectExists),
        (errno.EIO, StoreUnreachable),
        (errno.ESTALE, StoreUnreachable),
    ],
)
def test_errors_of_file_systems(number: int, kind: type[IngestError]) -> None:
    assert type(from_os(OSError(number, "what it says"), PLACE, "k")) is kind


def test_a_clock_that_is_behind_is_known_by_what_the_server_says_of_it() -> None:
    """``rclone serve s3`` calls that AccessDenied."""
    said = "The difference between the request time and the server's time exceeds the maximum allowed."
    error = answered(400, "AccessDenied", PLACE, "a", said)
    assert isinstance(error, ClockWrong)
    assert "this machine's clock is wrong" in str(error)
