"""The paper's losses: the main cross entropy and, for architectures that use them, the auxiliary digit losses."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pairsearch.models.nets import DIGITS, Logits, split_logits


def pair_losses(
    output: Logits,
    target_B: Tensor,
    classes_BI: Tensor,
    aux_loss_weight: Tensor | float | None,
    *,
    digits_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the main loss and the total loss of every pair, both (B,).

    total = main + w · (aux(image 1) + aux(image 2)), where all terms are cross entropies (paper, section 2.3). Their
    means over a batch are the paper's losses, because each term is a mean over the same pairs.

    Args:
        aux_loss_weight: w, or None to leave the auxiliary losses out; the total is then the main loss.
        digits_only: whether the total is aux(image 1) + aux(image 2) alone, for a module with digit logits.
    """
    main_logits_BO, digits_BID = split_logits(output)
    main_B = functional.cross_entropy(main_logits_BO, target_B, reduction="none")
    if digits_BID is None or (aux_loss_weight is None and not digits_only):
        return main_B, main_B
    aux_B2 = functional.cross_entropy(
        digits_BID.reshape(-1, DIGITS), classes_BI.reshape(-1), reduction="none"
    ).reshape(-1, 2)
    aux_B = aux_B2.sum(1)
    return main_B, aux_B if digits_only or aux_loss_weight is None else main_B + aux_loss_weight * aux_B


def wrong_answers(output: Logits, target_B: Tensor) -> Tensor:
    """Count the pairs whose larger main logit is not the target's; a tie answers 0, NaN counts as largest."""
    main_logits_BO, _ = split_logits(output)
    return (main_logits_BO.argmax(-1) != target_B).sum(-1)
