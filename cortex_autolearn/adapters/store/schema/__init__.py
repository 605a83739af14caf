"""The numbered scripts that make up the schema; applied in order, each once."""
