"""`talon-proxy hash ID`: the id as the logs of proxies with this configuration show it.

It needs `log.hash_key`: without one every proxy makes up its own at its start, and only that process could tell.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from proxy.commands import usual
from proxy.observe.hashes import Hashes
from proxy.settings import SettingsError

_RANDOM = """\
talon-proxy hash: this cannot be told: log.hash_key is not set, so each proxy hashes with a key that it makes up at its
start. Set log.hash_key_file (TALON_PROXY_LOG__HASH_KEY_FILE) to a file of random text, the same for all proxies and
for this command, and restart them; what they have logged before stays as it is."""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the hash of each id. 1: the key is random; 2: wrong usage or settings."""
    options, flags = _parser().parse_known_args(arguments)
    try:
        settings = usual.read(flags, environ).settings
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.log.hash_key is None:
        print(_RANDOM, file=sys.stderr)
        return 1
    hashes = Hashes(settings.log.hash_key.reveal())
    for text in sys.stdin.read().splitlines() if options.id == "-" else [options.id]:
        print(hashes.hash(text))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talon-proxy hash",
        description="Tell how logs show an id. Settings are read as by serve: flags, environment, file.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "id", metavar="ID", help="of a session or customer, as it stands in a body; -: one in each line"
    )
    return parser
