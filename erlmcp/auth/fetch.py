"""One JSON document over HTTPS, by the standard library: it blocks, and is called in a thread."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import Any, Final

from erlmcp import core

CHUNK_BYTES: Final = 16 * 1024
HEADERS: Final = {"Accept": "application/json", "User-Agent": "erlmcp"}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is not where it was said to be is not there."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch_json(url: str, timeout_s: float, bytes_max: int) -> Any:
    """Raises OSError where it cannot be had in time, ValueError where it is too large or no JSON."""
    until_s = time.monotonic() + timeout_s
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, headers=HEADERS), timeout=timeout_s) as answer:
            data = b""
            while chunk := answer.read1(CHUNK_BYTES):
                data += chunk
                if len(data) > bytes_max:
                    raise ValueError(f"it has more than {bytes_max} bytes")
                if time.monotonic() > until_s:
                    raise TimeoutError(f"it did not come within {timeout_s:g} s")
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"the answer is {error.code} {error.reason}") from None
    except http.client.HTTPException as error:
        raise OSError(f"the answer is no HTTP: {type(error).__name__}") from None
    return core.decode(data)
