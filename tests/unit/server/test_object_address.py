"""Which object store is meant, and that nobody reads along."""

from __future__ import annotations

import pytest

from control_plane import object_address
from control_plane.object_address import BadAddress

URL = {"INTERLOCK_OBJECT_STORE_URL": "s3://outputs/interlock/eu"}


def test_without_a_url_there_is_none() -> None:
    assert object_address.read({"AWS_ENDPOINT_URL": "https://s3.example.com"}) is None


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://outputs", "outputs", ""),
        ("s3://outputs/", "outputs", ""),
        ("s3://my.outputs-1/a/b_c/", "my.outputs-1", "a/b_c"),
    ],
)
def test_a_url_is_bucket_and_prefix(url: str, bucket: str, prefix: str) -> None:
    address = object_address.read({"INTERLOCK_OBJECT_STORE_URL": url})
    assert address is not None
    assert (address.bucket, address.prefix, address.endpoint, address.region) == (bucket, prefix, "", "")


@pytest.mark.parametrize(
    "url",
    [
        "outputs",
        "https://outputs",
        "s3://",
        "s3://x",
        "s3://Outputs",
        "s3://outputs/a//b",
        "s3://outputs/a?b",
        "s3://u:p@outputs",
    ],
)
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(BadAddress, match="write s3://BUCKET"):
        object_address.read({"INTERLOCK_OBJECT_STORE_URL": url})


def test_interlocks_own_endpoint_comes_before_those_that_other_tools_share() -> None:
    shared = {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3", "AWS_REGION": "eu-1"}
    address = object_address.read({**URL, **shared})
    assert address is not None
    assert (address.endpoint, address.region) == ("https://s3", "eu-1")
    address = object_address.read({**URL, **shared, "INTERLOCK_OBJECT_STORE_ENDPOINT": "https://own:9000/"})
    assert address is not None
    assert address.endpoint == "https://own:9000"


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000"])
def test_plain_http_is_spoken_on_this_machine(host: str) -> None:
    address = object_address.read({**URL, "INTERLOCK_OBJECT_STORE_ENDPOINT": f"http://{host}"})
    assert address is not None
    assert address.endpoint == f"http://{host}"


@pytest.mark.parametrize("host", ["minio:9000", "10.0.0.1", "localhost.example.com"])
def test_plain_http_to_others_must_be_asked_for_in_words(host: str) -> None:
    given = {**URL, "AWS_ENDPOINT_URL": f"http://{host}"}
    with pytest.raises(BadAddress, match="INTERLOCK_OBJECT_STORE_INSECURE=plaintext-is-fine"):
        object_address.read(given)
    with pytest.raises(BadAddress):
        object_address.read({**given, "INTERLOCK_OBJECT_STORE_INSECURE": "1"})
    address = object_address.read({**given, "INTERLOCK_OBJECT_STORE_INSECURE": "plaintext-is-fine"})
    assert address is not None
    assert address.endpoint == f"http://{host}"


@pytest.mark.parametrize("endpoint", ["minio", "ftp://minio", "https://"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(BadAddress, match="write https://HOST"):
        object_address.read({**URL, "INTERLOCK_OBJECT_STORE_ENDPOINT": endpoint})
