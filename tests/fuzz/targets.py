"""All targets, by the name that `make fuzz` and the kept findings give them."""

from collections.abc import Mapping

from tests.fuzz import blocks, bodies, compat, configs, frames, replies, requests
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    "requests": requests.TARGET,
    "replies": replies.TARGET,
    "frames": frames.TARGET,
    "blocks": blocks.TARGET,
    "bodies": bodies.TARGET,
    "settings": configs.TARGET,
    "compat": compat.TARGET,
}
