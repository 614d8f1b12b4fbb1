from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cryo_hpo.config import Prior, Search
from cryo_hpo.search.halton import prior_quantile, stratum
from cryo_hpo.search.replay import replayed
from cryo_hpo.search.sampler import SAMPLERS, Memory, num_strata, propose
from cryo_hpo.search.trials import Record

slow_machine = settings(deadline=None, max_examples=30)


def _lr(trial):
    return {"optim.lr": trial.suggest_float("optim.lr", 1e-6, 1e-2, log=True)}


def _wide(trial):
    params = {
        **_lr(trial),
        "batch_size": trial.suggest_categorical("batch_size", (4, 8, 16)),
        "optim.warmup_epochs": trial.suggest_int("optim.warmup_epochs", 0, 5),
    }
    if params["batch_size"] == 16:
        params["optim.layer_decay"] = trial.suggest_float("optim.layer_decay", 0.5, 1.0)
    return params


def _proposed_lr(records, **ask) -> float:
    return float(propose(_lr, records, **ask)["optim.lr"])


def _search(trials=12, *, sampler="tpe", seed=0, **more) -> Search:
    lr = {"kind": "float", "low": 1e-6, "high": 1e-2, "log": True}
    raw = {
        "space": {"params": {"optim.lr": lr}},
        "trials": trials,
        "sampler": sampler,
        "seed": seed,
    }
    return Search.model_validate_json(json.dumps({**raw, **more}))


def _done(number, lr, score):
    return _record(number, lr, "complete", {9: score})


def _record(number, lr, state, curve):
    drawn = {"optim.lr": lr}
    return Record(number=number, params=drawn, drawn=drawn, state=state, curve=curve)


@given(st.integers(0, 1000), st.integers(1, 32), st.sampled_from([2, 4, 8, 16]))
@slow_machine
def test_every_beginning_of_the_strata_covers_the_range_evenly(seed, num, parts):
    lrs = [float(stratum(_lr, seed=seed, index=i)["optim.lr"]) for i in range(num)]
    where = [min(int((math.log10(lr) + 6) / 4 * parts), parts - 1) for lr in lrs]
    counts = [where.count(part) for part in range(parts)]
    assert max(counts) - min(counts) <= 1


@given(st.integers(0, 1000))
@slow_machine
def test_two_parameters_cover_their_plane(seed):
    def plane(trial):
        return {name: trial.suggest_float(name, 0, 1) for name in ("a", "b")}

    points = [stratum(plane, seed=seed, index=i) for i in range(24)]
    cells = {(int(float(p["a"]) * 2), int(float(p["b"]) * 3)) for p in points}
    assert len(cells) == 6


@given(st.integers(0, 1000), st.integers(0, 7))
@slow_machine
def test_strata_follow_the_conditions_of_a_space(seed, index):
    params = stratum(_wide, seed=seed, index=index)
    assert params["batch_size"] in (4, 8, 16)
    assert 0 <= int(params["optim.warmup_epochs"]) <= 5
    assert ("optim.layer_decay" in params) == (params["batch_size"] == 16)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_depends_on_what_is_recorded_alone(sampler):
    records = [_done(i, 10 ** (-6 + i / 2), 0.5 + 0.05 * i) for i in range(7)]
    asked = [
        propose(_lr, list(records), search=_search(sampler=sampler, seed=3), number=7)
        for _ in range(2)
    ]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_a_search_remembers_changes_no_proposal(sampler):
    """Trials begin, wait at a rung, go on, end, fail and diverge between two proposals."""
    memory: Memory = {}
    search = _search(sampler=sampler, seed=3)
    lrs = [10 ** (-6 + i / 2) for i in range(7)]
    before = [_record(i, lr, "running", {1: 0.1 * i} if i % 2 else {}) for i, lr in enumerate(lrs)]
    after = [
        _done(i, lr, 0.1 * i) if i < 3 else _record(i, lr, "running", {1: 0.1, 3: 0.2})
        for i, lr in enumerate(lrs)
    ]
    after[5:] = [_record(5, lrs[5], "failed", {}), _record(6, lrs[6], "diverged", {1: 0.3})]
    for records in (before, after):
        fresh = propose(_lr, records, search=search, number=7)
        assert propose(_lr, records, search=search, number=7, memory=memory) == fresh
        assert propose(_lr, records, search=search, number=7, memory=memory) == fresh


def test_a_proposal_asks_the_space_about_new_and_changed_trials_alone():
    """Else each costs as much as all trials before it, and a search the square of its trials."""
    asked: list[object] = []
    memory: Memory = {}

    def counted(trial):
        asked.append(trial)
        return _lr(trial)

    records = [_done(i, 10 ** (-6 + i / 10), 0.5) for i in range(40)]
    propose(counted, records, search=_search(), number=40, memory=memory)
    asked.clear()
    changed = [_done(0, 1e-6, 0.5), *records[1:], _record(40, 1e-3, "running", {1: 0.4})]
    propose(counted, changed, search=_search(), number=41, memory=memory)
    assert len(asked) == 2, "one to learn of the new trial, one to draw"


def test_the_sampler_goes_where_scores_are_high():
    def score(lr):
        return 0.9 - 0.2 * abs(math.log10(lr) + 3)

    lrs = [10 ** (-6 + 4 * i / 9) for i in range(10)]
    records = [_done(i, lr, score(lr)) for i, lr in enumerate(lrs)]
    asked = [_proposed_lr(records, search=_search(12, seed=s), number=10) for s in range(8)]
    near = sum(abs(math.log10(lr) + 3) < 1 for lr in asked)
    assert near >= 6, asked


def test_a_waiting_leader_is_not_taken_for_a_bad_trial():
    high = _record(1, 1e-3, "running", {1: 0.9})
    low = [_record(2 + i, 10 ** (-6 + i / 4), "pruned", {1: 0.3}) for i in range(6)]
    asked = [_proposed_lr([high, *low], search=_search(10, seed=s), number=9) for s in range(8)]
    assert sum(lr > 1e-4 for lr in asked) >= 6, asked


def test_failed_trials_and_the_baseline_outside_the_space_are_left_out():
    records = [
        Record(number=0, params={}, state="complete", curve={9: 0.5}),
        _record(1, 5.0, "complete", {9: 0.5}),
        _record(2, 1e-3, "failed", {}),
    ]
    lr = _proposed_lr(records, search=_search(12, seed=0), number=9)
    assert 1e-6 <= lr <= 1e-2


@given(st.integers(1, 200))
def test_half_of_the_trials_spread_out_first(trials):
    assert 1 <= num_strata(trials) <= trials


def test_a_function_may_compute_recipe_paths_from_what_it_draws():
    def scaled(trial):
        rel = trial.suggest_float("rel", 0.01, 10, log=True)
        return {"optim.lr": 1e-4 * rel}

    drawn = propose(scaled, [], search=_search(12, seed=0), number=1)
    replay = replayed(scaled, drawn)
    assert replay is not None
    assert replay.params == {"optim.lr": 1e-4 * float(drawn["rel"])}
    records = [
        Record(
            number=i,
            params={"optim.lr": 1e-4 * rel},
            drawn={"rel": rel},
            state="complete",
            curve={9: 0.9 - abs(i - 8) / 20},
        )
        for i, rel in enumerate([10 ** (-2 + 0.3 * i) for i in range(10)])
    ]
    asked = [
        float(propose(scaled, records, search=_search(12, seed=s), number=10)["rel"])
        for s in range(8)
    ]
    assert sum(rel > 0.5 for rel in asked) >= 6, asked


beliefs = st.builds(
    Prior,
    center=st.floats(1e-6, 1e-2),
    spread=st.floats(1.1, 100),
    weight=st.floats(0, 0.9),
)


@given(beliefs, st.booleans())
@slow_machine
def test_a_belief_bends_the_range_without_leaving_it(belief, log):
    shares = [i / 64 for i in range(65)]
    places = [prior_quantile(share, belief, 1e-6, 1e-2, log=log) for share in shares]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1
    # a part of the range is hit with at least its share of what the belief leaves
    for part in range(8):
        inside = sum(part / 8 <= place <= (part + 1) / 8 for place in places) / len(places)
        assert inside >= (1 - belief.weight) / 8 - 2 / 65


@given(beliefs, st.floats(0.001, 0.999))
@slow_machine
def test_a_quantile_is_where_the_mixture_of_prior_and_uniform_has_it(belief, share):
    low, high = math.log(1e-6), math.log(1e-2)
    center = math.log(min(max(belief.center, 1e-6), 1e-2))
    sigma = max(math.log(belief.spread), 1e-3 * (high - low))
    normal = stats.truncnorm((low - center) / sigma, (high - center) / sigma, center, sigma)
    place = prior_quantile(share, belief, 1e-6, 1e-2, log=True)
    mixture = (1 - belief.weight) * place + belief.weight * normal.cdf(low + place * (high - low))
    assert mixture == pytest.approx(share, abs=1e-9)


@given(beliefs)
@slow_machine
def test_a_belief_of_no_weight_changes_nothing(belief):
    none = belief.model_copy(update={"weight": 0.0})
    for share in (0.0, 0.2, 0.7):
        assert prior_quantile(share, none, 1e-6, 1e-2, log=True) == pytest.approx(share, abs=1e-12)


@given(st.integers(0, 1000), st.sampled_from([1e-5, 3e-4, 1e-2]))
@slow_machine
def test_half_of_the_strata_lie_around_the_center_and_half_everywhere(seed, center):
    prior = {"optim.lr": Prior(center=center, spread=1.5)}
    lrs = [float(stratum(_lr, seed=seed, index=i, prior=prior)["optim.lr"]) for i in range(16)]
    near = sum(abs(math.log10(lr / center)) < 2.5 * math.log10(1.5) for lr in lrs)
    assert 8 <= near <= 12
    assert min(lrs) <= 10**-5.5 or center == 1e-5
    assert max(lrs) >= 10**-2.5


def test_a_whole_number_may_be_believed_in():
    def epochs(trial):
        return {"optim.warmup_epochs": trial.suggest_int("optim.warmup_epochs", 0, 100)}

    prior = {"optim.warmup_epochs": Prior(center=80, spread=2, weight=0.9)}
    drawn = [
        int(stratum(epochs, seed=0, index=i, prior=prior)["optim.warmup_epochs"]) for i in range(10)
    ]
    assert sum(74 <= value <= 86 for value in drawn) >= 8


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_the_whole_sequence_again_and_another_gives_another(sampler):
    def sequence(seed):
        search, lrs = _search(8, sampler=sampler, seed=seed), []
        records: list[Record] = []
        for number in range(1, 8):
            lr = float(propose(_lr, records, search=search, number=number)["optim.lr"])
            lrs.append(lr)
            records.append(_done(number, lr, 0.9 - 0.2 * abs(math.log10(lr) + 3)))
        return lrs

    assert sequence(1) == sequence(1)
    assert not set(sequence(1)) & set(sequence(2))
