"""Benchmarks: a dealer and two party processes on one machine, over the same executor, links and tapes as sessions."""
