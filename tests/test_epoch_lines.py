"""What is printed of the epochs."""

import re

import numpy as np
import pytest

import nice_tf

LINE = r"Epoch (\d)/3 - \d+\.\d s - log_prob: -\d+\.\d{4} - val_log_prob: -\d+\.\d{4}"


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_a_line_per_epoch_and_a_bar_beside(verbose, capfd):
    x = np.random.default_rng(0).normal(0, 5, [400, 2])
    flow = nice_tf.build_flow([2], hidden_units=(4,))
    history = nice_tf.fit(flow, x, epochs=3, batch_size=100, verbose=verbose)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    if not verbose:
        assert out == ""
    else:
        assert [re.fullmatch(LINE, line)[1] for line in lines] == ["1", "2", "3"]
        assert lines[-1].endswith(f"val_log_prob: {history['val_log_prob'][-1]:.4f}")
    assert ("steps/s" in err) == (verbose == 1), "the bar goes to where it spoils no file"
