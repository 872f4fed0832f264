"""Reports of a run: a page for people, a trace for Perfetto, a live view. Names, sizes and times only, never values."""
