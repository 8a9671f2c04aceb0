"""The conformance suite passes what works, and each of its tests fails for an optimizer with the matching fault."""

import inspect

import broken_optimizers as broken
import overclaiming_optimizers as overclaiming
import pytest

from evoprompt.testing import Capabilities, OptimizerConformance


class Wrapped(OptimizerConformance):
    """A case for one of the wrapped optimizers."""

    optimizer = broken.Faithful

    def make(self, *, bounds, budget, seed, popsize, dtype, **options):
        return self.optimizer(bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype, **options)


class TestFaithful(Wrapped):
    """The wrapper itself has no fault."""


FAULTS = [
    ("it_is_an_optimizer", broken.HandsOutArrays),
    ("equal_seeds_give_equal_runs_and_other_seeds_others", broken.IgnoresItsSeed),
    ("numpys_global_random_state_is_neither_read_nor_moved", broken.UsesTheGlobalGenerator),
    ("trials_stay_in_the_box", broken.LeavesTheBox),
    ("a_coordinate_without_room_keeps_its_value", broken.MovesFixedCoordinates),
    ("trials_have_the_dtype_asked_for", broken.AlwaysDouble),
    ("the_budget_is_spent_and_then_nothing_is_handed_out", broken.ForgetsItsBudget),
    ("the_budget_is_spent_and_then_nothing_is_handed_out", broken.StopsShort),
    ("the_budget_is_spent_and_then_nothing_is_handed_out", broken.CountsNoStages),
    ("asks_of_any_size_never_exceed_the_budget", broken.GivesWhatIsAskedFor),
    ("a_number_of_trials_that_is_none_is_refused", broken.TakesAnyNumber),
    ("given_points_come_first", broken.IgnoresGivenPoints),
    ("a_target_stops", broken.IgnoresItsTarget),
    ("it_beats_random_search_on_the_sphere", broken.NeverLearns),
    ("neither_the_order_of_tells_nor_the_size_of_asks_changes_a_generation", broken.LearnsInTheOrderTold),
    ("results_in_any_order_all_count", broken.BestIsTheLatest),
    ("points_never_asked_count_and_can_be_best", broken.DropsGuests),
    ("a_plain_array_of_asked_points_is_recognised", broken.TakesArraysForGuests),
    ("telling_twice_is_refused_and_changes_nothing", broken.CountsTwice),
    ("losses_and_points_of_the_wrong_shape_are_refused_and_change_nothing", broken.PadsLosses),
    ("results_may_come_when_everything_has_been_handed_out", broken.ForgetsOlderAsks),
    ("what_the_caller_does_to_its_arrays_does_not_reach_the_optimizer", broken.LooksAtLossesLater),
    ("the_population_holds_told_points_with_their_losses", broken.MixesUpItsPopulation),
    ("nan_is_counted_and_never_best", broken.NanWins),
    ("minus_infinity_is_counted_and_never_best", broken.NanWins),
    ("plus_infinity_is_counted_and_never_best", broken.CountsInfinityAsSuccess),
    ("a_first_population_without_one_finite_loss_is_named_and_can_go_on", broken.NeverNamesFailure),
    ("nothing_finite_ever_is_no_exception", broken.GivesUp),
    ("a_constant_objective_does_no_harm", broken.DividesByTheSpread),
    ("ties_do_no_harm", broken.LastOfEqualsWins),
    ("huge_losses_do_no_harm", broken.SquaresLosses),
    ("a_third_of_failures_costs_no_more_than_the_evaluations_it_wastes", broken.NanIsNeverReplaced),
    ("a_state_saved_at_any_moment_continues_identically", broken.SavesNoGenerator),
    ("a_state_continues_identically_in_another_process", broken.HashesStrings),
    ("a_snapshot_does_not_change_when_the_optimizer_goes_on", broken.SavesLiveArrays),
    ("a_state_of_other_settings_is_refused_by_name", broken.TakesAnyState),
    ("a_population_size_is_kept_or_refused", overclaiming.ChoosesItsPopulation),
    ("infinite_bounds_are_searched_or_refused", overclaiming.TakesNoBoundForZero),
    ("a_single_coordinate_is_searched_or_refused", overclaiming.NeedsTwoCoordinates),
    ("whole_number_coordinates_are_whole_or_refused", overclaiming.IgnoresIntegrality),
    ("constraints_come_before_losses_or_are_refused", overclaiming.IgnoresViolations),
    ("noise_is_handled_or_refused", overclaiming.IgnoresNoise),
    ("a_deadline_stops_or_is_refused", overclaiming.IgnoresItsDeadline),
    ("a_deadline_stops_or_is_refused", overclaiming.CountsTimeFromItsStart),
    ("a_steady_state_has_no_barrier_or_is_refused", overclaiming.HasABarrier),
    ("a_warm_start_is_free_or_refused", overclaiming.CountsItsWarmStart),
    ("asking_ahead_of_the_results_gives_trials_or_none", overclaiming.HasABarrier),
    ("guests_steer_the_search_or_leave_it_alone", overclaiming.Unimpressed),
    ("a_guest_outside_the_box_is_refused", overclaiming.ClipsGuests),
]
CASES = {f"Case{optimizer.__name__}": optimizer for _, optimizer in FAULTS}
for _title, _optimizer in CASES.items():
    globals()[_title] = type(_title, (Wrapped,), {"optimizer": _optimizer, "__module__": __name__})


@pytest.mark.parametrize(("test", "optimizer"), FAULTS, ids=[f"{o.__name__}-{t}" for t, o in FAULTS])
def test_a_fault_is_caught(test, optimizer):
    case = globals()[f"Case{optimizer.__name__}"]()
    case.shrinks = False
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError, RuntimeError)):
        getattr(case, f"test_{test}")()


def test_there_is_a_fault_for_every_test_of_the_kit():
    tests = {name.removeprefix("test_") for name, _ in inspect.getmembers(OptimizerConformance) if name[:5] == "test_"}
    assert tests == {test for test, _ in FAULTS}


@pytest.mark.parametrize(
    ("optimizer", "capability", "test"),
    [
        (overclaiming.IgnoresNoise, "noise", "noise_is_handled_or_refused"),
        (overclaiming.RefusesAtLength, "noise", "noise_is_handled_or_refused"),
        (overclaiming.IgnoresIntegrality, "integrality", "whole_number_coordinates_are_whole_or_refused"),
        (overclaiming.IgnoresViolations, "constraints", "constraints_come_before_losses_or_are_refused"),
        (overclaiming.IgnoresItsDeadline, "seconds", "a_deadline_stops_or_is_refused"),
        (overclaiming.ChoosesItsPopulation, "popsize", "a_population_size_is_kept_or_refused"),
    ],
)
def test_what_is_not_supported_must_be_refused_in_one_line_and_not_ignored(optimizer, capability, test):
    case = type("Case", (Wrapped,), {"optimizer": optimizer, "capabilities": Capabilities(**{capability: False})})()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(case, f"test_{test}")()


def test_a_make_without_further_options_refuses_what_its_flags_say():
    class Bare(OptimizerConformance):
        accepts_x0 = accepts_target = False
        capabilities = Capabilities(noise=False, seconds=False, integrality=False, steady_state=False)

        def make(self, *, bounds, budget, seed, popsize, dtype):
            return broken.Faithful(bounds, budget=budget, seed=seed, popsize=popsize, dtype=dtype)

    case = Bare()
    case.test_noise_is_handled_or_refused()
    case.test_a_deadline_stops_or_is_refused()
    case.test_whole_number_coordinates_are_whole_or_refused()
    case.test_a_steady_state_has_no_barrier_or_is_refused()
    case.test_given_points_come_first()
    case.test_a_target_stops()
