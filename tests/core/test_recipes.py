"""Recipes: which rows are theirs, and what follows from the number of rows."""

import pytest

from tunewright.core import plugins
from tunewright.core.config import DataShape, resolve
from tunewright.core.errors import UserError
from tunewright.recipes import choose_recipe
from tunewright.recipes.chat import Chat
from tunewright.recipes.classify import Classify
from tunewright.recipes.text import Text

LABELS = ("bad", "good")
pytestmark = pytest.mark.usefixtures("light_plugins")


def faults(*args, **words) -> list[str]:
    with pytest.raises(UserError) as error:
        resolve(*args, **words)
    return error.value.problems


@pytest.mark.parametrize(
    ("labels", "context", "name"),
    [(LABELS, True, "classify"), (LABELS, False, "classify"), ((), True, "chat"), ((), False, "text")],
)
def test_rows_choose_their_recipe(labels, context, name):
    assert choose_recipe(labels, context).plugin_name() == name
    assert [one.plugin_name() for one in (Classify(), Chat(), Text()) if one.match(labels, context)] == [name]


def test_a_named_recipe_is_taken_if_the_rows_serve_it():
    assert choose_recipe(LABELS, True, "chat").plugin_name() == "chat"
    with pytest.raises(UserError, match="closed set of labels"):
        choose_recipe((), True, "classify")
    with pytest.raises(UserError, match="Did you mean 'chat'"):
        choose_recipe((), True, "chatt")


@pytest.mark.parametrize(
    ("recipe", "rows", "epochs"),
    [
        (Classify(), 1, 4),
        (Classify(), 600, 4),
        (Classify(), 601, 3),
        (Classify(), 2_000, 3),
        (Classify(), 2_001, 2),
        (Classify(), 10_000, 2),
        (Classify(), 10_001, 1),
        (Chat(), 2_000, 3),
        (Chat(), 2_001, 2),
        (Text(), 10_001, 1),
    ],
)
def test_epochs_follow_the_rows(recipe, rows, epochs):
    plan = resolve({}, recipe=recipe, rows=DataShape(rows))
    assert plan.settings.train.num_train_epochs == epochs
    assert plan.origins["train.num_train_epochs"] == f"derived: recipe {recipe.plugin_name()}, {rows} training rows"


@pytest.mark.parametrize(
    ("recipe", "method", "rate"),
    [
        (Classify(), "lora", 1e-3),
        (Classify(), "norm", 1e-3),
        (Classify(), "full", 2e-5),
        (Classify(), "last", 2e-5),
        (Chat(), "lora", 2e-4),
        (Text(), "lora", 2e-4),
        (Chat(), "norm", 1e-3),
        (Text(), "full", 2e-5),
    ],
)
def test_learning_rate_follows_the_method(recipe, method, rate):
    plan = resolve({"method": method}, recipe=recipe)
    assert plan.settings.train.learning_rate == rate
    assert plan.origins["train.learning_rate"] == f"derived: recipe {recipe.plugin_name()}, method {method}"


def test_a_recipe_that_knows_no_rate_says_so_among_the_other_faults():
    class Fast(Classify):
        def learning_rate(self, method):
            raise UserError("No rate. Set train.learning_rate.")

    assert faults({"sed": 1}, recipe=Fast()) == [faults({"sed": 1})[0], "No rate. Set train.learning_rate."]
    assert resolve({"lr": 0.5}, recipe=Fast()).settings.train.learning_rate == 0.5


def test_what_the_user_sets_is_never_derived():
    plan = resolve({"epochs": 7, "lr": 0.5, "instruction": "Say."}, recipe=Classify(), rows=DataShape(10, LABELS))
    train = plan.settings.train
    assert (train.num_train_epochs, train.learning_rate, plan.settings.data.instruction) == (7, 0.5, "Say.")
    assert not any(origin.startswith("derived") for key, origin in plan.origins.items() if key != "recipe")


def test_the_instruction_names_the_labels_while_they_are_few():
    plan = resolve({}, recipe=Classify(), rows=DataShape(10, LABELS))
    assert plan.settings.data.instruction == "Answer with exactly one of: bad, good."
    many = Classify().instruction([f"label {i}" for i in range(500)])
    assert many == "Answer with the label alone."


@pytest.mark.parametrize("recipe", [Classify(), Chat(), Text()])
def test_a_recipe_names_only_what_exists(recipe):
    plan = resolve({}, recipe=recipe, rows=DataShape(10, LABELS))
    assert plan.settings.recipe == recipe.plugin_name()
    assert set(recipe.primary) <= set(recipe.metrics) <= set(plugins.names("metrics"))
    assert set(recipe.baselines) <= set(plugins.names("baselines"))
