"""What a study tries next, who goes on, and what it may cost."""
