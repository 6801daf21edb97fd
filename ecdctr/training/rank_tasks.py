"""What the warm ranks can be asked to do."""
