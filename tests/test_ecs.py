"""The task definition for ECS: what the API takes, and settings that are right."""

import json

import botocore.loaders
import botocore.model
import botocore.validate
import pytest

from proxy.settings import load
from tests.process import PROXY, ROOT

TASK = json.loads((ROOT / "deploy" / "ecs" / "task-definition.json").read_text())
SIDECAR, SHOP = TASK["containerDefinitions"]


def errors(task: object) -> str:
    """Give what `RegisterTaskDefinition` says against it, by the model that the AWS tools use."""
    model = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ecs", "service-2"))
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    report: str = botocore.validate.ParamValidator().validate(task, shape).generate_report()
    return report


def test_it_is_valid() -> None:
    assert errors(TASK) == ""


def test_a_wrong_one_is_found() -> None:
    assert "readOnly" in errors(TASK | {"containerDefinitions": [SIDECAR | {"readOnly": True}]})


def test_the_shop_starts_when_the_proxy_is_healthy_and_stops_before_it() -> None:
    assert SHOP["dependsOn"] == [{"containerName": SIDECAR["name"], "condition": "HEALTHY"}]
    assert SIDECAR["healthCheck"]["command"] == ["CMD", "python", *PROXY[1:], "health"]


def test_the_proxy_may_do_little() -> None:
    assert int(SIDECAR["user"].partition(":")[0]) > 0
    assert SIDECAR["readonlyRootFilesystem"]
    assert SIDECAR["linuxParameters"] == {"capabilities": {"drop": ["ALL"]}}


def test_the_settings_are_right_and_it_stops_in_time() -> None:
    variables = {entry["name"]: entry["value"] for entry in SIDECAR["environment"]}
    secrets = {entry["name"]: "a-key-of-an-application" for entry in SIDECAR["secrets"]}

    loaded = load([], variables | secrets)

    assert loaded.warnings == ()
    assert SIDECAR["stopTimeout"] > loaded.settings.shutdown.timeout


@pytest.mark.parametrize("container", TASK["containerDefinitions"], ids=lambda container: container["name"])
def test_an_image_has_a_version(container: dict[str, str]) -> None:
    assert container["image"].rpartition(":")[2].count(".") == 2
