"""Networks, virtual time and replay: what a run would cost elsewhere."""
