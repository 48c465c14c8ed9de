"""Benchmarks: hypernodes beside plain Python, its peers and its ancestor.

Run `python -m benchmarks` from the root of the repository; `README.md` beside this file says how
the figures are taken and what each column means.
"""
