"""What turns sources into a corpus: reading, sorting by hash, comparing, scoring, tokens."""
