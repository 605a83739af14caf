"""The outside world behind the ports: files, the database, providers, the log. One door each; no rule lives here."""
