"""Plugins without torch, for tests of configuration."""

import pytest

from tunewright.core import plugins

METHODS = {
    "lora": "r: int = Field(16, gt=0)\n    lora_alpha: float = 32\n    lora_dropout: float = Field(0.0, ge=0, lt=1)\n"
    "    target_modules: str | list[str] = 'all-linear'\n    rank_pattern: dict[str, int] = {}",
    "full": "",
    "norm": "",
    "last": "layers: int = 2",
}
OBJECTIVES = {"next_token": "loss_on: Literal['answers', 'last', 'all'] = 'answers'", "odds": "beta: float = 0.1"}


@pytest.fixture(scope="module")
def light_plugins(tmp_path_factory):
    """Methods and objectives with the shipped names and fields, but without torch, and nothing from outside."""
    root = tmp_path_factory.mktemp("light")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        for kind, found in (("methods", METHODS), ("objectives", OBJECTIVES)):
            package = root / f"light_{kind}"
            package.mkdir()
            (package / "__init__.py").touch()
            for name, fields in found.items():
                (package / f"{name}.py").write_text(
                    "from typing import Literal\nfrom pydantic import Field\n"
                    "from tunewright.core.plugins import Plugin\n"
                    f"class {name.title().replace('_', '')}(Plugin):\n    'A light one.'\n    {fields}\n"
                )
            patch.setitem(plugins.KINDS, kind, package.name)
        patch.setattr(plugins, "entry_points", lambda group: [])  # reads the metadata of all that is installed
        yield
