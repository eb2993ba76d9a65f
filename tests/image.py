"""`make image`: what the Dockerfile says, done in a clean folder without a container engine, and the result run.

Each instruction is read from the Dockerfile and carried out: what is copied is copied, what is run is run, with the
image's folders inside the clean one. Python is this machine's, in an environment of its own, instead of the base
image's. Then the image's entry point answers `version`, serves before a simulated Talon.One, is found healthy by its
HEALTHCHECK, takes a call, and ends well.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy import __version__
from proxy.simulator.server import DEFAULT_KEY
from tests.dockerfile import Instruction, parse, stages
from tests.process import ROOT, Serve, run, simulating, variables

FILE = ROOT / "Dockerfile"
LIMIT = 120.0  # MB as pulled, and of them the base image takes
BASE = 45.0
MB = 1_000_000
# The folders of the image that are made here.
INSIDE = re.compile(r"(?<![\w./-])/(build|opt)(?=/|\s|$)")


class Image:
    """What the instructions have made so far, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = folder / "python"
        self._workdir = folder
        self.environment: dict[str, str] = {}
        self.entrypoint: Sequence[str] = ()
        self.healthcheck: Sequence[str] = ()

    def do(self, instruction: Instruction) -> None:
        """Carry out one instruction."""
        match instruction.keyword:
            case "FROM":
                # A stage begins with a Python that has nothing installed.
                shutil.rmtree(self._python, ignore_errors=True)
                subprocess.run([sys.executable, "-m", "venv", self._python], check=True)
            case "WORKDIR":
                self._workdir = Path(self._here(instruction.value))
                self._workdir.mkdir(parents=True)
            case "COPY":
                self._copy(instruction)
            case "RUN":
                subprocess.run(
                    ["bash", "-euc", self._here(instruction.value)],
                    cwd=self._workdir,
                    env={**os.environ, "PATH": self._path, "PYTHONPATH": ""},
                    check=True,
                )
            case "ENV":
                self.environment = {name: self._here(value) for name, value in instruction.pairs.items()}
            case "ENTRYPOINT":
                self.entrypoint = self._program(instruction.command)
            case "HEALTHCHECK":
                self.healthcheck = self._program(Instruction("CMD", {}, instruction.value.removeprefix("CMD ")).command)
            case _:
                pass  # what only a container engine heeds

    def _copy(self, instruction: Instruction) -> None:
        if "from" in instruction.flags:
            source, target = instruction.words
            assert source == target, "stages share one folder here"
            return
        *sources, target = instruction.words
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                clean = shutil.ignore_patterns("__pycache__", "*.so")
                shutil.copytree(path, self._workdir / target, ignore=clean)
            else:
                shutil.copy(path, self._workdir / target)

    def _here(self, text: str) -> str:
        return INSIDE.sub(lambda found: f"{self._folder}/{found[1]}", text)

    def _program(self, command: Sequence[str]) -> Sequence[str]:
        name, *arguments = command
        assert name == "python"
        return (str(self._python / "bin" / name), *arguments)

    @property
    def _path(self) -> str:
        return os.pathsep.join([str(self._python / "bin"), os.environ["PATH"]])


def build(folder: Path) -> Image:
    """Carry out the whole Dockerfile."""
    image = Image(folder)
    for stage in stages(parse(FILE.read_text())):
        for instruction in stage:
            image.do(instruction)
    return image


async def try_out(image: Image) -> None:
    """Run it."""
    version = await run(*image.entrypoint, "version", env=image.environment)
    assert version.code == 0, version
    assert __version__ in version.out
    async with simulating() as talon_one:
        settings = variables(
            {
                "upstream__url": talon_one,
                "api_key": DEFAULT_KEY,
                "listen": "127.0.0.1:0",
                "admin__listen": "127.0.0.1:0",
                "shutdown__quiet": "0ms",
            }
        )
        proxy = await Serve.start(*image.entrypoint, "serve", env={**image.environment, **settings})
        try:
            await proxy.listening()
            where = variables({"admin__listen": proxy.admin})
            health = await run(*image.healthcheck, env={**image.environment, **where})
            assert health.code == 0, health
            answer = await proxy.ask("PUT", "/v2/customer_sessions/s", b'{"customerSession": {}}')
            assert answer.status == 201 or answer.status == 200, answer
            ended = await proxy.stop()
            assert (ended.code, ended.err) == (0, ""), ended
        finally:
            await proxy.kill()


def sizes(folder: Path) -> Mapping[str, float]:
    """Give MB of what is installed: on disk, and as a layer is pulled."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    layer = folder.with_suffix(".tar.gz")
    with tarfile.open(layer, "w:gz", compresslevel=6) as archive:
        archive.add(folder, arcname="opt/talon-proxy")
    return {"on disk": sum(file.stat().st_size for file in files) / MB, "as pulled": layer.stat().st_size / MB}


def main() -> int:
    """Build it, run it, and weigh it."""
    with TemporaryDirectory() as folder:
        image = build(Path(folder))
        installed = Path(folder, "opt", "talon-proxy")
        assert list(installed.glob("proxy/**/*.so")), "nothing is compiled"
        asyncio.run(try_out(image))
        found = sizes(installed)
    print(", ".join(f"{name} {size:.1f} MB" for name, size in found.items()), "beside the base image")
    assert found["as pulled"] + BASE < LIMIT
    return 0


if __name__ == "__main__":
    sys.exit(main())
