"""Person crops in: open them, decode them, and say which one comes when."""
