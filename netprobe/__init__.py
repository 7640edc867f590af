"""netprobe: what a perturbation does inside a trained network.

    import netprobe as npb
    model = npb.load("their_resnet.py:resnet20", "resnet20.th", normalize="imagenet")
    data = npb.data.load("cifar10", split="test", limit=1000)
    tree = npb.probe({"natural": model}, data, {"pgd": npb.PGD(eps=8/255, steps=20), "noise": npb.GaussianNoise(0.1)})
    npb.plot_psr(tree)
    npb.report(tree, "report.html")
    robust = npb.fit("pgd-at:eps=8/255", "resnet18", "cifar10", out="runs/robust").model

Public names are resolved on first use, so that `import netprobe` and `netprobe --help` are quick.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "netprobe.attribution.gradcam": ["grad_cam"],
    "netprobe.attribution.signal_maps": ["signal_maps"],
    "netprobe.checkpoints": ["load"],
    "netprobe.defenses.krotov_hopfield": ["prototypes", "scaled_eps"],
    "netprobe.defenses.polarizing": ["polarization", "quantiser_curves"],
    "netprobe.defenses.sca": ["accuracy_by_steps", "activation_planes", "lateral_map", "settling"],
    "netprobe.defenses.sparse_coding": [
        "code_steps", "dictionary_atoms", "patch_correlations", "surrogate_curves",
    ],
    "netprobe.errors": ["CheckpointError", "MissingData", "NetprobeError"],
    "netprobe.evaluation": ["evaluate", "loss_landscape"],
    "netprobe.fourier.spectra": ["perturbation_spectra"],
    "netprobe.fourier.comparison": ["frequency_gains", "spectrum_differences"],
    "netprobe.geometry": [
        "compare_distances", "critical_distances", "decision_plane", "intrinsic_dimension", "jacobian_norms",
        "unit_spectra",
    ],
    "netprobe.metrics": [
        "CKA", "ChannelMoments", "CorrelationShift", "CrossValidatedSpectrum", "Hoyer", "PSR", "SNR", "Similarity",
        "Spectrum",
    ],
    "netprobe.probing.partial": ["Partial"],
    "netprobe.perturb": [
        "BIM", "FGSM", "GaussianNoise", "L1", "L2", "Linf", "PGD", "SaltAndPepper", "UniformNoise", "sweep",
    ],
    "netprobe.plots": [
        "plot_accuracy", "plot_accuracy_by_setting", "plot_accuracy_by_steps", "plot_activation_planes", "plot_alpha",
        "plot_batch_norm",
        "plot_batch_norm_drift", "plot_boundary_distance", "plot_cka", "plot_cka_matrix", "plot_code_steps",
        "plot_correlation_change", "plot_correlation_shift", "plot_corruption_accuracy", "plot_corruption_error",
        "plot_corruption_table", "plot_dictionary_atoms",
        "plot_critical_distances", "plot_decision_plane", "plot_distance_scatter", "plot_jacobian_norms",
        "plot_relative_accuracy", "plot_unit_spectra",
        "plot_effective_rank", "plot_filter_hoyer", "plot_firing", "plot_followed", "plot_frequency_gains",
        "plot_front_end_filters", "plot_gradcam", "plot_lateral_map", "plot_learning_curves", "plot_loss_landscape",
        "plot_minimum_norm",
        "plot_operator_norm", "plot_partial_curves", "plot_partial_layers", "plot_partial_parameters",
        "plot_patch_correlations", "plot_perturbation_spectrum", "plot_polarization", "plot_polarizing_bumps",
        "plot_prototypes", "plot_pruning",
        "plot_psr", "plot_psr_ridge", "plot_quantiser_surrogates", "plot_robustness_curve",
        "plot_rsa", "plot_settling", "plot_severity_curve", "plot_signal_maps", "plot_similarity_joint",
        "plot_similarity_matrices", "plot_similarity_training",
        "plot_singular_values", "plot_snr", "plot_sparsity", "plot_spectrum",
        "plot_spectrum_maps", "plot_step_read_out",
        "plot_tail_fatness", "plot_training_loss", "plot_training_terms",
    ],
    "netprobe.preflight": ["check"],
    "netprobe.probing.probe": ["Interrupted", "gather", "merge", "probe"],
    "netprobe.recipes": ["Recipe"],
    "netprobe.reporting": ["report"],
    "netprobe.reporting.verdict": ["verdict"],
    "netprobe.representations.alignment": ["cka_matrix"],
    "netprobe.representations.given": ["GivenSimilarity"],
    "netprobe.representations.matrices": ["similarity_matrices"],
    "netprobe.representations.pixels": ["PixelSimilarity"],
    "netprobe.representations.ranges": ["SimilarityRange"],
    "netprobe.representations.rsa": ["rsa"],
    "netprobe.seeds": ["over_seeds"],
    "netprobe.sites": ["find_sites", "select"],
    "netprobe.store": ["open_results", "save_results"],
    "netprobe.training": ["Diverged", "Trained", "fit", "follow"],
    "netprobe.training.reestimating": ["reestimate_batch_norm"],
    "netprobe.training.selecting": ["select_regulariser"],
}  # fmt: skip
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_SUBPACKAGES = (
    "data",
    "defenses",
    "evaluation",
    "geometry",
    "metrics",
    "models",
    "perturb",
    "plots",
    "training",
    "weights",
)

__all__ = sorted([*_HOME, *_SUBPACKAGES])


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"netprobe.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'netprobe' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
