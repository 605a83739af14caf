"""Bytes that may be JSON: `strict` decodes what is exactly one object, `scanner` says where anything else ends.

The scanner stands on `tokens` (where a token ends), `grammar` (what may come next) and `candidates` (the objects in the
middle of a broken stretch that may be records of their own).
"""
