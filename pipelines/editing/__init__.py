"""Interactive work on a session: what people do on frames becomes drafts, and drafts become rounds."""
