"""Free text: decoding answers and reading them."""
