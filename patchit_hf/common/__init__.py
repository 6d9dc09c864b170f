"""Shared by every room: errors, the console, files, locks, random draws and file names."""
