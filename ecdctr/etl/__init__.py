"""From a user's own logs to encoded samples, on Spark."""
