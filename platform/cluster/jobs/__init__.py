"""Studies as jobs of a Ray cluster that is there already: submitted, followed, listed and stopped."""
