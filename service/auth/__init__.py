"""Who may use the service: API keys, OpenID Connect tokens, and what each of them allows."""
