"""What a client's model, or the features it sends, give away about its data: measured, not argued."""
