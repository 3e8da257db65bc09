"""The names and limits that panels, commands and methods share; nothing is imported here.

What a name does stands with the code that does it; a test holds both together.
"""

from __future__ import annotations

#: The reconstruction kernels (`physics.fbp`).
KERNELS = ("ramp", "shepp-logan", "hann", "soft", "standard", "sharp")
DEFAULT_KERNEL = "standard"

#: How far the reconstruction goes: FBP; denoised projections, then FBP; projections and images (NEED).
METHODS = ("fbp", "projection", "need")
DEFAULT_METHOD = "need"

#: How `decompose` corrects scatter; it takes a network's weights, too.
SCATTER_MODES = ("none", "kernel", "network")
#: The basis materials unless others are named.
BASIS = ("water", "iodine")
#: Energies in keV at which monoenergetic images can be made, and those that viewers offer.
LEAST_KEV, MOST_KEV = 35.0, 200.0
VIEWING_KEV = range(40, 191)

#: The degradations (`degradation.presets`).
PRESETS = ("routine", "sumi-paper", "sumi-paper-validation", "sumi-paper-3d")
DEFAULT_PRESET = "routine"

#: The networks that can do each task, by the name of their architecture in the registry of weights.
ENHANCE_ARCHITECTURES = ("twin", "residual-diffusion")
PROJECTION_ARCHITECTURES = ("spdiff-compact", "spdiff-published")
IMAGE_ARCHITECTURES = ("doubly-guided",)
#: The sizes of the one-step enhancing network that can be trained.
TWIN_SIZES = ("twin", "twin-wide", "twin-lean")

#: Draws for an uncertainty map unless the user says how many. For the image alone one will do: four add 0.06
#: to 0.15 dB of PSNR on held-out patients, for four times the time.
SPREAD_SAMPLES = 4
#: Within so many calibrated SDs lie 90 % of the errors.
NINETY_PERCENT = 1.645
#: Diffusion steps of `enhance` and of either stage of `reconstruct`: the most, and the default.
MOST_ENHANCE_STEPS, MOST_RECONSTRUCT_STEPS = 8, 10
DEFAULT_ENHANCE_STEPS, DEFAULT_RECONSTRUCT_STEPS = 4, 1

#: What may run the networks. The last two ask for a precision by name; `openvino` alone takes bfloat16 where
#: the processor has it and the network's registry entry allows it, float32 otherwise.
ENGINES = ("auto", "torch", "openvino", "openvino:float32", "openvino:bfloat16")
#: What --resample-tilt asks of DICOM images, and what to do where a volume file was given.
LAID_STRAIGHT = {"GantryDetectorTilt": "resample"}
NOT_LAID_STRAIGHT = (
    "leave --resample-tilt out, and give the DICOM series, or the file of dcm2niix that ends in _Tilt."
)
#: Where images were given for projections.
TAKES_IMAGES = "'decompose' takes images at two energies and more, each as --image ENERGY=PATH"
