"""Corpora as a user meets them: preparing with a progress bar here or on Ray, inspecting, verifying."""
