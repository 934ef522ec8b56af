"""Secrets do not survive, other text does, twice is once, and no text is slow."""

from __future__ import annotations

import json
import lzma
import re
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from provenance.redaction.documents import redact_file
from provenance.redaction.names import secret_kind
from provenance.redaction.redact import redact_arguments, redact_text, redact_tree

# Put together here, so that no scanner takes this file for a leak.
GITHUB = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM_LINE = "MIIEpAIBAAKCAQEA7bq9Zp3qXbZ1mJmMLx0r0Yy7bXGk5Jt0v4yZ0Q3q4d5s6f7g"
PEM = f"-----BEGIN RSA PRIVATE {'KEY'}-----\n{PEM_LINE}\nabcd+/==\n-----END RSA PRIVATE {'KEY'}-----"
HEX40 = "0123456789abcdef0123456789abcdef01234567"

BY_NAME = [
    "DB_PASSWORD={}",
    "export GITHUB_TOKEN={}",
    "set -x API_TOKEN {}",
    "setenv API_TOKEN {}",
    "ENV API_KEY {}",
    '#define API_KEY "{}"',
    "password = {}",
    "+password = {}",
    "-    password: {}",
    "  - password: {}",
    '"password": "{}"',
    '{{"user": "bob", "password": "{}", "port": 1}}',
    '{{\\"user\\": \\"bob\\", \\"password\\": \\"{}\\"}}',
    "{{'apiKey': '{}'}}",
    '    password: str = "{}",',
    'os.environ["WANDB_API_KEY"] = "{}"',
    'if password == "{}":',
    "config.password='{}'",
    "config['client_secret'] = r'{}'",
    '$token := "{}"',
    ":secret_key => '{}'",
    "connect(host='h', password='{}', port=1)",
    "x --token {} --epochs 3",
    "x --token={} --epochs 3",
    "x --api-key '{}'",
    "java -Dpassword={} Main",
    "https://h/x?user=bob&access_token={}&page=2",
    "Server=tcp:h;User ID=sa;Password={};Encrypt=True",
    "AccountName=a;AccountKey={};EndpointSuffix=b",
    "Authorization: Basic {}",
    'curl -H "Authorization: Token {}" https://h',
    "curl -H 'X-Api-Key: {}' https://h",
    "Set-Cookie: session={}; Path=/",
    "<password>{}</password>",
    '<add key="x" password="{}"/>',
    "machine api.wandb.ai login user password {}",
    "login with passphrase: {}",
    "_authToken={}",
    "wandb_api_key: {}",
    "sentry.dsn={}",
    'secrets = ["{}"]',
    'auth=("user", "{}")',
    'auth_tokens: [\n  "{}",\n]',
    'password = """\n{}\n"""',
    "secret: |\n  {}\n  more\nnext: 1",
    "https://user:{}@host/path",
    "postgres://:{}@host:5432/db",
]
BY_LOOKS = [
    f"see {AWS} there",
    GITHUB,
    "github_pat_" + "11ABCDEFG0abcdefghij_klmnopqrst",
    "glpat-" + "abcdefghij0123456789",
    "xoxb-" + "123456789012-abcdefghij",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "sk-" + "proj-abcDEF0123456789abcdef",
    "sk-" + "ant-api03-abcdefghij0123456789",
    "sk_live_" + "abcdefghij0123456789",
    "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "pypi-" + "AgEIcHlwaS5vcmcCJDU3",
    JWT,
    f"Bearer {HEX40}",
    f"wandb login {HEX40}",
    f"https://{GITHUB}@github.com/a/b",
    "https://bucket/x?X-Amz-Signature=" + HEX40,
]
HARMLESS = [
    "tokenizer=bert",
    "max_tokens=128",
    "secretary: Ada",
    "key: author",
    "author = 'Ada'",
    "monkey=1",
    "keyboard: us",
    "pad_token = '[PAD]'",
    "cls_token: 101",
    "num_pass=2",
    "forward_pass: 3.5 ms",
    "public_key: ssh-ed25519",
    "password_file=/etc/app/password",
    "password: null",
    "password: Optional[str] = None",
    "def connect(host: str, password: str, token=None) -> None:",
    "token=${CI_TOKEN}",
    "token: ${{ secrets.TOKEN }}",
    'token = os.environ["TOKEN"]',
    "token = args.token",
    "password = getpass.getpass()",
    "class Token:",
    "std::token::Kind",
    "PWD=/data/runs",
    "sha256:" + "0123456789abcdef" * 4,
    "commit " + HEX40,
    "123e4567-e89b-12d3-a456-426614174000",
    "git@github.com:owner/name.git",
    "ssh://git@github.com/owner/name.git",
    "https://host:8080/@scope/package",
    "task-abcdefghijklmnopqrstuvwxyz1",
    "sk-learn-contributed-packages-list",
    "the bearer certificates",
    "[redacted:token]",
    "password=[redacted:password]",
    "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----",
    "",
]


@pytest.mark.parametrize("template", BY_NAME)
def test_a_value_beside_a_secret_name_is_gone(template: str) -> None:
    text = template.format("Tr0ub4dor")
    assert "Tr0ub4dor" in text
    redacted = redact_text(f"before\n{text}\nafter")
    assert "Tr0ub4dor" not in redacted
    assert "[redacted:" in redacted
    assert redacted.startswith("before\n") and redacted.endswith("\nafter")


@pytest.mark.parametrize("text", BY_LOOKS)
def test_a_token_is_known_by_its_looks(text: str) -> None:
    redacted = redact_text(f"a {text} b")
    longest = max(re.findall(r"[\w.-]+", text), key=len)
    assert longest in text and longest not in redacted
    assert re.fullmatch(r"a .*\[redacted:[a-z-]+\].* b", redacted)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize("prefix", ["", "+", "    ", "# "])
def test_a_private_key_goes_and_its_lines_stay(prefix: str) -> None:
    text = "\n".join(prefix + line for line in f"a\n{PEM}\nb".split("\n"))
    redacted = redact_text(text)
    assert PEM_LINE not in redacted and "abcd+/" not in redacted
    assert redacted.count("\n") == text.count("\n")
    assert redacted.endswith(f"{prefix}b")


def test_a_private_key_in_one_line_of_json_goes() -> None:
    text = json.dumps({"pem": PEM, "next": "kept"})
    assert PEM_LINE in text
    assert PEM_LINE not in redact_text(text) and json.loads(redact_text(text))["next"] == "kept"


def test_a_private_key_that_was_cut_off_goes() -> None:
    assert PEM_LINE not in redact_text(PEM.split("\nabcd", maxsplit=1)[0])


def test_talk_about_private_keys_stays() -> None:
    text = f'if "-----BEGIN PRIVATE {"KEY"}-----" in text:\n    return\n'
    assert redact_text(text) == text


def test_json_stays_json() -> None:
    text = json.dumps({"password": 123456, "api_key": "x y", "n": 1}, indent=1)
    assert json.loads(redact_text(text)) == {
        "password": "[redacted:password]",
        "api_key": "[redacted:api-key]",
        "n": 1,
    }


def test_a_diff_ends_a_secret_that_goes_on() -> None:
    text = '+token = """\n+abc\n@@ -1 +1 @@\n+kept\n'
    assert redact_text(text) == '+token = """\n+[redacted:token]\n@@ -1 +1 @@\n+kept\n'


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["run", "--token", "abc", "--epochs", "3"], ["run", "--token", "[redacted:token]", "--epochs", "3"]),
        (["--token=a b c"], ["--token=[redacted:token]"]),
        (["--password", "--verbose"], ["--password", "--verbose"]),
        (["--set", "wandb.api_key=a b"], ["--set", "wandb.api_key=[redacted:api-key]"]),
        (["--set=db.password=ab"], ["--set=db.password=[redacted:password]"]),
        (["-H", "Authorization: Basic ab cd"], ["-H", "Authorization: [redacted:authorization]"]),
        (["clone", "https://u:p@h/x"], ["clone", "https://[redacted:url-userinfo]@h/x"]),
        (["sh", "-c", "x --secret abc; y"], ["sh", "-c", "x --secret [redacted:secret]; y"]),
        (["--max-tokens", "128", "--tokenizer", "bert"], ["--max-tokens", "128", "--tokenizer", "bert"]),
        (["--password-file", "/x"], ["--password-file", "/x"]),
        (["--token", "", "x"], ["--token", "", "x"]),
        (["--token", GITHUB, GITHUB], ["--token", "[redacted:token]", "[redacted:github-token]"]),
    ],
)
def test_command_lines(argv: list[str], expected: list[str]) -> None:
    assert redact_arguments(argv) == expected
    assert redact_arguments(expected) == expected


def test_trees() -> None:
    tree = {
        "lr": 0.1,
        "password": "x",
        "credentials": {"user": "u", "pin": 1234, "none": None, "on": True},
        "command": ["x", "--token", "abc"],
        "variables": [{"name": "DB_PASSWORD", "value": "q"}, {"name": "DB_HOST", "value": "h"}],
        "text": f"uses {AWS}",
        GITHUB: 1,
        GITHUB[::-1] + " " + AWS: [1, {"api_key": 2}],
    }
    redacted = redact_tree(tree)
    assert redacted == {
        "lr": 0.1,
        "password": "[redacted:password]",
        "credentials": {"user": "[redacted:credential]", "pin": "[redacted:credential]", "none": None, "on": True},
        "command": ["x", "--token", "[redacted:token]"],
        "variables": [{"name": "DB_PASSWORD", "value": "[redacted:password]"}, {"name": "DB_HOST", "value": "h"}],
        "text": "uses [redacted:aws-access-key]",
        "[redacted:github-token]": 1,
        GITHUB[::-1] + " [redacted:aws-access-key]": [1, {"api_key": "[redacted:api-key]"}],
    }
    assert redact_tree(redacted) == redacted


def test_two_keys_that_were_secrets_are_both_kept() -> None:
    assert redact_tree({GITHUB: 1, GITHUB + "x": 2}) == {"[redacted:github-token]": 1, "[redacted:github-token] (2)": 2}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dbPassword", "password"),
        ("HFToken", "token"),
        ("APIKey", "api-key"),
        ("MYSQL_PASS", "password"),
        ("accessTokens", "token"),
        ("tokens", None),
        ("secretaryName", None),
        ("signing_key_id", None),
        ("x" * 500 + "_password", "password"),
    ],
)
def test_names(name: str, kind: str | None) -> None:
    assert secret_kind(name) == kind


PIECES = st.sampled_from(
    [
        *"=:\"'`()[]{},;&<>/\\@|-+.#$",
        *[" ", "\n", "\r\n", "\t", '"""', "'''", '\\"', "://", "=>", "==", ": ", " = ", "|\n  "],
        *["password", "token", "--token", "api_key", "key", "auth", "Authorization", "Cookie", "pwd", "user", "x", "1"],
        *[
            "str",
            "None",
            "${X}",
            "export ",
            "machine ",
            " login ",
            "Bearer ",
            "https",
            "ssh",
            "é",
            "\udc80",
            "diff --git ",
        ],
        *[GITHUB, AWS, JWT, PEM, PEM_LINE, "[redacted:token]", "[redacted:", "]", "sig=", "?sig="],
        *["-----BEGIN PRIVATE " + "KEY-----", "-----END PRIVATE " + "KEY-----"],
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=30).map("".join)


@settings(max_examples=600)
@given(TEXTS)
@example('password="[redacted:x] y" z')
@example("password=[redacted:x]y")
def test_twice_is_once_and_lines_stay(text: str) -> None:
    redacted = redact_text(text)
    assert redact_text(redacted) == redacted
    assert len(re.split(r"\r\n|\r|\n", redacted)) == len(re.split(r"\r\n|\r|\n", text))


@settings(max_examples=150)
@given(st.lists(TEXTS, max_size=5))
def test_arguments_twice_are_once(argv: list[str]) -> None:
    redacted = redact_arguments(argv)
    assert redact_arguments(redacted) == redacted and len(redacted) == len(argv)


@settings(max_examples=100)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
        max_leaves=8,
    )
)
def test_trees_twice_are_once(tree: object) -> None:
    redacted = redact_tree(tree)
    assert redact_tree(redacted) == redacted


PASSWORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=8, max_size=24).filter(
    # with digits it is none of the words that stand for no value, such as "undefined"
    lambda text: sum(map(str.isalnum, text)) >= 4 and sum(map(str.isdigit, text)) >= 2
)
QUOTED = [
    ('"password": "', '", "n": 1', '"\\'),
    ("connect(password='", "', port=1)", "'\\"),
    ("password = ", "", "\"'`[({|>$~\\@"),
    ("https://user:", "@host/", "/@\"'<>\\?#[{%$"),
    ("x --token ", " --n 3", "\"'`[({,;&-=:|>$~)]}"),
]


@pytest.mark.parametrize(("before", "after", "without"), QUOTED)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_password_is_gone(before: str, after: str, without: str, data: st.DataObject) -> None:
    password = data.draw(PASSWORDS.filter(lambda text: not set(text) & set(without)))
    text = f"{before}{password}{after}"
    redacted = redact_text(text)
    assert password not in redacted.replace("redacted", "").replace("password", "").replace("token", "")
    assert redacted.startswith(before[:8]) and redacted.endswith(after)


SLOW = [
    "a",
    "password=",
    "password= ",
    "x password=a ",
    "x 'password=a ",
    'x password=\\"a ',
    "x password='''",
    "x password=(",
    "password=none ",
    "x password=a,b;",
    "password:|\n",
    "<password><",
    "-----BEGIN PRIVATE " + "KEY-----",
    "://a:b",
    "a://b:",
    "eyJabcdef.",
    "sk-",
    "a.-",
    " ",
    "\\",
    '"',
    "\r",
    "machine password ",
]


@pytest.mark.parametrize("piece", SLOW)
def test_a_megabyte_made_to_be_slow_is_not(piece: str) -> None:
    text = "token " + piece * (1_000_000 // len(piece)) + "password=x"
    started = time.process_time()
    redact_text(text)
    # half a second on most machines; what grows with the square of the length would take hours
    assert time.process_time() - started < 600


def test_an_innocent_pattern_would_be_slow() -> None:
    def seconds(length: int) -> float:
        started = time.process_time()
        assert re.search(r"\w*password\w*=", "a" * length) is None
        return time.process_time() - started

    assert seconds(8000) > 8 * seconds(1000)


def test_this_project_survives_its_own_redaction() -> None:
    root = Path(__file__).parents[3]
    files = [path for package in ("provenance", "ndrepro") for path in sorted((root / package).rglob("*.py"))]
    assert len(files) > 50
    changed = [path.name for path in files if redact_file(path.name, data := path.read_bytes()).data != data]
    assert changed == []


def test_a_compressed_file_takes_no_memory_for_a_dictionary_of_its_own_choice() -> None:
    """One that asks for 3 GiB cannot be searched, and is left out by name; one of the usual size is searched."""
    packed = bytearray(lzma.compress(f"token = {GITHUB}".encode(), lzma.FORMAT_XZ, lzma.CHECK_CRC32))
    assert "holds what looks like a secret" in redact_file("a.txt.xz", bytes(packed)).problem, "the control"
    assert redact_file("a.txt.xz", lzma.compress(b"1,2") * 2).problem == "", "several streams"
    # the block's header: its size, flags, the filter's identifier and length, the dictionary's size, the checksum
    length = (packed[12] + 1) * 4
    packed[16] = 39
    packed[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(packed[12 : 12 + length - 4]))
    assert "cannot be searched for secrets (LZMAError" in redact_file("a.txt.xz", bytes(packed)).problem
