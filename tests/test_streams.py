"""Random streams: no two uses of a seed draw the same numbers."""

import numpy as np
import pytest

from ticketsearch.errors import BadInput
from ticketsearch.random_streams import Stream, seed_sequence


def test_no_two_streams_meet():
    sequences = [
        seed_sequence(seed, stream, *numbers)
        for seed in (0, 1, 2, 5, 2**32, 2**32 + 1)
        for stream in Stream
        for numbers in ((), (0,), (1,), (2,), (0, 0), (1, 0))
    ]
    drawn = {sequence.generate_state(4).tobytes() for sequence in sequences}
    assert len(drawn) == len(sequences)
    for seed in (0, 1, 2):  # and none is what the plain seed gives
        assert np.random.SeedSequence(seed).generate_state(4).tobytes() not in drawn


def test_a_stream_means_the_same_for_ever():
    state = seed_sequence(3, Stream.REPORTING, 1).generate_state(2)
    assert state.tolist() == [62000808, 1799974263]
    assert [int(stream) for stream in Stream] == list(range(10))


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, None, "1"])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(BadInput, match="a seed is an integer"):
        seed_sequence(seed, Stream.ROUND)
