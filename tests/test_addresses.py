"""What is a URL, and that no URL is shown with a secret in it."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdcam.addresses import is_url, redact

# Passwords as people type them: whatever a keyboard has, escaped or not; control characters aside.
PASSWORDS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=30)
USERS = st.text(string.ascii_letters + string.digits + "-_.%", max_size=10)
HOSTS = st.sampled_from(["10.0.0.7", "cam.example.org:554", "[fe80::1]:8554", "localhost"])
PATHS = st.sampled_from(["", "/", "/live/ch0", "/cam?channel=1&subtype=0", "/a/b.mjpg?x=1#top"])
SCHEMES = st.sampled_from(["rtsp", "rtsps", "http", "https", "RTSP", "rtmp", "srt"])


PARAMETERS = st.sampled_from(
    ["password", "passwd", "pwd", "pass", "Password", "token", "access_token", "api_key", "secret", "auth", "sig", "pw"]
)
MARK = "(hidden)"


@given(SCHEMES, st.text(string.printable.replace("[", ""), max_size=8), PASSWORDS, PASSWORDS, HOSTS, PATHS)
def test_no_part_of_a_password_is_shown(scheme, user, before, behind, host, path):
    assert MARK not in redact(f"{scheme}://{user}:{before}{MARK}{behind}@{host}{path}")


@given(SCHEMES, USERS, PASSWORDS.filter(lambda password: "=" not in password), HOSTS, PATHS)
def test_everything_else_is(scheme, user, password, host, path):
    assert redact(f"{scheme}://{user}:{password}@{host}{path}") == f"{scheme}://{user}:***@{host}{path}"


VALUES = st.text(st.characters(exclude_categories=["C"], exclude_characters="&#"), max_size=20)


@given(SCHEMES, HOSTS, PARAMETERS, VALUES, VALUES)
def test_no_part_of_a_secret_parameter_is_shown(scheme, host, name, before, behind):
    shown = redact(f"{scheme}://{host}/live?channel=1&{name}={before}{MARK}{behind}&subtype=0")
    assert MARK not in shown
    if "@" not in before + behind:
        assert shown == f"{scheme}://{host}/live?channel=1&{name}=***&subtype=0"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:1234@10.0.0.7/live", "rtsp://admin:***@10.0.0.7/live"),
        ("rtsp://a:b@c:d@host:554/x", "rtsp://a:***@host:554/x"),
        ("rtsp://:secret@host/x", "rtsp://:***@host/x"),
        ("https://token1234@host/x", "https://***@host/x"),
        ("rtsp://host/user=admin&password=x&channel=1", "rtsp://host/user=admin&password=***&channel=1"),
        ("http://host/video?user=me&PassWord=a%20b", "http://host/video?user=me&PassWord=***"),
        ("http://host/video#token=abc", "http://host/video#token=***"),
        ("http://host:8080/stream.mjpg?fps=5", "http://host:8080/stream.mjpg?fps=5"),
        ("rtsp://[::1]:8554/live@2", "rtsp://[::1]:8554/live@2"),
    ],
)
def test_examples(url, shown):
    assert redact(url) == shown


@pytest.mark.parametrize("text", ["rtsp://h/x", "HTTP://h", "rtmp://h", "srt://h:1", "unix+tls.1://x"])
def test_urls(text):
    assert is_url(text)


@pytest.mark.parametrize("text", ["0", "/dev/video0", "a.mp4", "C:\\x.mp4", "C:/x.mp4", "a:b.mp4", "dir/http://x", ""])
def test_no_urls(text):
    assert not is_url(text)
