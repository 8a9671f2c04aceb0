"""The search that ``auto`` means: an opening, line searches, a learnt distribution and differential evolution."""
