"""The settings of a training follow the parameters of 04_train, and are all that the package takes of them."""

from dataclasses import asdict, fields
from pathlib import Path

from bgetune import training
from bgetune.config.stages import Train
from bgetune.training import TrainingSettings


def test_every_setting_is_the_parameter_of_the_same_name():
    parameters = Train(model="a/b", scale=30, loss_scope="across_queries", matryoshka=[64], patience=2)
    settings = TrainingSettings.of(parameters, epochs=4)
    values = parameters.model_dump() | parameters.launcher.model_dump() | {"epochs": 4}
    assert asdict(settings) == {field.name: values[field.name] for field in fields(TrainingSettings)}
    assert parameters.epochs is None  # the parameter may leave it open


def test_no_function_of_the_package_takes_a_section_of_a_profile():
    files = {file.name for file in Path(training.__file__).parent.glob("*.py") if "config.stages" in file.read_text()}
    assert files == {"settings.py"}
