"""The interactive tool in the browser: an HTTP server, one worker that owns the model, and the page (`static`)."""
