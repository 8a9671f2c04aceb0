"""Differential evolution: population, mutation, crossover, memory of what worked, and the loop over them."""
