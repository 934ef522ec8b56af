"""Which names are given to secrets: ``DB_PASSWORD``, ``apiKey``, ``--auth-token``; not ``max_tokens``, ``author``.

A name is cut into words at underscores, hyphens, dots and changes of case, so that ``token`` is found in
``githubToken`` and not in ``tokenizer``. Three kinds of words decide: those that mean a secret wherever they stand,
those that mean one beside another (``api key``, ``private key``), and those that say that the name only speaks about
a secret (``password_file``, ``token_count``). In doubt a value is hidden: one hidden for nothing can be asked for,
one that was published cannot be taken back.
"""

from __future__ import annotations

import functools
import re
from itertools import pairwise

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LONGEST_NAME = 200


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Kinds and the words that mean them; pairs and not a mapping, since "name": "value" is what redaction looks for, and
# these lines are to survive it in a patch.
_WORDS_OF = (
    ("password", "password passwords passwd passphrase passcode pwd userpass dbpass"),
    ("secret", "secret secrets"),
    ("credential", "credential credentials creds"),
    ("authorization", "authorization"),
    ("cookie", "cookie cookies sessionid phpsessid jsessionid"),
    ("connection-string", "dsn connectionstring connstr"),
)
_KIND_OF_WORD = {word: kind for kind, words in _WORDS_OF for word in words.split()}
# written together: "clientsecret", "dbpassword", "myapikey"
_ENDINGS_OF = (
    ("password", "password passwd passphrase"),
    ("secret", "secret"),
    ("api-key", "apikey"),
    ("access-key", "accesskey"),
    ("secret-key", "secretkey"),
    ("private-key", "privatekey"),
    ("token", "authtoken accesstoken apitoken refreshtoken bearertoken sessiontoken"),
)
# "_key" alone is a dictionary's, a cipher's or a piano's; beside one of these it is a secret
_KEY_OWNERS = _set(
    "access account admin aes api auth cipher client consumer crypt decryption deploy encryption gpg hmac jwt license "
    "master pgp private rsa secret service session shared sign signing ssh storage subscription webhook"
)
_PASS_OWNERS = _set(
    "account admin auth database db docker email ftp http imap ldap login mail mysql pg postgres proxy redis registry "
    "root smtp ssh sudo user vault"
)
# what a token of text is called, as against one that opens a door
_TEXT_TOKENS = _set(
    "additional audio begin blank bos bot by class cls current decoder dist distill distillation each embed embedding "
    "encoder end eod eom eos eot extra fim first image img input last latent loss mask masked max memory min n newline "
    "next num output pad padding patch per pos position prefix prev previous prompt query register sep space special "
    "start stop sub subword suffix text think unk unknown vision visual word"
)
_DOOR_TOKENS = _set("access api auth bearer id oauth refresh secret session user")
# the last word of a name that speaks about a secret and is none
_ABOUT = _set(
    "algorithm class count dir directory enabled endpoint expiration expires expiry field file filename folder format "
    "helper len length manager max min name names path policy prompt required rounds scope scopes size strategy "
    "strength timeout ttl type uri url version sha digest"
)
_ABOUT_A_KEY = _set("alg bits fingerprint id ids usage")


@functools.lru_cache(maxsize=4096)
def secret_kind(name: str) -> str | None:
    """What kind of secret a thing of this name is ("password", "token", "api-key", ...), or None if it is none."""
    if name in ("PWD", "OLDPWD"):  # the shell's working folder
        return None
    words = [word.lower() for word in _WORDS.findall(name[-_LONGEST_NAME:])]
    if not words or (len(words) > 1 and words[-1] in _ABOUT):
        return None
    if words == ["auth"]:
        return "authorization"
    return _single(words) or _pair(words) or _token(words)


def _single(words: list[str]) -> str | None:
    for word in words:
        if word in _KIND_OF_WORD:
            return _KIND_OF_WORD[word]
        for kind, endings in _ENDINGS_OF:
            if word.endswith(tuple(endings.split())):
                return kind
    return None


def _pair(words: list[str]) -> str | None:
    for index, (first, second) in enumerate(pairwise(words)):
        if second in ("key", "keys") and first in _KEY_OWNERS and words[-1] not in _ABOUT_A_KEY:
            return f"{first}-key"
        if second == "pass" and first in _PASS_OWNERS and index == len(words) - 2:
            return "password"
        if (first, second) in (("connection", "string"), ("conn", "string"), ("conn", "str")):
            return "connection-string"
    return None


def _token(words: list[str]) -> str | None:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "token" and before not in _TEXT_TOKENS:
        return "token"
    if last == "tokens" and before in _DOOR_TOKENS:
        return "token"
    return "token" if before == "token" and last in ("value", "key", "string") else None
