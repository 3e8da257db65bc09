"""Which attributes tell the scans of one series apart, and how strictly (`scans` compares them)."""

from __future__ import annotations

# In the order in which a sentence names them: what says most comes first.
ONE_FOR_A_SCAN = (
    "KVP", "MonoenergeticEnergyEquivalent", "EnergyWeightingFactor", "ConvolutionKernel", "Manufacturer",
    "ManufacturerModelName", "DeviceSerialNumber", "FrameOfReferenceUID", "PatientID", "PatientName",
    "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
    "SeriesInstanceUID",
)  # fmt: skip
ONE_FOR_A_BLOCK = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionTimeOffset", "PhaseNumber",
    "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "CardiacCyclePosition",
    "NominalPercentageOfRespiratoryPhase", "RespiratoryCyclePosition", "EchoNumbers", "StackID",
    "ContrastBolusAgent", "ContrastBolusAgentPhase", "ContrastBolusAgentAdministered",
    "ContrastBolusStartTime", "RescaleType", "ImageType", "SliceThickness", "ReconstructionAlgorithm",
    "ReconstructionMethod", "IterativeReconstructionMethod", "ImageFilter", "ConvolutionKernelGroup",
    "ReconstructionDiameter", "DataCollectionDiameter", "FilterType", "FilterMaterial", "FocalSpots",
    "ScanOptions", "AcquisitionType",
    "SpiralPitchFactor", "SingleCollimationWidth", "TotalCollimationWidth", "RevolutionTime",
    "RotationDirection", "ExposureModulationType", "MultienergyCTAcquisition",
    "DecompositionMethod", "VolumetricProperties", "VolumeBasedCalculationTechnique", "BodyPartExamined",
    "PatientPosition", "SoftwareVersions", "SeriesNumber", "AcquisitionUID", "IrradiationEventUID",
    "AcquisitionDate", "SeriesDate", "SeriesTime", "SeriesDescription", "ProtocolName",
    "AcquisitionProtocolName", "ImageFilterDescription", "DecompositionDescription", "PatientWeight",
    "PatientSize", "StudyTime", "StudyID", "AccessionNumber", "PerformedProcedureStepStartTime",
    "PerformedProcedureStepID",
)  # fmt: skip
# Of those what may turn at midnight, but no further.
DATES = ("AcquisitionDate", "SeriesDate")
# And what a scanner sets or measures anew for each rotation of a step-and-shoot scan.
ONE_FOR_A_ROTATION = (
    "FocalSpots", "FilterType", "FilterMaterial", "RevolutionTime", "ExposureModulationType",
    "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "CardiacCyclePosition",
    "NominalPercentageOfRespiratoryPhase", "RespiratoryCyclePosition",
)  # fmt: skip
# These may say something of each slice, too: they only count where they alternate, or at one place.
OF_IMAGES_AT_ONE_PLACE = (
    "ImageComments", "DerivationDescription", "StationName", "ContentDate", "WindowCenter", "WindowWidth",
    "WindowCenterWidthExplanation", "OperatorsName", "GeneratorPower", "TableSpeed", "TableFeedPerRotation",
    "LossyImageCompression", "GantryDetectorTilt", "ReconstructionTargetCenterPatient", "InstitutionName",
)  # fmt: skip
# Of texts that may name the energy in keV of an image that was computed at one.
OF_ENERGIES = ("SeriesDescription", "ImageComments", "DerivationDescription")
# With the least difference that means another scan: absolute, or of the mean where there is a second number.
OF_EACH_SLICE = {
    "InstanceNumber": (2.0, 0.0), "AcquisitionNumber": (2.0, 0.0), "AcquisitionTime": (1.0, 0.0),
    "AcquisitionDateTime": (1.0, 0.0), "ContentTime": (2.0, 0.0), "TriggerTime": (1.0, 0.0),
    "TableHeight": (1.0, 0.0), "XRayTubeCurrent": (0.0, 0.1), "Exposure": (0.0, 0.1),
    "ExposureTime": (0.0, 0.1), "CTDIvol": (0.0, 0.1),
}  # fmt: skip

ATTRIBUTES = (
    *ONE_FOR_A_SCAN, *ONE_FOR_A_BLOCK, *OF_IMAGES_AT_ONE_PLACE, *OF_EACH_SLICE,
    "MultienergyCTCharacteristicsSequence", "DimensionIndexSequence",
)  # fmt: skip
