"""A signal is heard at once and acted on where nothing can be torn."""

from __future__ import annotations

import os
import signal

import pytest

from cryo_hpo.execution.signals import SIGNALS, Stopped, raise_if_asked, stoppable

each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)


@each_signal
def test_a_signal_waits_for_a_safe_place(number):
    with stoppable():
        raise_if_asked()
        os.kill(os.getpid(), number)
        written = "whole"
        with pytest.raises(Stopped, match=f"stopped by {number.name}"):
            raise_if_asked()
    assert written == "whole"


@each_signal
def test_a_second_signal_waits_for_nothing(number):
    with stoppable():
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped):  # nobody asked whether to stop
            os.kill(os.getpid(), number)


@each_signal
def test_the_clean_up_is_not_broken_by_another_signal(number):
    with stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            raise_if_asked()
        for _ in range(3):
            os.kill(os.getpid(), number)


def test_the_handlers_of_before_are_back_and_nothing_is_remembered():
    before = [signal.getsignal(number) for number in SIGNALS]
    with stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with stoppable():
        raise_if_asked()
