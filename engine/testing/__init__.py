"""Test tools that are part of the product: conformance suites for what third parties plug in."""
