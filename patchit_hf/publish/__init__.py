"""Publish a trained backbone: export (disk), hub (network) and card (text)."""
