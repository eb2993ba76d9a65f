"""Settings: every option, its default, its unit; all problems reported at once.

`load` reads them once and hands them on as one frozen object. Nothing else looks at the environment.
"""

from proxy.settings.address import Address, AddressKind, Origin
from proxy.settings.changes import changed, need_restart
from proxy.settings.kinds import AccessLog
from proxy.settings.lists import RouteTemplate
from proxy.settings.loading import Loaded, load
from proxy.settings.model import Application, Settings
from proxy.settings.problems import Problem, SettingsError
from proxy.settings.redaction import redacted, secrets, settings_hash
from proxy.settings.rules import refused_target
from proxy.settings.shown import as_json
from proxy.settings.upstream import Next

__all__ = [
    "AccessLog",
    "Address",
    "AddressKind",
    "Application",
    "Loaded",
    "Next",
    "Origin",
    "Problem",
    "RouteTemplate",
    "Settings",
    "SettingsError",
    "as_json",
    "changed",
    "load",
    "need_restart",
    "redacted",
    "refused_target",
    "secrets",
    "settings_hash",
]
