"""Published variants of differential evolution, one file a paper."""
