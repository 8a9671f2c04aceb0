"""Loading a frozen model: where it comes from, what it computes in, whether it can be served."""
