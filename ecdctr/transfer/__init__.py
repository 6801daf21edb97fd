"""What one level hands to the next: parameters by name, and historical embeddings."""
