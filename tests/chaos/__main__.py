"""Let the storm pass and print what came of it; exit code 1 where something happened that must not."""

import argparse
import sys

import uvloop

from tests.chaos.storm import storm


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--writes", type=int, default=20_000)
    parser.add_argument("--profiles", type=int, default=200)
    parser.add_argument("--callers", type=int, default=96)
    parser.add_argument("--seed", type=int, default=4711)
    options = parser.parse_args()
    found = uvloop.run(storm(options.writes, options.profiles, options.callers, quarantine=1.0, seed=options.seed))
    print(found.summary())
    return 1 if any(found.wrong().values()) else 0


if __name__ == "__main__":
    sys.exit(main())
