"""Hand a trained backbone to the world: export (disk), hub (network), card (words)."""
