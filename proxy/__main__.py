"""`python -m proxy` is `talon-proxy`."""

import sys

from proxy.cli import main

sys.exit(main())
