"""Bytes in, bytes out: channels between exactly two parties. Knows no rings, gates or plans."""
