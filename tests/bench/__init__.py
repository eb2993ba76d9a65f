"""Benchmarks: what a call costs in CPU time, against nginx and HAProxy doing the same in the same run.

`python -m tests.bench` measures, `python -m tests.bench.profile` shows where the proxy's time goes.
Machines are noisy, so the figures to compare are ratios between contenders that took turns on the same
core; absolute figures mean little.
"""
