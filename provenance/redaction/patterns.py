"""Secrets that are known by their looks, whatever they are called: JWTs, keys of services that train or keep networks,
user names and passwords in URLs, private-key blocks; and those that ``provenance.redaction.rules`` knows.

Every pattern begins at a place where no longer word continues, and no pattern can be made to scan the same
characters again and again: the time is proportional to the text, also for text that was made to be slow.
"""

from __future__ import annotations

import functools
import re

from provenance.redaction.marker import marker
from provenance.redaction.rules import redact_by_rules

# every other piece of a split is a line's end
LINE_ENDS = re.compile(r"(\r\n|\n|\r)")

_OPEN = r"(?<![A-Za-z0-9_-])"

# Kind and pattern, the whole match being the secret; pairs and not a mapping, so that a patch to these lines is not
# redacted itself.
_SHAPES = (
    ("aws-access-key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("github-token", _OPEN + r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("gitlab-token", _OPEN + r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas)-[A-Za-z0-9_.-]{16,}"),
    ("slack-token", _OPEN + r"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", r"(?<=hooks\.slack\.com/services/)[A-Za-z0-9/]{20,}"),
    ("google-key", _OPEN + r"(?:AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,})"),
    # a digit is asked for: "sk-" also begins words joined by hyphens
    ("api-key", _OPEN + r"sk-(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]{20,}"),
    ("stripe-key", _OPEN + r"(?:[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,})"),
    ("huggingface-token", _OPEN + r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    ("npm-token", _OPEN + r"npm_[A-Za-z0-9]{36,}"),
    ("pypi-token", _OPEN + r"pypi-(?:AgE[A-Za-z0-9_-]{10,}|[A-Za-z0-9_-]{50,})"),
    ("digitalocean-token", _OPEN + r"do[opr]_v1_[a-f0-9]{40,}"),
    ("age-key", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}"),
    ("jwt", _OPEN + r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"),
    ("bearer-token", r"(?<=Bearer )[A-Za-z0-9._~+/=-]{6,}|(?<=bearer )(?=[^\s0-9]{0,64}[0-9])[A-Za-z0-9._~+/=-]{6,}"),
    ("signature", r"(?:(?<=[?&]sig=)|(?<=[?&]X-Amz-Signature=)|(?<=[?&]X-Goog-Signature=))[^&\s\"'<>\[]+"),
    ("wandb-key", r"(?<=wandb login )[0-9a-f]{40}(?![0-9a-f])|" + _OPEN + r"wandb_v1_[A-Za-z0-9_]{20,}"),
    ("groq-key", _OPEN + r"gsk_[A-Za-z0-9]{40,}"),
    ("replicate-token", _OPEN + r"r8_[A-Za-z0-9]{37,}"),
    ("xai-key", _OPEN + r"xai-[A-Za-z0-9]{40,}"),
    ("neptune-token", _OPEN + r"eyJhcGlf[A-Za-z0-9+/=]{40,}"),
    ("telegram-token", _OPEN + r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    ("discord-token", _OPEN + r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}(?![A-Za-z0-9_-])"),
    ("discord-webhook", r"(?<=/api/webhooks/)[0-9]{17,20}/[A-Za-z0-9_-]{60,80}"),
)
# One look that distinguishes most texts from those that need the patterns above.
_HINT = re.compile(
    r"A[KSGIRN][IPRDON]A|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|xox[a-z]-|xapp-|slack\.com|AIza|GOCSPX|ya29|sk-|[rs]k_"
    r"|whsec_|hf_|api_org_|npm_|pypi-|do[opr]_v1|AGE-S|eyJ|earer |[?&]sig=|-Signature=|wandb|gsk_|r8_|xai-|:AA"
    r"|[A-Za-z0-9_-]{23}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}|/webhooks/"
)

# Everything before the last "@" of a URL's authority; then with a slash in the password, which some drivers take, if
# what follows the colon is no port. Bounded, since "/" no longer ends it.
_USERINFO = re.compile(r"://([^\s/?#\"'<>\\]*)@|://([^\s/?#@:\"'<>]*:(?!\d{1,5}(?:[/?#]|$)|[{%$])[^\s\"'<>@]{1,128})@")
_ACCOUNT_ONLY = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ACCOUNT_SCHEMES = ("ssh", "sftp", "scp", "rsync", "svn")

PEM_BEGIN = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-{4,5}")
PEM_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-{4,5}")
_PEM_BODY = re.compile(r"([-+ \t>|#*\"']{0,80})([A-Za-z0-9+/=]+)((?:\\[nr]|[\"',+\\ \t)]){0,80})")
_PEM_HEADER = re.compile(r"[-+ \t]{0,80}(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset)(: )(.*)")
_PEM_INSIDE = re.compile(r"[A-Za-z0-9+/=]{16}")
_FIRST_BODY_LINE = 30


@functools.cache
def _any_shape() -> re.Pattern[str]:
    """Every shape in one pattern, which takes long to compile and which most texts do not need."""
    return re.compile("|".join(f"(?P<{kind.replace('-', '_')}>{pattern})" for kind, pattern in _SHAPES))


def redact_shapes(text: str) -> str:
    """``text`` with every secret that is known by its looks replaced. A private-key block keeps its lines."""
    if "PRIVATE KEY" in text:
        text = _redact_private_keys(text)
    if _HINT.search(text):
        text = _any_shape().sub(_shape_marker, text)
    text = redact_by_rules(text)
    return _USERINFO.sub(_without_userinfo, text) if "://" in text else text


def _shape_marker(match: re.Match[str]) -> str:
    return marker(str(match.lastgroup).replace("_", "-"))


def _without_userinfo(match: re.Match[str]) -> str:
    userinfo = match.group(1) if match.group(1) is not None else match.group(2)
    scheme = match.string[max(0, match.start() - 8) : match.start()].lower()
    if not userinfo or (scheme.endswith(_ACCOUNT_SCHEMES) and _ACCOUNT_ONLY.fullmatch(userinfo)):
        return match.group()
    return f"://{marker('url-userinfo')}@"


def _redact_private_keys(text: str) -> str:
    """Line by line, so that a patch or a YAML file stays one: the lines between BEGIN and END become markers."""
    lines = LINE_ENDS.split(text)
    inside = seen = False
    for index in range(0, len(lines), 2):
        line = lines[index]
        if inside:
            lines[index], inside = _line_inside(line, seen)
            seen = seen or lines[index] != line
        if not inside and "PRIVATE KEY" in line:
            lines[index], inside = _one_line(lines[index])
            seen = False
    return "".join(lines)


def _line_inside(line: str, seen: bool) -> tuple[str, bool]:
    """A line below a BEGIN as it may be written, and whether the key continues after it."""
    end = PEM_END.search(line)
    if end:
        before = marker("private-key") if _PEM_INSIDE.search(line, 0, end.start()) else line[: end.start()]
        return before + line[end.start() :], False
    replaced = _body_line(line, seen)
    return (line, False) if replaced is None else (replaced, True)


def _body_line(line: str, seen: bool) -> str | None:
    """The line as it may be written; None if it is part of no private key, which was truncated or only mentioned.

    A short line of letters is taken for a key's last, and so only after a long one.
    """
    if not line.strip("-+ \t") or marker("private-key") in line:
        return line
    header = _PEM_HEADER.fullmatch(line)
    if header:
        return line[: header.end(1)] + marker("private-key")
    body = _PEM_BODY.fullmatch(line)
    if body is None or (not seen and len(body.group(2)) < _FIRST_BODY_LINE):
        return None
    return body.group(1) + marker("private-key") + body.group(3)


def _one_line(line: str) -> tuple[str, bool]:
    """A line with a BEGIN: its keys that end in the line replaced; whether one continues below."""
    pieces, position = [], 0
    for begin in PEM_BEGIN.finditer(line):
        if begin.start() < position:
            continue
        end = PEM_END.search(line, begin.end())
        stop = end.start() if end else len(line)
        key = _PEM_INSIDE.search(line, begin.end(), stop)
        pieces += [line[position : begin.end()], marker("private-key") if key else line[begin.end() : stop]]
        position = stop
        if end is None:
            return "".join(pieces), True
    return "".join([*pieces, line[position:]]), False
