"""What the page shows of each metric, in the order of the page."""

from netprobe.reporting.sections.accuracy import ACCURACY, EVALUATION, WORST_CASE
from netprobe.reporting.sections.corruptions import CORRUPTIONS
from netprobe.reporting.sections.defenses import ATOMS, CODE, FIRING, LATERAL, POLARIZATION, PROTOTYPES, SETTLING
from netprobe.reporting.sections.gradcam import GRADCAM
from netprobe.reporting.sections.layers import CKA, CORRELATION, HOYER, PSR, SNR, SPECTRUM
from netprobe.reporting.sections.nearest_errors import BOUNDARY_DISTANCE, MINIMUM_NORM, PERTURBATION_SPECTRUM
from netprobe.reporting.sections.representations import CKA_MATRIX, RSA, SIMILARITY
from netprobe.reporting.sections.section import Figure, Numbers, Section, shown_perturbations
from netprobe.reporting.sections.smoothness import DISTANCES, JACOBIAN, LANDSCAPE, PLANE, UNITS
from netprobe.reporting.sections.training import FOLLOWED, HISTORY, PARTIAL
from netprobe.reporting.sections.weights import BATCH_NORM, BATCH_NORM_DRIFT, FILTERS, SINGULAR_VALUES

__all__ = ["SECTIONS", "Figure", "Numbers", "Section", "shown_perturbations"]

SECTIONS = (
    ACCURACY,
    EVALUATION,
    WORST_CASE,
    MINIMUM_NORM,
    BOUNDARY_DISTANCE,
    PERTURBATION_SPECTRUM,
    CORRUPTIONS,
    LANDSCAPE,
    JACOBIAN,
    DISTANCES,
    UNITS,
    PLANE,
    HISTORY,
    FOLLOWED,
    POLARIZATION,
    ATOMS,
    CODE,
    FIRING,
    SETTLING,
    LATERAL,
    PROTOTYPES,
    PARTIAL,
    PSR,
    SNR,
    SPECTRUM,
    HOYER,
    CORRELATION,
    CKA,
    SIMILARITY,
    RSA,
    CKA_MATRIX,
    GRADCAM,
    SINGULAR_VALUES,
    FILTERS,
    BATCH_NORM,
    BATCH_NORM_DRIFT,
)
