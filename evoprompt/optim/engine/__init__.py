"""The engine of every optimizer: it numbers trials, keeps accounts and states, and knows no algorithm."""
