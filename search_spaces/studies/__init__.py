"""Studies that come with the package, each runnable by its name."""
