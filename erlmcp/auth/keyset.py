"""The keys that an issuer signs with: given, or fetched and kept.

Fetched keys are kept for ``jwks_refresh_s``, then asked for again beside the work. A token that names a key that is not
there has them asked for at once, as an issuer may have changed its key; but never sooner than ``jwks_refetch_s`` after
the last time, whatever tokens name: made-up names cost the issuer one request in that time, and all who wait, wait for
the same one. While the issuer cannot be reached the keys that are there serve on, for ``jwks_stale_s``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from erlmcp.auth.fetch import fetch_json
from erlmcp.auth.rule import PUBLIC, SECRET

if TYPE_CHECKING:
    from erlmcp.auth.rule import Auth, Issuer

log = logging.getLogger("erlmcp.auth")
FETCH_TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 256 * 1024
KEY_COUNT_MAX: Final = 64
RSA_BITS_MIN: Final = 2048
NEVER: Final = float("-inf")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class Key:
    """``algorithms`` are those that it can be used with; a ``kid`` of None fits any token."""

    __slots__ = ("algorithms", "kid", "value")

    def __init__(self, value: Any, algorithms: Sequence[str], kid: str | None = None) -> None:
        self.value = value
        self.algorithms = frozenset(algorithms)
        self.kid = kid


class Keys:
    """Keys that stay as they are."""

    is_missing = False  # whether none can be had now
    why = ""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    def begin(self) -> None:
        """Fetch what is missing, beside the work."""

    def look(self, kid: str | None, alg: str, *, may_ask: bool = True) -> Sequence[Key] | None:
        """Those that may have signed a token. None: they have to be asked for first (``refresh``), which may be done
        now."""
        return [
            key for key in self._keys if alg in key.algorithms and (kid is None or key.kid is None or key.kid == kid)
        ]

    async def refresh(self) -> None:
        """Wait for an answer of the issuer."""

    def close(self) -> None:
        """Stop fetching."""


class FetchedKeys(Keys):
    """``changed`` is called where keys were taken away."""

    def __init__(
        self,
        url: str,
        rule: Auth,
        changed: Callable[[], None] = lambda: None,
        *,
        fetch: Callable[[str, float, int], Any] = fetch_json,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.url = url
        self._rule = rule
        self._changed = changed
        self._fetch = fetch
        self._clock = clock
        self._got_s = self._tried_s = NEVER
        self._task: asyncio.Task[None] | None = None

    @property
    def is_missing(self) -> bool:  # type: ignore[override]  # here it depends
        return self._clock() - self._got_s > self._rule.jwks_stale_s

    def look(self, kid: str | None, alg: str, *, may_ask: bool = True) -> Sequence[Key] | None:
        now_s = self._clock()
        may_ask = may_ask and (self._task is not None or now_s - self._tried_s >= self._rule.jwks_refetch_s)
        if may_ask and now_s - self._got_s > self._rule.jwks_refresh_s:
            self._begun()
        found = () if self.is_missing else super().look(kid, alg)
        return None if not found and may_ask else found

    def begin(self) -> None:
        if self.is_missing:
            self._begun()

    def _begun(self) -> asyncio.Task[None]:
        if self._task is None:
            self._tried_s = self._clock()
            self._task = asyncio.get_running_loop().create_task(self._renew())
        return self._task

    async def refresh(self) -> None:
        task = self._begun()
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
        if (current := asyncio.current_task()) is not None and current.cancelling():
            raise asyncio.CancelledError

    async def _renew(self) -> None:
        try:
            document = await asyncio.to_thread(self._fetch, self.url, FETCH_TIMEOUT_S, BYTES_MAX)
            keys = read_keys(document)
        except (OSError, ValueError) as error:
            self.why = str(error)
            log.warning("the keys at %s cannot be had: %s", self.url, error)
        else:
            old, self._keys = self._keys, tuple(keys)
            self._got_s, self.why = self._clock(), ""
            if {key.kid for key in old} - {key.kid for key in keys}:
                self._changed()
        finally:
            self._task = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def keys_of(issuer: Issuer, rule: Auth, changed: Callable[[], None]) -> Keys:
    """Raises ValueError for a key that cannot be used."""
    if issuer.jwks_url:
        return FetchedKeys(issuer.jwks_url, rule, changed)
    return Keys(given_keys(issuer))


def given_keys(issuer: Issuer) -> list[Key]:
    """The keys that stand in a configuration. Raises ValueError."""
    if issuer.secret:
        return [Key(issuer.secret.encode(), SECRET)]
    if issuer.key:
        try:
            value = load_pem_public_key(issuer.key.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it is no public key as PEM") from None
        return [Key(value, _fitting(value))]
    return read_keys(issuer.jwks)


def read_keys(document: Any) -> list[Key]:
    """The keys of a JSON Web Key Set (RFC 7517) that signatures can be checked with. Those of kinds that are not known,
    for encryption and of a secret are passed over. Raises ValueError where none is left."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError('it is no key set: {"keys": [...]}')
    found = [key for each in listed[:KEY_COUNT_MAX] if (key := _read_key(each)) is not None]
    if not found:
        raise ValueError("it has no key to check signatures with")
    return found


def _read_key(given: Any) -> Key | None:
    if not isinstance(given, dict) or given.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    operations = given.get("key_ops")
    if given.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    public = {name: value for name, value in given.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    kid, alg = given.get("kid"), given.get("alg")
    try:
        value = jwt.PyJWK(public).key
        fitting = _fitting(value)
    except (jwt.PyJWTError, ValueError, UnsupportedAlgorithm) as error:
        log.warning("a key of a key set is passed over: %s", type(error).__name__)
        return None
    if alg is not None:
        fitting = tuple(name for name in fitting if name == alg)
    return Key(value, fitting, kid if isinstance(kid, str) else None)


def _fitting(value: Any) -> tuple[str, ...]:
    """The algorithms that a public key is for. Raises ValueError."""
    if isinstance(value, RSAPublicKey):
        if value.key_size < RSA_BITS_MIN:
            raise ValueError(f"it has {value.key_size} bits, at least {RSA_BITS_MIN} wanted")
        return tuple(name for name in PUBLIC if name[:2] in ("RS", "PS"))
    if isinstance(value, EllipticCurvePublicKey) and value.curve.name in _CURVES:
        return (_CURVES[value.curve.name],)
    if isinstance(value, Ed25519PublicKey):
        return ("EdDSA",)
    raise ValueError("it is of a kind that no signature here is made with")
