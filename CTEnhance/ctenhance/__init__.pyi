from ctenhance import choices as choices
from ctenhance import core as core
from ctenhance import decomposition as decomposition
from ctenhance import degradation as degradation
from ctenhance import enhancement as enhancement
from ctenhance import files as files
from ctenhance import options as options
from ctenhance import physics as physics
from ctenhance import quality as quality
from ctenhance import reconstruction as reconstruction
from ctenhance import runtime as runtime
from ctenhance import scan as scan
from ctenhance import study as study
from ctenhance import training as training
from ctenhance.core.report import Result as Result
from ctenhance.core.volume import CTVolume as CTVolume
from ctenhance.decomposition import decompose as decompose
from ctenhance.decomposition.from_images import decompose_images as decompose_images
from ctenhance.degradation import degrade as degrade
from ctenhance.enhancement import enhance as enhance
from ctenhance.files.ct import read as read
from ctenhance.files.ct import write as write
from ctenhance.files.projections import read_projections as read_projections
from ctenhance.files.projections import write_projections as write_projections
from ctenhance.options import DecomposeOptions as DecomposeOptions
from ctenhance.options import DegradeOptions as DegradeOptions
from ctenhance.options import EnhanceOptions as EnhanceOptions
from ctenhance.options import ReconstructOptions as ReconstructOptions
from ctenhance.reconstruction import reconstruct as reconstruct
from ctenhance.scan.projections import Projections as Projections

__version__: str
__all__: list[str]
