"""Which of several candidates is fastest, decided from rates measured in turns. Knows nothing of what is measured."""

from collections.abc import Callable, Sequence
from math import comb
from typing import Any, Generic, TypeVar

import numpy as np

Candidate = TypeVar("Candidate")

ROUNDS_TO_STOP = 4  # before a candidate may be stopped: some bad rounds are a neighbour's
ROUNDS_TO_SETTLE = 9  # before a tie is called one
LEAST_MARGIN = 0.02  # a smaller difference is none, however quiet the machine
CHANCE = 0.05  # that a difference is none, at most, where one is found


class Race(Generic[Candidate]):
    """Candidates that run in rounds, each once in each round, so that whatever else the machine does meets all.

    A candidate whose best round is clearly worse than the leader's median is stopped. Those that cannot be told
    from the leader at the end have tied, and the simplest of them wins: the first by ``simplicity``.
    Who is not ``eligible`` runs along for comparison, and can neither lead nor win.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        simplicity: Callable[[Candidate], Any],
        eligible: Callable[[Candidate], bool] = lambda candidate: True,
    ) -> None:
        self.rates: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
        self.stopped: dict[Candidate, str] = {}
        self._simplicity = simplicity
        self._eligible = eligible
        self._draw = np.random.default_rng(0)

    def round(self) -> list[Candidate]:
        """Those that still run, in an order of its own each time."""
        running = self.running
        return [running[place] for place in self._draw.permutation(len(running))]

    @property
    def running(self) -> list[Candidate]:
        return [candidate for candidate in self.rates if candidate not in self.stopped]

    def add(self, candidate: Candidate, rate: float) -> None:
        self.rates[candidate].append(rate)

    def stop(self, candidate: Candidate, reason: str) -> None:
        self.stopped[candidate] = reason

    def median(self, candidate: Candidate) -> float:
        """0 where nothing was measured."""
        rates = self.rates[candidate]
        return float(np.median(rates)) if rates else 0.0

    @property
    def contenders(self) -> list[Candidate]:
        """Those that run and may win."""
        return [candidate for candidate in self.running if self._eligible(candidate)]

    @property
    def leader(self) -> Candidate:
        """The contender with the highest median."""
        return max(self.contenders, key=self.median)

    @property
    def noise(self) -> float:
        """How much a round of a candidate differs from its median, relative to it: the usual candidate's
        interquartile range as a standard deviation.
        """
        spreads = []
        for candidate in self.running:
            if len(self.rates[candidate]) >= ROUNDS_TO_STOP:
                low, middle, high = np.percentile(self.rates[candidate], (25, 50, 75))
                spreads.append(float((high - low) / 1.35 / middle))
        return float(np.median(spreads)) if spreads else 0.0

    def stop_worse(self) -> None:
        """Stop whose best round is below the leader's median by more than the noise of a round."""
        leader = self.leader
        if len(self.rates[leader]) < ROUNDS_TO_STOP:
            return
        limit = self.median(leader) * (1 - max(LEAST_MARGIN, self.noise))
        for candidate in self.running:
            rates = self.rates[candidate]
            if candidate != leader and len(rates) >= ROUNDS_TO_STOP and max(rates) < limit:
                share = max(rates) / self.median(leader)
                self.stop(
                    candidate,
                    f"its best of {len(rates)} rounds is {share:.2f} of the leader's median",
                )

    @property
    def ties(self) -> list[Candidate]:
        """The leader, and the contenders that it does not beat beyond chance; the simplest first."""
        tied = [candidate for candidate in self.contenders if not self._beaten(candidate)]
        return sorted(tied, key=self._simplicity)

    def _beaten(self, candidate: Candidate) -> bool:
        """Whether the leader is faster by more than a trifle, and was so in more of the rounds than a coin
        would give it (sign test, by pairs of the same round).
        """
        leader = self.leader
        if self.median(candidate) >= self.median(leader) * (1 - LEAST_MARGIN):
            return False
        pairs = list(zip(self.rates[leader], self.rates[candidate], strict=False))
        won = sum(ours > theirs for ours, theirs in pairs)
        tail = sum(comb(len(pairs), more) for more in range(won, len(pairs) + 1))
        return tail <= CHANCE * (1 << len(pairs))

    @property
    def settled(self) -> bool:
        """Whether more rounds would change nothing: all contenders have tied, over enough rounds."""
        enough = all(len(self.rates[each]) >= ROUNDS_TO_SETTLE for each in self.running)
        return enough and len(self.ties) == len(self.contenders)

    @property
    def winner(self) -> Candidate:
        return self.ties[0]
