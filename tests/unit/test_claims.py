"""Verdicts follow the data: each claim is shown data that support it and data that do not."""

import math

import pytest

from progloc.paper import claims
from progloc.paper.claims import answers, claim
from progloc.paper.suite import load_suite
from progloc.paper.verdicts import Finding
from synthetic_suite import make_suite

UNKNOWN = "cannot tell from this run"


def verdicts(folder, **options):
    return {answer.id: answer for answer in answers(load_suite(make_suite(folder, layers=12, **options)))}


def scale(name, factor, key="perplexity", part="final"):
    def change(run):
        if run["name"] == name:
            run[part][key] *= factor

    return change


def reverse_perplexity(run):
    if run["beta"]:
        run["final"]["perplexity"] = 100 + 10 * run["beta"] + 0.1 * run["seed"]


def reverse_gradient(run):
    if run["beta"]:
        run["training"]["gradient_norm_mean"] = 1 + 0.1 * run["beta"]


def reverse_locality(run):
    run["final"]["fidelity_no_sink"] = 1 - run["final"]["fidelity_no_sink"]


def last_layer_unmoved(run):
    if run["name"] == "quintic":
        run["final"]["layers"][-1]["fidelity_no_sink"] = 0.3


def early_layer_moved(run):
    if run["name"] == "quintic":
        run["final"]["layers"][1]["fidelity_no_sink"] += 0.2


def early_entropy_moved(run):
    if run["name"] == "quintic":
        run["final"]["layers"][1]["entropy_bits_no_sink"] += 1


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return verdicts(tmp_path_factory.mktemp("suite"))


@pytest.mark.parametrize("name", ["C1", "C2", "C3", "C4", "C5", "C6"])
def test_what_the_data_say_is_supported(untouched, name):
    assert untouched[name].verdict == "supported"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("C1", reverse_perplexity),
        ("C2", scale("quintic", 1.3)),
        ("C3", reverse_locality),
        ("C4", last_layer_unmoved),
        ("C4", early_layer_moved),
        ("C4", early_entropy_moved),
        ("C5", scale("cubic", 5.0)),
        ("C6", reverse_gradient),
        ("C6", scale("linear", 100.0, "gradient_norm_max", "training")),
    ],
)
def test_a_verdict_flips_with_the_data(tmp_path, name, change):
    assert verdicts(tmp_path, change=change)[name].verdict == "not supported"


def test_locality_that_improves_perplexity(tmp_path, untouched):
    assert untouched["C7"].verdict == "not supported"
    found = verdicts(tmp_path, change=scale("quadratic", 0.7))["C7"]
    assert found.verdict == "supported"
    assert "quadratic" in found.figure


def test_a_run_that_localised_nothing_cannot_tell_where(tmp_path):
    def unmoved(run):
        for layer in run["final"]["layers"]:
            layer["fidelity_no_sink"] = 0.3 + 0.001 * run["seed"]

    assert verdicts(tmp_path, change=unmoved)["C4"].verdict == UNKNOWN


def test_entropy_may_rise_where_fidelity_does_too(tmp_path):
    def opposite(run):
        run["final"]["entropy_bits_no_sink"] = 9 - run["final"]["entropy_bits_no_sink"]

    found = verdicts(tmp_path, change=opposite)["C3"]
    assert found.verdict == "not supported"
    assert found.reason.endswith("without the sink entropy rises and fidelity rises.")


def test_noise_as_large_as_the_effect_decides_nothing(tmp_path):
    def noisy(run):
        run["final"]["perplexity"] *= 1 + 0.5 * ((3 * run["seed"] + len(run["name"])) % 4)

    found = verdicts(tmp_path, change=noisy)
    assert [found[name].verdict for name in ("C1", "C2", "C7")] == [UNKNOWN] * 3


def test_one_seed_decides_only_arithmetic(tmp_path):
    found = verdicts(tmp_path, seeds=(0,))
    assert {name for name, answer in found.items() if answer.verdict != UNKNOWN} == {"C9"}
    assert "linear 12" in found["C1"].figure  # the order seen is still stated


def test_capacity_is_counted_for_twelve_layers_and_this_model(tmp_path):
    (found,) = (a for a in answers(load_suite(make_suite(tmp_path, seeds=(0,)))) if a.id == "C9")
    # (1-λ)² > 0.95 means λ < 0.0253: (ℓ/11)⁴ below it up to ℓ = 4, (ℓ/11)⁵ up to 5; (ℓ/5)⁴ up to 1, (ℓ/5)⁵ up to 2
    for share in ("5 of 12", "6 of 12", "2 of 6", "3 of 6"):
        assert share in found.figure
    # in a deep model: 0.0253^(1/4), 0.0253^(1/5), and ln 0.0253 ÷ ln 0.9
    for number in ("0.0253", "40%", "48%", "β ≈ 35"):
        assert number in found.reason
    assert found.verdict == "not supported"


def test_missing_runs_are_named_as_needed(tmp_path):
    missing = [f"quartic-seed{seed}" for seed in range(3)]
    found = verdicts(tmp_path, missing=missing)
    for name in ("C1", "C2", "C6"):
        assert found[name].verdict == UNKNOWN
        assert "quartic" in found[name].reason


def test_a_missing_cell_leaves_the_other_change_alone(tmp_path):
    found = verdicts(tmp_path, missing=[f"cubic-alpha0.05-epochs5-seed{seed}" for seed in range(3)])["C5"]
    assert found.verdict == "supported"
    assert "α alone —" in found.figure


def test_claims_at_equal_lambda_say_so(untouched):
    for name in ("C1", "C2"):
        assert "no comparison at matched F°" in untouched[name].reason
    assert "F° is 0.464 and 0.463" in untouched["C5"].reason


def test_every_claim_of_the_paper_is_answered(untouched):
    assert list(untouched) == [f"C{n}" for n in range(1, 11)]


def test_one_registration_adds_a_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_claims", dict(claims._claims))
    claim("C11", "Is it so?")(lambda suite: Finding("supported", f"{len(suite.runs)} runs", "—", "It is."))
    assert verdicts(tmp_path, seeds=(0,))["C11"].figure == "11 runs"


SIZED = ["sentences", "fixed:30"]
"""Sentences, and fixed blocks of their size."""


def on_blocks(cost, size_costs=1.0, fidelity=0.1, chance=0.3, control_chance=0.3, noise=0.0):
    """Make the gap of the runs on large blocks its power of ``size_costs``, on sentences of ``cost`` besides."""

    def change(run):
        final, blocks = run["final"], run["config"]["locality"]["blocks"]
        if blocks in SIZED:
            power = size_costs * (cost if blocks == "sentences" else 1)
            final["perplexity"] = 100 * (final["perplexity"] / 100) ** power * (1 + noise * (run["seed"] - 1))
            final["fidelity_no_sink"] += fidelity if blocks == "sentences" else 0.1
            final["chance_fidelity_no_sink"] = chance if blocks == "sentences" else control_chance

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (on_blocks(0.5), "supported"),
        (on_blocks(2.0), "not supported"),
        (on_blocks(1.0, noise=0.1), UNKNOWN),
        (on_blocks(0.5, size_costs=3.0), "supported"),
        # half the gap of fixed:5, as fixed blocks of their size have it too: size, and not meaning
        (on_blocks(1.0, size_costs=0.5), UNKNOWN),
        (on_blocks(1.5, size_costs=0.5), "not supported"),
        # more F°, but no more than what is left of a difference in size gives: cheaper at equal F° alone
        (on_blocks(1.0, fidelity=0.12, chance=0.32), UNKNOWN),
        (on_blocks(0.5, fidelity=2.0), UNKNOWN),  # no F° that both reach
        (on_blocks(0.5, control_chance=0.1), UNKNOWN),  # no control: the only fixed blocks are smaller ones
        (on_blocks(2.0, control_chance=0.5), UNKNOWN),  # and here larger ones
    ],
)
def test_semantic_blocks_are_judged_against_fixed_ones_of_their_size(tmp_path, change, verdict):
    assert verdicts(tmp_path, partitioners=SIZED, change=change)["C8"].verdict == verdict


@pytest.mark.slow
def test_one_kind_of_block_that_is_cheaper_does_not_speak_for_all(tmp_path):
    def change(run):
        on_blocks(0.5)(run)
        if run["config"]["locality"]["blocks"] in ("similarity", "phrases"):  # as dear as fixed blocks of their size
            run["final"] |= {"fidelity_no_sink": run["final"]["fidelity_no_sink"] + 0.1, "chance_fidelity_no_sink": 0.3}

    found = verdicts(tmp_path, partitioners=[*SIZED, "similarity", "phrases"], change=change)["C8"]
    assert found.verdict == UNKNOWN
    assert "Cheaper at equal F° and at equal F° above chance: sentences;" in found.reason


def test_without_fixed_blocks_of_one_size_c8_says_so(tmp_path):
    found = verdicts(tmp_path, partitioners=["sentences"], change=on_blocks(0.5))["C8"]
    assert found.verdict == UNKNOWN
    assert "no fixed control of matched size; F° by chance: fixed:5 0.100, sentences 0.300" in found.figure


@pytest.mark.slow
def test_a_partitioner_without_a_control_keeps_c8_from_being_refuted(tmp_path):
    def change(run):
        on_blocks(2.0)(run)
        if run["config"]["locality"]["blocks"] == "similarity":
            run["final"]["chance_fidelity_no_sink"] = 0.6

    found = verdicts(tmp_path, partitioners=[*SIZED, "similarity"], change=change)["C8"]
    assert found.verdict == UNKNOWN
    assert "without a control of matched size: similarity" in found.reason


def test_how_closely_price_goes_with_size_is_said(tmp_path):
    def by_size(run):
        sizes = {"fixed:5": 0.1, "fixed:12": 0.2, "sentences": 0.4}
        chance = sizes[run["config"]["locality"]["blocks"]]
        final = run["final"]
        final["chance_fidelity_no_sink"] = chance
        final["perplexity"] = 100 * (final["perplexity"] / 100) ** -math.log(chance)

    found = verdicts(tmp_path, partitioners=["sentences", "fixed:12"], change=by_size)["C8"]
    assert "r of log gap with log chance F° over all 3 partitioners: localist −1.000" in found.reason


def test_c8_names_the_control_the_level_and_the_range(tmp_path):
    found = verdicts(tmp_path, partitioners=SIZED, change=on_blocks(0.5, fidelity=0.2))["C8"]
    # F° goes from 0.4 to 1.0 on fixed blocks and from 0.5 to 1.1 on sentences: the middle of what both reach is 0.75
    assert "sentences (0.300 by chance) ÷ fixed:30 (0.300) 0.8" in found.figure
    assert "× at F° 0.75" in found.figure
    assert "both reach F° 0.50" in found.interval
    assert "3 seeds of one base model" in found.interval


def test_c8_says_where_nothing_is_matched(tmp_path):
    found = verdicts(tmp_path, partitioners=SIZED, change=on_blocks(0.5, fidelity=2.0))["C8"]
    assert "no F° that both reach" in found.figure


def test_c8_needs_both_kinds_of_blocks(untouched, tmp_path):
    assert untouched["C8"].verdict == UNKNOWN
    assert "semantic blocks" in untouched["C8"].reason
    assert verdicts(tmp_path, partitioners=["fixed:10"])["C8"].verdict == UNKNOWN


def test_other_blocks_leave_the_other_claims_alone(tmp_path, untouched):
    found = verdicts(tmp_path, partitioners=SIZED, change=on_blocks(2.0))
    assert {name: each for name, each in found.items() if name != "C8"} == {
        name: each for name, each in untouched.items() if name != "C8"
    }
