"""Stands for a slow program in any language: coordinates are its arguments, the loss is what it prints."""

import sys
import time

x, y = map(float, sys.argv[1:])
time.sleep(0.02)
if x < -3:
    sys.exit("no solution found")  # exit status 1
print((x - 1) ** 2 + (y - x) ** 2)
