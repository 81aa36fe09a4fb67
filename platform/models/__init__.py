"""What is done with a trained model: it is evaluated, sampled from and exported."""
