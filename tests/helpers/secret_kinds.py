"""Secrets of many kinds, made up anew by a seed, so that no scanner finds one in this repository."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
HEX, ALNUM = "0123456789abcdef", string.ascii_letters + string.digits
Letters = Callable[[str, int], str]


@dataclass(frozen=True)
class SecretKind:
    """One kind: its label, a maker of values, the name beside it ("" for none), and the line it stands in."""

    label: str
    value: Callable[[Letters], str]
    name: str = ""
    line: str = "see {value} there"

    def made(self) -> tuple[str, str]:
        """A value and a line that holds it; the same for every call."""
        numbers = random.Random(self.label)

        def letters(alphabet: str, count: int) -> str:
            # a digit and a letter of each alphabet, as generated secrets have them
            return "".join(numbers.choice(alphabet) for _ in range(count))

        value = self.value(letters)
        return value, self.line.format(value=value, name=self.name)


def _beside(label: str, name: str, value: Callable[[Letters], str], line: str = "{name}={value}") -> SecretKind:
    return SecretKind(label, value, name, line)


BY_LOOKS = (
    SecretKind("AWS access key", lambda a: "AK" + "IA" + a(UPPER + "234567", 16)),
    SecretKind("GitHub personal token", lambda a: "gh" + "p_" + a(ALNUM, 36)),
    SecretKind("GitHub fine-grained token", lambda a: "github_" + "pat_" + a(ALNUM, 82)),
    SecretKind("GitHub app token", lambda a: "gh" + "s_" + a(ALNUM, 36)),
    SecretKind("GitLab token", lambda a: "gl" + "pat-" + a(ALNUM, 20)),
    SecretKind("Slack bot token", lambda a: "xo" + f"xb-{a(DIGITS, 12)}-{a(DIGITS, 12)}-{a(ALNUM, 24)}"),
    SecretKind(
        "Slack webhook",
        lambda a: a(UPPER, 9) + "/B" + a(UPPER, 9) + "/" + a(ALNUM, 24),
        line="https://hooks." + "slack.com/services/{value}",
    ),
    SecretKind("Google API key", lambda a: "AI" + "za" + a(ALNUM, 35)),
    SecretKind("Google OAuth token", lambda a: "ya" + "29." + a(ALNUM, 40)),
    SecretKind("OpenAI key", lambda a: "sk" + "-proj-" + a(ALNUM, 48) + "1"),
    SecretKind("Anthropic key", lambda a: "sk" + "-ant-api03-" + a(ALNUM, 93) + "1AA"),
    SecretKind("Stripe key", lambda a: "sk" + "_live_" + a(ALNUM, 24)),
    SecretKind("Hugging Face token", lambda a: "h" + "f_" + a(string.ascii_letters, 34)),
    SecretKind("npm token", lambda a: "np" + "m_" + a(ALNUM, 36)),
    SecretKind("PyPI token", lambda a: "py" + "pi-AgEIcHlwaS5vcmc" + a(ALNUM, 60)),
    SecretKind("DigitalOcean token", lambda a: "do" + "p_v1_" + a(HEX, 64)),
    SecretKind("age key", lambda a: "AGE-SECRET-" + "KEY-1" + a("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    SecretKind("JSON web token", lambda a: f"ey{'J'}{a(ALNUM, 20)}.eyJ{a(ALNUM, 24)}.{a(ALNUM, 40)}"),
    SecretKind("bearer token", lambda a: a(ALNUM, 40), line="curl -H 'X: Bearer {value}' https://h"),
    SecretKind("signed URL", lambda a: a(HEX, 64), line="https://bucket/x?X-Amz-Signa" + "ture={value}"),
    SecretKind("W&B key", lambda a: "wan" + "db_v1_" + a(ALNUM, 60)),
    SecretKind("Groq key", lambda a: "gs" + "k_" + a(ALNUM, 52)),
    SecretKind("Replicate token", lambda a: "r" + "8_" + a(ALNUM, 37)),
    SecretKind("xAI key", lambda a: "xa" + "i-" + a(ALNUM, 80)),
    SecretKind("Neptune token", lambda a: "eyJh" + "cGlf" + a(ALNUM, 80)),
    SecretKind("Telegram bot token", lambda a: "7" + a(DIGITS, 9) + ":A" + "A" + a(ALNUM, 33)),
    SecretKind("Discord bot token", lambda a: f"M{a(ALNUM, 23)}.{a(ALNUM, 6)}.{a(ALNUM, 38)}"),
    SecretKind(
        "Discord webhook", lambda a: f"{a(DIGITS, 18)}/{a(ALNUM, 68)}", line="https://discord.com/api/webhooks/{value}"
    ),
    SecretKind("SendGrid key", lambda a: "S" + f"G.{a(ALNUM, 22)}.{a(ALNUM, 43)}"),
    SecretKind("Twilio key", lambda a: "S" + "K" + a(HEX, 32)),
    SecretKind("Databricks token", lambda a: "da" + "pi" + a(HEX, 32)),
    SecretKind("Doppler token", lambda a: "dp." + "pt." + a(ALNUM, 43)),
    SecretKind("Shopify token", lambda a: "shp" + "at_" + a(HEX, 32)),
    SecretKind("Square token", lambda a: "sq0" + "atp-" + a(ALNUM, 22)),
    SecretKind("Postman key", lambda a: "PM" + f"AK-{a(HEX, 24)}-{a(HEX, 34)}"),
    SecretKind("Linear key", lambda a: "lin_" + "api_" + a(ALNUM, 40)),
    SecretKind("Notion token", lambda a: "nt" + "n_" + a(DIGITS, 11) + a(ALNUM, 35)),
    SecretKind("PlanetScale token", lambda a: "pscale_" + "tkn_" + a(ALNUM, 40)),
    SecretKind("Grafana token", lambda a: "gl" + f"sa_{a(ALNUM, 32)}_{a(HEX, 8)}"),
    SecretKind("Sentry token", lambda a: "sntr" + "yu_" + a(HEX, 64)),
    SecretKind("Vault token", lambda a: "hv" + "s." + a(ALNUM, 95)),
    SecretKind("RubyGems key", lambda a: "ruby" + "gems_" + a(HEX, 48)),
    SecretKind("New Relic key", lambda a: "NR" + "AK-" + a(UPPER + DIGITS, 27), line="new_relic: {value}"),
    SecretKind("Artifactory key", lambda a: "AK" + "Cp" + a(ALNUM, 69)),
    SecretKind("password in a URL", lambda a: a(ALNUM, 14), line="postgres:" + "//ada:{value}@db:5432/x"),
    SecretKind(
        "private key",
        lambda a: a(ALNUM, 64),
        line="-----BEGIN RSA PRIVATE " + "KEY-----\n{value}\n-----END RSA PRIVATE " + "KEY-----",
    ),
)
BY_NAME = (
    _beside("password", "DB_PASSWORD", lambda a: a(ALNUM, 12)),
    _beside("token", "MY_TOKEN", lambda a: a(ALNUM, 20)),
    _beside("API key", "weather_api_key", lambda a: a(HEX, 32)),
    _beside("secret", "client_secret", lambda a: a(ALNUM, 24)),
    _beside("cookie", "session_cookie", lambda a: a(ALNUM, 24)),
    _beside("W&B key by name", "WANDB_API_KEY", lambda a: a(HEX, 40)),
    _beside("Azure storage key", "AccountKey", lambda a: a(ALNUM, 86) + "=="),
    _beside("Heroku key", "heroku_key", lambda a: "-".join(a(HEX, n) for n in (8, 4, 4, 4, 12))),
    _beside("Datadog key", "datadog", lambda a: a(HEX, 40)),
    _beside("Cloudflare key", "cloudflare", lambda a: a(HEX, 37)),
    _beside("Mailgun key", "mailgun", lambda a: "key" + "-" + a(HEX, 32)),
)
# what nothing here finds: no known looks, and no name that says so
NOT_FOUND = (
    SecretKind("random letters beside a name that says nothing", lambda a: a(ALNUM, 24), "note", "note: {value}"),
    SecretKind("a password in a sentence", lambda a: a(LOWER, 10), line="log in as ada, then type {value}"),
    SecretKind("a password that was encoded", lambda a: a(ALNUM, 22) + "==", "blob", "blob = {value}"),
)
