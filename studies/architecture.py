"""Whether a definition can be trained: asks the models, and so needs PyTorch."""

from __future__ import annotations

from pairsearch.models import nets, optim
from pairsearch.studies.definition import Definition
from pairsearch.studies.errors import DefinitionError


def check(definition: Definition) -> None:
    """Check a definition against the registered architectures and optimisers.

    Raises:
        DefinitionError: unknown architecture or optimiser, or a grid with a parameter too many or too few for
            the architecture.
    """
    try:
        architecture = nets.architecture_class(definition.architecture)
        optim.optimiser(definition.optimiser)
    except ValueError as error:
        raise DefinitionError(f"study {definition.name}: {error}") from None
    wanted = {
        "hidden_units": architecture.uses_hidden_units,
        "aux_loss_weight": architecture.uses_aux_loss,
    }
    for parameter, used in wanted.items():
        given = parameter in definition.grid.choices
        if given and not used:
            raise DefinitionError(
                f"study {definition.name}: grid.{parameter}: architecture {definition.architecture!r} has none: "
                "leave it out"
            )
        if used and not given:
            raise DefinitionError(
                f"study {definition.name}: grid.{parameter}: architecture {definition.architecture!r} needs it"
            )


def parameter_count(architecture: str, hidden_units: int | None) -> int:
    """Trainable parameters of an architecture."""
    return sum(parameter.numel() for parameter in nets.build(architecture, hidden_units).parameters())
