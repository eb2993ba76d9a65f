"""Fuzzing: bytes that nobody thought of, at every place where bytes from outside are read.

A target takes any bytes and raises where a promise is broken. `make fuzz` lets a coverage-guided fuzzer (atheris) find
such bytes; `make test` plays what was found before, and mutations of the seeds (tests/test_fuzz.py), which needs no
fuzzer. What is found is mended, and its bytes are kept in tests/data/findings.jsonl.

    targets  which there are
    running  one target under atheris: `python -m tests.fuzz`
"""
