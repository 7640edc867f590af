"""One plot a file: `plot_x(results, ..., ax=None) -> Axes`, from labelled results alone."""

from netprobe.plots.accuracy import plot_accuracy
from netprobe.plots.accuracy_by_setting import plot_accuracy_by_setting
from netprobe.plots.accuracy_by_steps import plot_accuracy_by_steps
from netprobe.plots.activation_planes import plot_activation_planes
from netprobe.plots.alpha import plot_alpha
from netprobe.plots.batch_norm import plot_batch_norm
from netprobe.plots.batch_norm_drift import plot_batch_norm_drift
from netprobe.plots.boundary_distance import plot_boundary_distance
from netprobe.plots.cka import plot_cka
from netprobe.plots.cka_matrix import plot_cka_matrix
from netprobe.plots.code_steps import plot_code_steps
from netprobe.plots.correlation_change import plot_correlation_change
from netprobe.plots.correlation_shift import plot_correlation_shift
from netprobe.plots.corruption_accuracy import plot_corruption_accuracy
from netprobe.plots.corruption_error import plot_corruption_error
from netprobe.plots.corruption_table import plot_corruption_table
from netprobe.plots.critical_distances import plot_critical_distances
from netprobe.plots.decision_plane import plot_decision_plane
from netprobe.plots.dictionary_atoms import plot_dictionary_atoms
from netprobe.plots.distance_scatter import plot_distance_scatter
from netprobe.plots.drawing import save, style
from netprobe.plots.effective_rank import plot_effective_rank
from netprobe.plots.filter_hoyer import plot_filter_hoyer
from netprobe.plots.firing import plot_firing
from netprobe.plots.followed import plot_followed
from netprobe.plots.frequency_gains import plot_frequency_gains
from netprobe.plots.front_end_filters import plot_front_end_filters
from netprobe.plots.gradcam import plot_gradcam
from netprobe.plots.jacobian_norms import plot_jacobian_norms
from netprobe.plots.lateral_map import plot_lateral_map
from netprobe.plots.learning_curves import plot_learning_curves
from netprobe.plots.loss_landscape import plot_loss_landscape
from netprobe.plots.minimum_norm import plot_minimum_norm
from netprobe.plots.operator_norm import plot_operator_norm
from netprobe.plots.partial_curves import plot_partial_curves
from netprobe.plots.partial_layers import plot_partial_layers
from netprobe.plots.partial_parameters import plot_partial_parameters
from netprobe.plots.patch_correlations import plot_patch_correlations
from netprobe.plots.perturbation_spectrum import plot_perturbation_spectrum
from netprobe.plots.polarization import plot_polarization
from netprobe.plots.polarizing_bumps import plot_polarizing_bumps
from netprobe.plots.prototypes import plot_prototypes
from netprobe.plots.pruning import plot_pruning
from netprobe.plots.psr import plot_psr
from netprobe.plots.psr_ridge import plot_psr_ridge
from netprobe.plots.quantiser_surrogates import plot_quantiser_surrogates
from netprobe.plots.relative_accuracy import plot_relative_accuracy
from netprobe.plots.robustness_curve import plot_robustness_curve
from netprobe.plots.rsa import plot_rsa
from netprobe.plots.settling import plot_settling
from netprobe.plots.severity_curve import plot_severity_curve
from netprobe.plots.signal_maps import plot_signal_maps
from netprobe.plots.similarity_joint import plot_similarity_joint
from netprobe.plots.similarity_matrices import plot_similarity_matrices
from netprobe.plots.similarity_training import plot_similarity_training
from netprobe.plots.singular_values import plot_singular_values
from netprobe.plots.snr import plot_snr
from netprobe.plots.sparsity import plot_sparsity
from netprobe.plots.spectrum import plot_spectrum
from netprobe.plots.spectrum_maps import plot_spectrum_maps
from netprobe.plots.step_read_out import plot_step_read_out
from netprobe.plots.tail_fatness import plot_tail_fatness
from netprobe.plots.training_loss import plot_training_loss
from netprobe.plots.training_terms import plot_training_terms
from netprobe.plots.unit_spectra import plot_unit_spectra

__all__ = [
    "plot_accuracy",
    "plot_accuracy_by_setting",
    "plot_accuracy_by_steps",
    "plot_activation_planes",
    "plot_alpha",
    "plot_batch_norm",
    "plot_batch_norm_drift",
    "plot_boundary_distance",
    "plot_cka",
    "plot_cka_matrix",
    "plot_code_steps",
    "plot_correlation_change",
    "plot_correlation_shift",
    "plot_corruption_accuracy",
    "plot_corruption_error",
    "plot_corruption_table",
    "plot_critical_distances",
    "plot_decision_plane",
    "plot_dictionary_atoms",
    "plot_distance_scatter",
    "plot_effective_rank",
    "plot_filter_hoyer",
    "plot_firing",
    "plot_followed",
    "plot_frequency_gains",
    "plot_front_end_filters",
    "plot_gradcam",
    "plot_jacobian_norms",
    "plot_lateral_map",
    "plot_learning_curves",
    "plot_loss_landscape",
    "plot_minimum_norm",
    "plot_operator_norm",
    "plot_partial_curves",
    "plot_partial_layers",
    "plot_partial_parameters",
    "plot_patch_correlations",
    "plot_perturbation_spectrum",
    "plot_polarization",
    "plot_polarizing_bumps",
    "plot_prototypes",
    "plot_pruning",
    "plot_psr",
    "plot_psr_ridge",
    "plot_quantiser_surrogates",
    "plot_relative_accuracy",
    "plot_robustness_curve",
    "plot_rsa",
    "plot_settling",
    "plot_severity_curve",
    "plot_signal_maps",
    "plot_similarity_joint",
    "plot_similarity_matrices",
    "plot_similarity_training",
    "plot_singular_values",
    "plot_snr",
    "plot_sparsity",
    "plot_spectrum",
    "plot_spectrum_maps",
    "plot_step_read_out",
    "plot_tail_fatness",
    "plot_training_loss",
    "plot_training_terms",
    "plot_unit_spectra",
    "save",
    "style",
]
