"""One level's training on one rank: a task in, a published version out."""
