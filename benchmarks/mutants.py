"""Breaks the numerical cores on purpose, one line at a time, and says whether the tests notice.

    python benchmarks/mutants.py                 # all of them (about 10 minutes on one core)
    python benchmarks/mutants.py --only smoothing

Works on a copy of the repository in a temporary folder. Right: every mutant is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
import scipy.optimize
import scipy.stats
import sklearn.metrics
import torch.fx.experimental.proxy_tensor
from rdkit import Chem

sys.path.insert(0, str(Path(__file__).parent))
from common import versions

PRELOADED = (hypothesis, scipy, sklearn, torch, Chem)  # imported once, so that a mutant costs its tests and no more

ROOT = Path(__file__).parents[1]
ROBUST, OUT, TRAIN = "reprogram/robustness", "reprogram/outputs", "reprogram/training"


class Mutant(NamedTuple):
    """``old`` in ``file``, which stands there once, becomes ``new``; ``tests`` should fail then."""

    what: str
    file: str
    old: str
    new: str
    tests: str


SMOOTH, CLEVER, THREAT, APGD = (f"tests/robustness/test_{name}.py" for name in ("smoothing", "clever", "threat", "apgd"))
BOUNDS, SOUND = "tests/robustness/test_linear_bounds.py", "tests/robustness/test_certificates_are_proofs.py"
INSPECT, ENSEMBLE = "tests/robustness/test_trojan_inspection.py", "tests/outputs/test_ensemble.py"
GUARD, ZEROTH = "tests/training/test_hold_out_selection.py", "tests/training/test_zeroth_order.py"
METRICS, SURROGATE = "tests/evaluation/test_metrics.py", "tests/molecules/test_surrogate.py"
LABELS, RIDGE = "tests/outputs/test_label_mappings.py", "tests/outputs/test_ridge_taps.py"
CAMPAIGN, CAMPAIGNS = "molecules/campaign", "tests/molecules/test_campaign.py"
PENALIZED = "tests/molecules/test_user_oracles.py::test_penalized_logp_has_two_scales_named_apart"
KINK = "tests/robustness/test_smoothing.py::test_the_bound_never_exceeds_a_real_function_with_these_moments"
FAST_BOUNDS = f"{BOUNDS}::test_bounds_hold_samples_and_are_never_looser_than_intervals"
BENDS = f"{BOUNDS}::test_lines_of_bends_stay_on_their_side"
EXACT = f"{BOUNDS}::test_linear_networks_are_bounded_exactly"
UNSEEN = f"{SOUND}::test_what_no_comparison_would_see_is_refused"
AREA = f"{BOUNDS}::test_lines_below_a_relu_leave_the_least_area"
LISTED = f"{SOUND}::test_what_is_on_the_list_is_bounded_and_holds[double]"
CONV = f"{SOUND}::test_what_is_on_the_list_is_bounded_and_holds[conv]"
NAMED = f"{SOUND}::test_a_refusal_names_the_layer_also_one_left_in_training_mode"
ELSEWHERE = f"{SOUND}::test_the_graph_is_compared_with_the_model_at_other_points"
BATCH = f"{SOUND}::test_traps_are_refused[minus batch mean]"
EDGE = f"{SOUND}::test_exact_certificates_are_not_broken_at_their_very_edge"
INDEX = f"{INSPECT}::test_the_index_is_larger_for_small_masks_and_for_labels_that_are_read_alike"
OWN = f"{INSPECT}::test_data_limited_leaves_out_the_label_itself"
FACTOR = f"{GUARD}::test_the_factor_on_the_logits_has_the_least_squared_error"
ONE_ERROR = f"{GUARD}::test_the_search_must_beat_its_start_by_more_than_one_standard_error"
CORRECTED = f"{ZEROTH}::test_spsa_gc_corrects_the_gradient_by_the_velocity_as_published"
TURNED = f"{METRICS}::test_the_calibration_interval_is_read_from_the_other_side"
END_POINT = f"{CLEVER}::test_the_score_uses_the_end_point_and_not_the_largest_norm"
UNIFORM = f"{CLEVER}::test_points_are_uniform_in_the_ball"
LINEAR = f"{ROBUST}/certification/linear_bounds"
DETECTION, WORDS = "reprogram/backdoor/detection", "tests/outputs/test_verbaliser.py"
CHANGE = f"{INSPECT}::test_a_change_is_as_small_as_it_can_be_and_its_aim_is_told"
MARGIN = f"{INSPECT}::test_the_largest_margin_of_a_linear_model_is_that_of_its_best_image"
BY_LABEL = f"{INSPECT}::test_references_of_the_same_labels_are_compared_label_by_label"
PLANTED = f"{WORDS}::test_planted_words_are_found_and_told"
REST = f"{WORDS}::test_leaving_one_out_equals_counting_the_rest"
AT_ONCE = "tests/benchmarks/test_peers.py::test_where_a_step_sees_every_image_the_mapping_is_the_published_one_of_its_own_pass"
REPLIES = "tests/ledger/test_ledger.py::test_answers_that_come_while_others_are_counted_are_kept"

MUTANTS = (
    Mutant("inspection: a change grows where the goal is reached", f"{DETECTION}/changes.py",
           "price = torch.where(reached, price * UP, price * DOWN)", "price = torch.where(reached, price * DOWN, price * UP)",
           CHANGE),
    Mutant("inspection: a group leaves its labels where it should reach one", f"{DETECTION}/changes.py",
           "torch.where(there, everything - own, everything - others)",
           "torch.where(there, everything - others, everything - own)", CHANGE),
    Mutant("inspection: the smallest margin", f"{DETECTION}/maximum_margin.py",
           "return -margin(logits(x), aim[rows]),", "return margin(logits(x), aim[rows]),", MARGIN),
    Mutant("inspection: chance among many labels is not taken off", f"{DETECTION}/reference.py",
           "return index, float(z[index]) - usual,", "return index, float(z[index]),", BY_LABEL),
    Mutant("label words: those of the other classes", f"{OUT}/verbaliser.py",
           "ratio = ((self.mean - self.centre)", "ratio = ((self.centre - self.mean)", PLANTED),
    Mutant("label words: the left-out example still counts", f"{OUT}/verbaliser.py",
           "other.count = self.count - label", "other.count = self.count", REST),
    Mutant("training: a mapping is one step old", f"{TRAIN}/loop.py",
           "return lambda outputs, labels: fit_mapping(output, outputs, labels)",
           "return lambda outputs, labels: seen.append((outputs, labels))", AT_ONCE),
    Mutant("ledger: replies that come while others are counted are lost", "reprogram/ledger/ledger.py",
           "running -= ended", "running = {future for future in running if not future.done()}", REPLIES),
    # survived once
    Mutant("smoothing: the gradient's bound is not paid for", f"{ROBUST}/certification/randomized_smoothing.py",
           "split = lower_bound(hits, self.samples, self.alpha / 2)",
           "split = lower_bound(hits, self.samples, self.alpha)", SMOOTH),
    Mutant("smoothing: the gradient gets all of alpha", f"{ROBUST}/certification/randomized_smoothing.py",
           "Gradient(*halves, self.samples, self.alpha / 2)", "Gradient(*halves, self.samples, self.alpha)", SMOOTH),
    Mutant("smoothing: two bounds each get the whole delta", f"{ROBUST}/certification/randomized_smoothing.py",
           "half = self.delta / 2", "half = self.delta", SMOOTH),
    Mutant("smoothing: no union over the coordinates", f"{ROBUST}/certification/randomized_smoothing.py",
           "math.log(4 * self.first.numel() / delta)", "math.log(4 / delta)", SMOOTH),
    Mutant("smoothing: no union over the signs", f"{ROBUST}/certification/randomized_smoothing.py",
           "size * math.log(2) + math.log(2 / delta)", "math.log(2 / delta)", SMOOTH),
    Mutant("smoothing: the integrals' error at a kink is not taken off", f"{ROBUST}/certification/higher_order.py",
           "_WIDTH / 8 * steep", "0 * steep", KINK),
    Mutant("CLEVER: l2 radius uniform instead of volume", f"{ROBUST}/estimates/clever.py",
           "generator=generator) ** (1 / size)", "generator=generator)", UNIFORM),
    Mutant("threat: the l1 step ignores the box", "reprogram/threat.py",
           "stuck = ((where <= self.low) & (flat < 0)) | ((where >= self.high) & (flat > 0))",
           "stuck = torch.zeros_like(flat, dtype=torch.bool)", THREAT),
    Mutant("bounds: the flat line below a ReLU always", f"{LINEAR}/relax.py",
           "adaptive = (high >= -low).to(low)", "adaptive = torch.zeros_like(low)", AREA),
    Mutant("bounds: the wrong one of both lines below a ReLU", f"{LINEAR}/relax.py",
           "adaptive = (high >= -low).to(low)", "adaptive = (high < -low).to(low)", AREA),
    Mutant("metrics: calibration interval not turned around", "reprogram/evaluation/metrics.py",
           "low, high = max(0.0, 2 * value - high), max(0.0, 2 * value - low)", "low, high = low, high", TURNED),
    Mutant("hold-out: no standard error", f"{TRAIN}/hold_out_selection.py",
           "better = float(fall.mean()) > error", "better = float(fall.mean()) > 0", ONE_ERROR),
    Mutant("hold-out: the error is not divided by the root of n", f"{TRAIN}/hold_out_selection.py",
           "fall.std() / len(fall) ** 0.5", "fall.std()", ONE_ERROR),
    Mutant("SPSA-GC: no correction", f"{TRAIN}/spsa_gc.py",
           "(gradient + self.momentum * self.velocity)", "gradient", CORRECTED),
    Mutant("SPSA-GC: no momentum in the velocity", f"{TRAIN}/spsa_gc.py",
           "self.velocity = self.momentum * self.velocity.to(start.device) + gradient", "self.velocity = gradient", CORRECTED),
    Mutant("ensemble: logits of several labels are averaged", f"{OUT}/ensemble.py",
           "torch.logit(answers.sigmoid().mean(0), eps=1e-6)", "answers.mean(0)", ENSEMBLE),
    Mutant("surrogate: its trust never moves", "molecules/search/model/experts.py",
           "(1 - share) * self.trust + share * rms", "self.trust", SURROGATE),
    Mutant("surrogate: errors are not in its own deviations", "molecules/search/model/experts.py",
           "(found - mean) / std", "found - mean", SURROGATE),
    # more of them
    Mutant("Clopper-Pearson: the wrong tail", f"{ROBUST}/certification/randomized_smoothing.py",
           "beta.ppf(alpha, hits, samples - hits + 1)", "beta.ppf(alpha, hits + 1, samples - hits + 1)", SMOOTH),
    Mutant("smoothing: a signed error of the l2 bound", f"{ROBUST}/certification/randomized_smoothing.py",
           "(math.sqrt(1 + e * e) + e), upper", "(math.sqrt(1 + e * e) - e), upper", SMOOTH),
    Mutant("APGD: the step is not halved", f"{ROBUST}/attacks/apgd.py",
           "s.step = torch.where(back, s.step / 2, s.step)", "s.step = torch.where(back, s.step, s.step)", APGD),
    Mutant("APGD: the step is halved where progress is good", f"{ROBUST}/attacks/apgd.py",
           "rises <= RHO * window", "rises > RHO * window", APGD),
    Mutant("APGD: no momentum", f"{ROBUST}/attacks/apgd.py",
           "MOMENTUM * (z - s.x) + (1 - MOMENTUM) * inertia", "z - s.x", APGD),
    Mutant("APGD: the l1 step changes the smallest coordinates", f"{ROBUST}/attacks/apgd.py",
           "place = ((1 - share) * flat.shape[1])", "place = (share * flat.shape[1])", APGD),
    Mutant("threat: l1 projection on the ball alone", "reprogram/threat.py",
           "self.low - flat, self.high - flat, self.eps).view_as(x0)", "-1e9 + 0 * flat, 1e9 + 0 * flat, self.eps).view_as(x0)",
           THREAT),
    Mutant("threat: random l2 points at uniform radius", "reprogram/threat.py",
           "radius ** (1 / shape[1])", "radius", THREAT),
    Mutant("ridge: no leave-one-out division", f"{OUT}/_ridge.py",
           "return residual / (1.0 - leverage).clamp_min(1e-9)[:, None]", "return residual * 1.0", RIDGE),
    Mutant("ridge: the intercept has no leverage", f"{OUT}/_ridge.py",
           "leverage = self.share + self.left.square() @ shrink", "leverage = self.left.square() @ shrink", RIDGE),
    Mutant("Tanimoto: shared bits counted twice", "molecules/chemistry.py",
           "shared = a @ b.T\n    total = a.sum(1)[:, None] + b.sum(1)[None, :] - shared",
           "shared = a @ b.T\n    total = a.sum(1)[:, None] + b.sum(1)[None, :]", SURROGATE),
    Mutant("metrics: a 90 % percentile", "reprogram/evaluation/metrics.py", "[2.5, 97.5]", "[5, 95]", METRICS),
    Mutant("calibration error: bins closed on the left", "reprogram/evaluation/bootstrap.py",
           "np.ceil(confidence * bins).astype(int) - 1", "np.floor(confidence * bins).astype(int)", METRICS),
    Mutant("frequency mapping: probability instead of counts", f"{OUT}/_counts.py",
           "table = hits + mass / (mass.sum() + 1.0)", "table = mass + hits / (hits.sum() + 1.0)", LABELS),
    Mutant("Bayesian mapping: smoothing in the wrong place", f"{OUT}/bayesian.py",
           "counts / (counts.sum(1, keepdim=True) + self.smoothing)",
           "(counts + self.smoothing) / counts.sum(1, keepdim=True).clamp_min(1)", LABELS),
    Mutant("SPSA: the sign of the difference", f"{TRAIN}/spsa_gc.py",
           "plus, minus = values.chunk(2)", "minus, plus = values.chunk(2)", ZEROTH),
    Mutant("random gradient-free: the dimension is left out", f"{TRAIN}/rgf.py",
           "return len(start) * (slopes", "return (slopes", ZEROTH),
    Mutant("CMA-ES: the spread of the subspace", f"{TRAIN}/cma_es.py",
           "self.std * math.sqrt(dimension / k)", "self.std", ZEROTH),
    Mutant("penalized logP: the sign of the ring term", "molecules/oracles/penalized_logp.py",
           "(-max(largest_ring(mol) - 6, 0)", "(max(largest_ring(mol) - 6, 0)", PENALIZED),
    Mutant("Gaussian process: the mean is not added back", "molecules/search/model/tanimoto_gp.py",
           "return self.mean + self.scale * mean,", "return self.scale * mean,", SURROGATE),
    Mutant("Gaussian process: variance without what is explained", "molecules/search/model/tanimoto_gp.py",
           'self._own(rows) - np.einsum("nm,nm->m", explained, explained)', "self._own(rows)", SURROGATE),
    Mutant("Gaussian process: the amplitude is left out", "molecules/search/model/tanimoto_gp.py",
           "np.sqrt(self._amplitude * variance)", "np.sqrt(variance)", SURROGATE),
    Mutant("DL-TND: similarity of the images of the label itself", "reprogram/backdoor/detection/data_limited.py",
           "masked_fill(kept, torch.nan)", "masked_fill(~kept, torch.nan)", OWN),
    Mutant("DL-TND: the index prefers large masks", "reprogram/backdoor/detection/data_limited.py",
           "return np.median(size) - size - 0.25", "return size - np.median(size) - 0.25",
           INDEX),
    Mutant("temperature: the slope's sign", f"{OUT}/_ridge.py",
           "too_sharp = slope > 0", "too_sharp = slope < 0", RIDGE),
    Mutant("PMO: the curve has steps instead of lines", "molecules/auc.py",
           "(now + previous) / 2", "now", "tests/molecules/test_auc.py"),
    Mutant("Brier: the best factor is the worst", f"{TRAIN}/brier.py",
           "torch.stack(errors).argmin()", "torch.stack(errors).argmax()", FACTOR),
    Mutant("Weibull: the maximum instead of the end point", f"{ROBUST}/estimates/clever.py",
           "locations[number] = location", "locations[number] = top", END_POINT),
    # certificates
    Mutant("bounds: inputs of a sum are made unique", f"{LINEAR}/operators.py",
           'return call.add("add", (left, right), call.value)', 'return call.add("add", tuple({left, right}), call.value)',
           LISTED),
    Mutant("bounds: batch statistics are taken for constants", f"{LINEAR}/operators.py",
           'if call.arguments.get("training"):', "if False:", NAMED),
    Mutant("bounds: random draws are believed", f"{LINEAR}/trace.py",
           "if _draws(step):", "if False:", NAMED),
    Mutant("bounds: the graph is not compared", f"{LINEAR}/agreement.py",
           "if not (gap := _gap(exact, wanted)) <= EXACT * scale:", "if False:", ELSEWHERE),
    Mutant("bounds: batches are not compared", f"{LINEAR}/agreement.py",
           "if not (gap := _gap(found, wanted)) <= CLOSE * scale:", "if False:", BATCH),
    Mutant("bounds: values may be read out", f"{LINEAR}/recording.py",
           "if (name in READS or func in RAW) and any(map(_moves, args)):", "if False:", UNSEEN),
    Mutant("bounds: state is not looked at", f"{LINEAR}/agreement.py",
           "if changed is not None:", "if False:", UNSEEN),
    Mutant("campaign: improvement without its certain part", f"{CAMPAIGN}/goals.py",
           "std * (z * ndtr(z) +", "std * (", f"{CAMPAIGNS}::test_expected_improvement_and_the_chance_of_conditions"),
    Mutant("campaign: left-out values with their own weight", f"{CAMPAIGN}/experts.py",
           "(self.rotated / self.values) / own,", "(self.rotated / self.values),",
           f"{CAMPAIGNS}::test_left_out_values_of_a_process_are_those_of_a_fit_without_them"),
    Mutant("campaign: molecules that were proposed are proposed again", f"{CAMPAIGN}/campaign.py",
           "{*self.measured.smiles, *taken}", "{*self.measured.smiles}",
           "tests/molecules/test_propose.py::test_a_round_and_the_next"),
    Mutant("bounds: the chord above a ReLU without its offset", f"{LINEAR}/relax.py",
           "-high * low / width", "0 * low", BENDS),
    Mutant("bounds: half-widths go through weights with their signs", f"{LINEAR}/operators.py",
           "positive = {weights: call.arguments[weights].abs()}", "positive = {weights: call.arguments[weights]}", CONV),
    Mutant("bounds: an l2 ball measured in l1", "reprogram/threat.py",
           '"l2": "l2", "linf"', '"l2": "linf", "linf"', EXACT),
    Mutant("certify: no room for rounding", f"{LINEAR}/certify.py", "eps * (1 + SLACK) + TINY", "eps", EDGE),
)  # fmt: skip


def copy_of(root: Path, target: Path) -> None:
    """The tracked and new files of the repository, not what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, check=True, capture_output=True, text=True
    ).stdout  # fmt: skip
    for name in listed.splitlines():
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def survives(mutant: Mutant, copy: Path) -> bool:
    """Applies a mutant to the copy, runs its tests, and takes it back."""
    file = copy / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.what}: {mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}.")
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        return passes(mutant.tests, copy)
    finally:
        file.write_text(text)


def passes(tests: str, copy: Path) -> bool:
    """Runs tests in a child that has the libraries imported already and the package not."""
    child = os.fork()
    if child == 0:
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os._exit(int(pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), tests])))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 1):
        raise SystemExit(f"{tests} did not run (pytest answers {code}).")
    return code == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only mutants with this in what they do or in their file")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.only in m.what or options.only in m.file]
    began, results = time.time(), {}
    with tempfile.TemporaryDirectory() as folder:
        copy_of(ROOT, Path(folder))
        for mutant in chosen:
            results[mutant.what] = "SURVIVED" if survives(mutant, Path(folder)) else "killed"
            print(f"{results[mutant.what]:9s} {mutant.what}", flush=True)
        healthy = {tests: passes(tests, Path(folder)) for tests in sorted({m.tests for m in chosen})}
    killed = sum(r == "killed" for r in results.values())
    figures = {
        "mutants": len(results), "killed": killed, "survived": [w for w, r in results.items() if r != "killed"],
        "tests_that_fail_without_a_mutant": [t for t, passed in healthy.items() if not passed], "results": results,
        "seconds": round(time.time() - began, 1), "versions": versions("torch"),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
