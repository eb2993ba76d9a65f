"""What is measured, a module for each part."""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from tests.bench.parts import burst, callers, cpu, growth, idle, latency, scrape, sharing, startup
from tests.bench.samples import Sample
from tests.bench.stand import Stand

Part = Callable[[Stand], Iterator[Sample]]
_MODULES: tuple[ModuleType, ...] = (cpu, latency, callers, burst, idle, startup, sharing, scrape, growth)
# In the order in which they are measured.
PARTS: Mapping[str, Part] = {module.PART: module.measure for module in _MODULES}
