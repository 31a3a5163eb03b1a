"""Access tokens, as a configuration writes them: who makes them, what for, and what their scopes open."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from erlmcp import core
from erlmcp.auth.keeper import MEND, can_verify
from erlmcp.auth.rule import Auth, Issuer, is_scope, is_url, mistakes_of, mistakes_of_issuer
from erlmcp.errors import JsonError, LimitError
from erlmcp.gateway.config import GrantConfig, OAuthConfig
from erlmcp.gateway.document import Table

OF_ISSUER: Final = ("issuer", "jwks_url", "jwks", "key", "secret", "algorithms")
TIMES: Final = {"jwks_refresh_s": 300.0, "jwks_refetch_s": 10.0, "jwks_stale_s": 86400.0}
PEM: Final = "-----BEGIN"


def read_oauth(table: Table) -> OAuthConfig | None:
    """None where it cannot be used, which is reported."""
    known = len(table.document.problems)
    issuers = [_read_issuer(each) for each in table.tables("issuers").values()]
    if not issuers or any(name in table for name in OF_ISSUER):
        issuers.insert(0, _read_issuer(table))
    audience = _texts(table, "audience")
    resource = table.text("resource") or (audience[0] if audience and is_url(audience[0]) else "")
    grants = {name: _read_grant(each) for name, each in table.tables("grants").items()}
    for name in grants:
        if not is_scope(name):
            table.report(f"grants.{name}", "is no scope", "letters, digits and signs make one; no blanks or quotes")
    given: dict[str, Any] = {
        "issuers": [issuer for issuer in issuers if issuer is not None],
        "audience": audience,
        "resource": resource,
        "scopes": table.texts("scopes") or (),
        "scopes_supported": tuple(name for name in grants if is_scope(name)),
        "caller": table.text("caller", "sub"),
        "leeway_s": table.number("leeway_s", 30, is_whole=True),
        **{name: float(table.number(name, default)) for name, default in TIMES.items()},
    }
    grant = GrantConfig(table.texts("allow"), table.texts("deny") or ())
    table.finish()
    for name, text, mend in mistakes_of(SimpleNamespace(**given)):  # type: ignore[arg-type]
        if name not in ("issuer", "issuers") or given["issuers"]:  # those that are no good were told
            table.report(name, text, mend)
    if not can_verify():
        table.report("", "needs libraries that are not installed", MEND)
    return OAuthConfig(Auth(**given), grant, grants) if len(table.document.problems) == known else None


def _read_issuer(table: Table) -> Issuer | None:
    known = len(table.document.problems)
    given: dict[str, Any] = {name: table.text(name, "") for name in ("issuer", "jwks_url", "secret")}
    given["key"] = _read_file(table, "key")
    given["algorithms"] = _texts(table, "algorithms")
    text = _read_file(table, "jwks")
    given["jwks"] = None
    if text:
        try:
            given["jwks"] = core.decode(text.encode())
        except (JsonError, LimitError) as error:
            table.report("jwks", f"is no JSON: {error}", 'name a file that holds {"keys": [...]}')
    if not table.key.endswith(".oauth"):
        table.finish()
    told = {problem.key for problem in table.document.problems[known:]}
    for name, what, mend in mistakes_of_issuer(SimpleNamespace(**given)):  # type: ignore[arg-type]
        if not told.intersection(map(table.path, OF_ISSUER)):  # ... else it may follow from that
            table.report(name, what, mend)
    if len(table.document.problems) > known:
        return None
    made = Issuer(**given)
    if can_verify() and not made.jwks_url:
        from erlmcp.auth.keyset import given_keys

        try:
            given_keys(made)
        except ValueError as error:
            table.report("key" if made.key else "jwks", f"cannot be used: {error}", "give the public key of the issuer")
            return None
    return made


def _read_file(table: Table, name: str) -> str:
    """The text of a file that a key names, from the folder of the configuration on; PEM and JSON stand for
    themselves."""
    text = table.text(name, "") or ""
    if not text or text.lstrip().startswith((PEM, "{")):
        return text
    path = table.document.path.parent / Path(text).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        table.report(name, f"{text!r} cannot be read: {getattr(error, 'strerror', None) or error}", "name a file")
        return ""


def _read_grant(table: Table) -> GrantConfig:
    made = GrantConfig(table.texts("allow"), table.texts("deny") or ())
    table.finish()
    return made


def _texts(table: Table, name: str) -> tuple[str, ...]:
    """One text, or an array of them."""
    if isinstance(table.raw(name), str):
        return (table.text(name) or "",)
    return table.texts(name) or ()
