"""The backbone and its shapes; `shapes` needs no torch."""
