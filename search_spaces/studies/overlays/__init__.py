"""Documents that are laid over the studies, for other scales."""
