"""Floor 3: asyncio lives here."""
