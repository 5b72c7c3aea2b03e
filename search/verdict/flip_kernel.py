"""The sign-flip test of `search.verdict.sign_flips` for thousands of configurations, compiled: the same p-values.

For all sign flips of n folds, the flips under which a pair of configurations reaches a threshold need no search. Of
the differences d, the flip that makes all of them positive gives the largest statistic, Σ|d| / √(n Σd²), and any other
loses twice the |d| that it makes negative. So a pair whose largest statistic lies below the threshold is passed over
after two sums, and of another the few flips that reach it are enumerated. The sums are taken in single precision, which
passes over less than it might; whatever is left is computed in double precision.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pairsearch.jit.compiling import compiled, compiled_and_cached

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Stack = tuple[Integers, Integers, FloatArray]

BLOCK = 512
"""Configurations whose sums are taken together: they stay in the processor's first cache."""
LARGE = 1e15
"""Single precision holds the squares of such differences."""
PROBE, PAIR, SORT, NODE = 82, 20, 120, 11
"""About what it takes to look for one flip in a block, to look at a pair, to sort its differences, and to enumerate a
flip, in nanoseconds as measured. They decide which way is taken, never what is found."""


class Tester:
    """The test of the configurations of one study; memory for two copies of their values.

    Args:
        values_CK: (configurations, folds), finite.
        same: statistics that lie closer than this count as equal.
    """

    def __init__(self, values_CK: FloatArray, same: float) -> None:
        # Effects of folds do not matter, and without them single precision goes further. Neither does the scale, and
        # squares must not be too large for it.
        self._own_CK = np.ascontiguousarray(values_CK - values_CK[0])
        largest = float(np.abs(self._own_CK).max())
        if largest > LARGE:
            self._own_CK *= 2.0 ** -math.ceil(math.log2(largest / LARGE))
        # In no order, so that any block reaches flips of every kind, and few are left to look for in the others.
        self._others_CK = np.random.default_rng(0).permutation(self._own_CK)
        # The last block is filled up with copies of one of them, which change no maximum.
        count, folds = values_CK.shape
        blocks = -(-count // BLOCK)
        padded = np.zeros((blocks * BLOCK, folds), np.float32)
        padded[:count] = self._others_CK
        self._blocks_NKB = np.ascontiguousarray(padded.reshape(blocks, BLOCK, -1).transpose(0, 2, 1))
        self._largest_N = np.abs(self._blocks_NKB).max(axis=(1, 2))
        # The sums of all values under half of the flips; the other half has the negatives.
        signs_FK = 1.0 - 2.0 * ((np.arange(2 ** (folds - 1))[:, None] >> np.arange(folds)) & 1)
        self._totals_NFB = np.empty((blocks, len(signs_FK), BLOCK), np.float32)
        for block_KB, totals_FB in zip(self._blocks_NKB, self._totals_NFB, strict=True):
            totals_FB[:] = signs_FK @ block_KB
        self._same = same

    def p_values(self, first: int, last: int) -> FloatArray:
        """Of the configurations from `first` to before `last`."""
        return _p_values(
            self._own_CK[first:last],
            self._others_CK,
            self._blocks_NKB,
            self._totals_NFB,
            self._largest_N,
            self._same,
        )


@compiled
def _add_up(block_KB: SingleArray, own_K: SingleArray, squares_B: SingleArray, sums_B: SingleArray) -> None:
    """Σd² and Σd of one configuration's differences from those of a block."""
    for place in range(BLOCK):
        squares_B[place] = np.float32(0.0)
        sums_B[place] = np.float32(0.0)
    for fold in range(block_KB.shape[0]):
        own, row = own_K[fold], block_KB[fold]
        for place in range(BLOCK):
            difference = own - row[place]
            squares_B[place] += difference * difference
            sums_B[place] += difference


@compiled
def _most(
    block_KB: SingleArray,
    own_K: SingleArray,
    lower: bool,
    squares_B: SingleArray,
    most_B: SingleArray,
    sums_B: SingleArray,
    smallest_B: SingleArray,
) -> None:
    """Σd², and the most that differences add up to under a flip that is not reached yet.

    That is Σ|d|. But most pairs of which one has much the lower mean reach no flip but the one without any, and that is
    reached; the next has the sign of the smallest difference changed.

    Args:
        lower: whether the flip of all folds is reached too.
        most_B: becomes the sums.
        sums_B, smallest_B: room for Σd and the smallest |d|.
    """
    for place in range(BLOCK):
        squares_B[place] = np.float32(0.0)
        most_B[place] = np.float32(0.0)
        sums_B[place] = np.float32(0.0)
        smallest_B[place] = np.float32(np.inf)
    for fold in range(block_KB.shape[0]):
        own, row = own_K[fold], block_KB[fold]
        for place in range(BLOCK):
            difference = own - row[place]
            size = abs(difference)
            squares_B[place] += difference * difference
            most_B[place] += size
            sums_B[place] += difference
            smallest_B[place] = size if size < smallest_B[place] else smallest_B[place]
    sign = np.float32(-1.0 if lower else 0.0)
    nearly = np.float32(1.0 - 1e-5)
    for place in range(BLOCK):
        # A difference of another sign that is too small to be seen here is the smallest, and hardly changes the sum.
        one_sign = max(sums_B[place], sign * sums_B[place]) >= nearly * most_B[place]
        most_B[place] -= np.float32(2.0) * smallest_B[place] if one_sign else np.float32(0.0)


@compiled
def _any_reaches(totals_B: SingleArray, own: np.float32, sign: np.float32, needed_B: SingleArray) -> bool:
    """Whether, under a flip with these totals, some differences of a block add up to what is needed."""
    found = 0
    for place in range(BLOCK):
        found += sign * (own - totals_B[place]) >= needed_B[place]
    return found > 0


@compiled
def _reaches(own_K: FloatArray, other_K: FloatArray, mask: int, least: float) -> bool:
    """Whether the statistic of one pair under one flip is at least `least`."""
    square, total = 0.0, 0.0
    for fold in range(len(own_K)):
        difference = own_K[fold] - other_K[fold]
        square += difference * difference
        total += -difference if (mask >> fold) & 1 else difference
    return square > 0.0 and total >= least * np.sqrt(len(own_K) * square)


@compiled
def _enumerate(
    sizes: FloatArray,
    bits: Integers,
    mask: int,
    allowance: float,
    reached_F: Flags,
    stack: Stack,
) -> tuple[int, int]:
    """Mark the flips that lose at most `allowance` against that of `mask`; how many there are, and how many are new.

    Args:
        sizes: |d| by fold; sorted here.
        bits: room for the bits of the folds.
        stack: what is left to enumerate: the next fold, the flip so far, and what it may still lose.
    """
    folds = len(sizes)
    for fold in range(folds):
        size, at = sizes[fold], fold
        while at > 0 and sizes[at - 1] > size:
            sizes[at], bits[at] = sizes[at - 1], bits[at - 1]
            at -= 1
        sizes[at], bits[at] = size, 1 << fold
    nexts, masks, allowances = stack
    nexts[0], masks[0], allowances[0] = 0, mask, allowance
    depth, nodes, new = 1, 0, 0
    while depth > 0:
        depth -= 1
        # What is put on the stack may take this place.
        start, mask, allowance = nexts[depth], masks[depth], allowances[depth]
        for fold in range(start, folds):
            if sizes[fold] > allowance:
                break
            flipped = mask ^ bits[fold]
            nodes += 1
            if not reached_F[flipped]:
                reached_F[flipped] = True
                new += 1
            nexts[depth], masks[depth], allowances[depth] = fold + 1, flipped, allowance - sizes[fold]
            depth += 1
    return nodes, new


@compiled
def _observed(
    mine_K: FloatArray,
    own_K: SingleArray,
    others_CK: FloatArray,
    blocks_NKB: SingleArray,
    slack_N: SingleArray,
    squares_B: SingleArray,
    sums_B: SingleArray,
) -> float:
    """The observed statistic of a configuration with values `mine_K`, in single precision `own_K`."""
    count, folds = others_CK.shape
    highest = 0.0  # squared, and times the folds
    for number in range(len(blocks_NKB)):
        _add_up(blocks_NKB[number], own_K, squares_B, sums_B)
        slack, least_square = slack_N[number], np.float32(highest * (1.0 - 1e-5))
        for place in range(min(BLOCK, count - number * BLOCK)):
            bound = sums_B[place] + slack
            if bound < 0.0 or bound * bound < least_square * squares_B[place]:
                continue
            square, total = 0.0, 0.0
            for fold in range(folds):
                difference = mine_K[fold] - others_CK[number * BLOCK + place, fold]
                square += difference * difference
                total += difference
            if total > 0.0 and total * total > highest * square:
                highest = total * total / square
    return float(np.sqrt(highest / folds))


@compiled
def _probe(
    mine_K: FloatArray,
    others_BK: FloatArray,
    totals_FB: SingleArray,
    needed_B: SingleArray,
    least: float,
    reached_F: Flags,
) -> int:
    """Look in a block for each flip that is not reached yet; returns how many now are."""
    flips, new = len(reached_F), 0
    for mask in range(flips):
        if reached_F[mask]:
            continue
        half = min(mask, flips - 1 - mask)
        sign, total = np.float32(1.0 if half == mask else -1.0), 0.0
        for fold in range(len(mine_K)):
            total += -mine_K[fold] if (half >> fold) & 1 else mine_K[fold]
        own, totals_B = np.float32(total), totals_FB[half]
        if not _any_reaches(totals_B, own, sign, needed_B):
            continue
        for place in range(len(others_BK)):
            if sign * (own - totals_B[place]) >= needed_B[place] and _reaches(
                mine_K, others_BK[place], mask, least
            ):
                reached_F[mask] = True
                new += 1
                break
    return new


@compiled
def _search(
    mine_K: FloatArray,
    others_BK: FloatArray,
    most_B: SingleArray,
    needed_B: SingleArray,
    least: float,
    reached_F: Flags,
    stack: Stack,
) -> tuple[int, float]:
    """Mark the flips that pairs with a block reach; how many are new, and about how long it took."""
    folds = len(mine_K)
    sizes, bits = np.empty(folds), np.empty(folds, np.int64)
    new, work = 0, 0.0
    for place in range(len(others_BK)):
        if most_B[place] < needed_B[place]:
            continue
        square, total, mask = 0.0, 0.0, 0
        smallest, least_size, second = 0, np.inf, np.inf
        for fold in range(folds):
            difference = mine_K[fold] - others_BK[place, fold]
            mask |= int(difference < 0.0) << fold
            size = abs(difference)
            sizes[fold] = size
            square += size * size
            total += size
            if size < least_size:
                smallest, least_size, second = fold, size, least_size
            elif size < second:
                second = size
        allowance = 0.5 * (total - least * np.sqrt(folds * square))
        work += PAIR
        if square == 0.0 or allowance < 0.0:
            continue
        new += not reached_F[mask]
        reached_F[mask] = True
        if least_size > allowance:
            continue
        if second > allowance:  # That one alone.
            mask ^= 1 << smallest
            new += not reached_F[mask]
            reached_F[mask] = True
            continue
        nodes, found = _enumerate(sizes, bits, mask, allowance, reached_F, stack)
        new += found
        work += SORT + NODE * nodes
    return new, work


@compiled_and_cached
def _p_values(
    mine_RK: FloatArray,
    others_CK: FloatArray,
    blocks_NKB: SingleArray,
    totals_NFB: SingleArray,
    largest_N: SingleArray,
    same: float,
) -> FloatArray:
    folds = others_CK.shape[1]
    flips = 1 << folds
    # A pass over the blocks for a few configurations together, for which a block then is in the cache.
    rows = len(mine_RK)
    least_R, found_R, work_R = np.empty(rows), np.zeros(rows, np.int64), np.zeros(rows)
    reached_RF = np.zeros((rows, flips), np.bool_)
    own_RK = mine_RK.astype(np.float32)
    # What rounding to single precision can change in a sum of differences, and more.
    slack_RN = np.empty((rows, len(blocks_NKB)), np.float32)
    squares_B, sums_B = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    most_B, smallest_B = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    needed_B = np.empty(BLOCK, np.float32)
    stack = (np.empty(flips + folds, np.int64), np.empty(flips + folds, np.int64), np.empty(flips + folds))
    for row in range(rows):
        slack_RN[row] = 4.0 * folds * 2.0**-24 * (np.abs(own_RK[row]).max() + largest_N)
        observed = _observed(
            mine_RK[row], own_RK[row], others_CK, blocks_NKB, slack_RN[row], squares_B, sums_B
        )
        least_R[row] = observed - same
        if least_R[row] <= 0.0:  # Against itself it has 0, under every flip.
            found_R[row] = flips
        else:
            found_R[row], reached_RF[row, 0] = 1, True  # as observed
    for number in range(len(blocks_NKB)):
        others_BK = others_CK[number * BLOCK : (number + 1) * BLOCK]
        for row in range(rows):
            if found_R[row] == flips:
                continue
            least, slack = least_R[row], slack_RN[row, number]
            _most(
                blocks_NKB[number],
                own_RK[row],
                reached_RF[row, flips - 1],
                squares_B,
                most_B,
                sums_B,
                smallest_B,
            )
            factor = np.float32(least * np.sqrt(folds) * (1.0 - 2e-5))
            for place in range(BLOCK):
                needed_B[place] = factor * np.sqrt(squares_B[place]) - slack
            # Where the last block reached many flips, most of them again, the few that are left are looked for.
            if work_R[row] > (flips - found_R[row]) * PROBE:
                found_R[row] += _probe(
                    mine_RK[row], others_BK, totals_NFB[number], needed_B, least, reached_RF[row]
                )
            else:
                new, work_R[row] = _search(
                    mine_RK[row], others_BK, most_B, needed_B, least, reached_RF[row], stack
                )
                found_R[row] += new
    p_R: FloatArray = found_R / flips
    return p_R
