"""Optimizers of other libraries behind the same ask and tell. Each library is imported when its adapter is made."""
