"""A loopback Hub for tests: repositories in memory behind the Hub's own routes."""
