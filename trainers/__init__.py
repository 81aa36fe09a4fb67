"""Training, evaluation and the record of one run, in pure PyTorch: Ray is absent here."""
