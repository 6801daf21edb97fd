"""One file per model; each reads like its paper: embed, interact, predict."""
