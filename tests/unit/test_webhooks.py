"""Webhooks: signatures, pauses, and the allowed endpoints."""

import base64
import hashlib
import hmac
import os

import pytest

from session_service.domain.addresses import EVERYWHERE, is_public, read_networks
from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import shard_of_session
from session_service.domain.signing import new_secret, read_secret, signature
from session_service.domain.webhooks import (
    Target,
    Webhook,
    WebhookPolicy,
    check_url,
    retry_after_seconds,
    settings_id,
)
from session_service.webhook_settings import read_targets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the one of the example
HOUR = 3_600_000


def test_a_delivery_is_signed_as_the_specification_says() -> None:
    """The signature is that of the example in Standard Webhooks."""
    body = b'{"test": 2432232314}'
    signed = signature(read_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_new_secret_is_32_random_bytes() -> None:
    """Each new secret is 32 other random bytes."""
    assert len(read_secret(new_secret(os.urandom))) == 32
    assert new_secret(os.urandom) != new_secret(os.urandom)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        SECRET + "!",
        "whsec_ÄÄÄÄ",
    ],
)
def test_another_secret_is_refused_and_not_told(secret: str) -> None:
    """The message describes a valid secret, and does not repeat the value."""
    with pytest.raises(ValidationFailed) as caught:
        read_secret(secret)
    assert str(caught.value) == "secret must be whsec_ and 24 to 64 bytes in base64"


def test_pauses_grow_and_end_at_eight_hours() -> None:
    """A pause is random up to a ceiling that grows fourfold to eight hours."""
    policy = WebhookPolicy()
    ceilings = [policy.delay_ms(failures, 1.0) for failures in (1, 2, 3, 4, 8, 1000)]
    assert ceilings == [10_000, 40_000, 160_000, 640_000, 8 * HOUR, 8 * HOUR]
    assert policy.delay_ms(3, 0.5) == 80_000
    assert policy.delay_ms(3, 0.0) == 0


def test_about_a_dozen_attempts_fit_into_a_day() -> None:
    """With average pauses, about a dozen attempts fit into a day."""
    policy, spent, attempts = WebhookPolicy(), 0, 1
    while spent < policy.retry_ms:
        spent += policy.delay_ms(attempts, 0.5)
        attempts += 1
    assert 10 <= attempts <= 14


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.1.2.3", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "localhost", "", "64:ff9b:1::1", "fec0::1", "::10.0.0.1", "::8.8.8.8",
        "168.63.129.16", "192.0.0.192", "192.88.99.1", "3fff::1", "5f00::1", "100.100.100.200",
        "2001::1", "2001:db8::1", "2002:808:808::", "3ffe::1", "fd00:ec2::254", "198.18.0.1",
        "240.0.0.1", "100::1", "64:ff9b::a83f:8110", "::ffff:168.63.129.16",
    ],
)  # fmt: skip
def test_an_address_of_a_private_network_is_not_public(address: str) -> None:
    """Private addresses, those that lead to one, and invalid ones are not public."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_others_are_public(address: str) -> None:
    """Other addresses are public, IPv4 in IPv6 too."""
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com", "http://example.com:8080/hooks?x=1", "https://1.1.1.1/",
        "https://[2606:4700::1111]/x", "HTTPS://example.com/",
    ],
)  # fmt: skip
def test_an_endpoint_may_be(url: str) -> None:
    """Any http or https URL of a public host is allowed."""
    check_url(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "http:// or https://"),
        ("ftp://example.com", "http:// or https://"),
        ("https://", "with a host"),
        ("https://exämple.com", "ASCII"),
        ("https://example.com/a b", "ASCII"),
        ("https://example.com:99999/", "http:// or https://"),
        ("https://[::1", "http:// or https://"),
        ("https://user:secret@example.com", "without a user name"),
        ("https://example.com/#x", "a fragment"),
        ("https://example.com/" + "x" * 2048, "2,048"),
        ("http://127.0.0.1:3000/", "a public address"),
        ("http://[::1]/", "a public address"),
        ("http://169.254.169.254/latest", "a public address"),
        ("http://localhost/", "a public address"),
        ("http://a.localhost./", "a public address"),
    ],
)
def test_an_endpoint_may_not_be(url: str, problem: str) -> None:
    """The message names the allowed URLs and does not repeat the URL."""
    with pytest.raises(ValidationFailed) as caught:
        check_url(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_private_ones_can_be_allowed() -> None:
    """Private addresses can be allowed, for receivers in one's own network."""
    for url in ("http://127.0.0.1:3000/", "http://localhost/", "http://receiver:8080/"):
        check_url(url, EVERYWHERE)


NETWORKS = read_networks("10.1.0.0/16, 127.0.0.1, fd00::/8")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", True), ("10.2.0.1", False), ("::ffff:10.1.2.3", True), ("127.0.0.1", True),
        ("127.0.0.2", False), ("fd12::1", True), ("fe80::1", False), ("1.1.1.1", True),
        ("64:ff9b::a01:203", True), ("169.254.169.254", False),
    ],
)  # fmt: skip
def test_networks_are_allowed_one_by_one(address: str, *, expected: bool) -> None:
    """Only the named private networks are allowed."""
    assert WebhookPolicy(allowed_networks=NETWORKS).allows(address) is expected


def test_localhost_is_allowed_with_its_network() -> None:
    """The name localhost is allowed with its network, without a look-up."""
    check_url("http://localhost/", NETWORKS)
    with pytest.raises(ValidationFailed):
        check_url("http://localhost/", read_networks("10.0.0.0/8"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), ("0", 0), ("999999999", 3600), ("-5", 0), ("soon", 0), ("", 0), ("²", 0),
        ("1.5", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("Wed, 21 Oct 2026 07:28:00 GMT", 3600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("9" * 400, 3600),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    """Retry-After is bounded by an hour; anything else counts as absent."""
    assert retry_after_seconds(value, 10.0) == seconds


def test_two_secrets_make_two_signatures() -> None:
    """Both secrets sign until the overlap ends; one of the settings has no end."""
    target = Target("https://a.example", SECRET, previous_secret=new_secret(os.urandom))
    both = Webhook("id", target, 0, False, True, overlap_until=1000)
    new, old = both.signatures("1-3f-0", 999, b"{}").split(" ")
    assert new == signature(read_secret(SECRET), "1-3f-0", 0, b"{}")
    assert old == signature(read_secret(target.previous_secret), "1-3f-0", 0, b"{}")
    assert both.signatures("1-3f-0", 1000, b"{}").count("v1,") == 1
    assert Webhook("id", target, 0, True, True).signatures("x", 9**15, b"{}").count("v1,") == 2


def test_endpoints_of_the_settings() -> None:
    """Endpoints of the settings have the same id on every node."""
    text = (
        f'[{{"url": "https://a.example", "secret": "{SECRET}", "types": ["session.ended"],'
        ' "userId": "6F1C0F52-7a3e-4c55-9d0a-2b7f4e8a1c90"},'
        f' {{"url": "https://b.example", "secret": "{SECRET}"}}]'
    )
    (first, second), problems = read_targets(text)
    assert problems == []
    assert (first.url, first.filter.types) == ("https://a.example", frozenset(("ended",)))
    assert first.filter.user_id == "6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90"
    assert second.filter.types is None
    assert SECRET not in repr(first)
    assert settings_id(first.url) == settings_id(first.url) != settings_id(second.url)
    assert shard_of_session(settings_id(first.url)) == settings_id(first.url)[:2]


def test_endpoints_of_the_settings_may_have_any_address() -> None:
    """The operator's endpoints may have any address and a previous secret."""
    text = (
        f'[{{"url": "http://localhost:8080/", "secret": "{SECRET}", "previousSecret": "{SECRET}"}}]'
    )
    (target,), problems = read_targets(text)
    assert (problems, target.previous_secret) == ([], SECRET)
    assert "previousSecret" in read_targets(text.replace(f'"{SECRET}"}}', '"hush"}'))[1][0]


def test_every_problem_of_the_settings_is_told_without_a_secret() -> None:
    """Each problem is one sentence with its place, and no secret."""
    text = (
        '[{"url": "ftp://x", "secret": "hush"}, 1,'
        f' {{"url": "https://a.example", "secret": "{SECRET}", "types": [], "agentId": 5, "x": 1}}]'
    )
    targets, problems = read_targets(text)
    assert targets == ()
    assert [problem.partition(" ")[0] for problem in problems] == [
        "[0].url", "[0].secret", "[1]", "[2]", "[2].types", "[2].agentId"
    ]  # fmt: skip
    assert not any("hush" in problem or SECRET in problem for problem in problems)


@pytest.mark.parametrize("text", ["{}", "x", '"https://a.example"', "[" * 100_000])
def test_settings_that_are_no_array(text: str) -> None:
    """Settings that are no array are one problem."""
    assert len(read_targets(text)[1]) == 1


def test_the_signature_is_hmac_sha256_of_id_time_and_body() -> None:
    """The signature is computed a second time from its parts."""
    key = read_secret(SECRET)
    digest = hmac.new(key, b"1-3f-0.7.{}", hashlib.sha256).digest()
    assert signature(key, "1-3f-0", 7, b"{}") == "v1," + base64.b64encode(digest).decode()
