"""Spark beside the models: predictions and embeddings as tables."""
