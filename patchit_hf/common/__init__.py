"""What every room uses: errors, the console, files, locks, random draws, names of files."""
