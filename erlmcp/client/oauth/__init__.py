"""How a client gets the access tokens that a server asks for (docs/client-auth.md)."""

from erlmcp.client.oauth.grant import ClientCredentials as ClientCredentials
from erlmcp.client.oauth.grant import EnterpriseManaged as EnterpriseManaged
from erlmcp.client.oauth.grant import JwtBearer as JwtBearer
from erlmcp.client.oauth.grant import OAuth as OAuth
from erlmcp.client.oauth.redirect import Browser as Browser
from erlmcp.client.oauth.store import FileStore as FileStore
from erlmcp.client.oauth.store import MemoryStore as MemoryStore
from erlmcp.client.oauth.store import Store as Store
