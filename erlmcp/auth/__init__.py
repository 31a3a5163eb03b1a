"""Who calls: access tokens of OAuth 2.1, what they are checked by, and the endpoint that asks for them."""

from erlmcp.auth.rule import Auth, Issuer, Principal

__all__ = ["Auth", "Issuer", "Principal"]
