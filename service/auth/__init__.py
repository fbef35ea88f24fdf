"""Authentication and authorisation: API keys, OpenID Connect tokens, and the rights that each of them gives."""
