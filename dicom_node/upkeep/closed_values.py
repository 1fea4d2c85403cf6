"""The values that coded attributes may keep in a de-identified image: terms of the standard and of the vendors.

A coded attribute (CS) holds whatever its writer puts there, a name too. So each one that stays has a list here; another
value of ImageType or FrameType becomes OTHER, since their places mean something, and another value elsewhere is left
out. What series selection reads is in the lists: an exported series is judged like the original.
"""

from __future__ import annotations

from collections.abc import Sequence


def _terms(*lines: str) -> frozenset[str]:
    """Terms between bars, since some hold spaces."""
    return frozenset(term.strip() for line in lines for term in line.split("|"))


# PS3.3 C.7.6.1.1.2, C.8.3.1.1.1 and C.8.13.3.1.1; then what Siemens, GE, Philips and Canon write.
_IMAGE_TYPE = _terms(
    "ORIGINAL|DERIVED|MIXED|PRIMARY|SECONDARY|OTHER|NONE|AXIAL|LOCALIZER|VOLUME|ANGIO|CARDIAC|CINE|DIFFUSION",
    "DIFFUSION_ANISO|DIXON|DYNAMIC|FLOW_ENCODED|FLUID_ATTENUATED|FMRI|MAX_IP|MIN_IP|MEAN_IP|MPR|METABOLITE_MAP",
    "M_MODE|MULTIECHO|PHASE_CONTRAST|PROTON_DENSITY|REALTIME|REFORMATTED|RESAMPLED|STIR|STRESS|SURFACE|T1|T2|T2_STAR",
    "TAGGING|TEMPERATURE|TOF|VELOCITY|VELOCITY_MAP|PERFUSION|PROJECTION IMAGE|ADDITION|SUBTRACTION|DIVISION|MASKED",
    "MAXIMUM|MEAN|MEDIAN|MULTIPLICATION|STD_DEVIATION|QUANTITY|FILTERED|ENERGY_PROP_WT|DENSITY MAP|IMAGE ADDITION",
    "MODULUS SUBTRACT|T1 MAP|T2 MAP|PHASE MAP|PHASE SUBTRACT|SPIN ECHO|DIFFUSION MAP|MR|MAGNITUDE|PHASE|REAL|IMAGINARY",
    "M|P|R|I|ND|NORM|DIS2D|DIS3D|DISTORTED|MFSPLIT|FM|FM2|FM2_1|FM2_2|FM3_2|FM4_1|FM4_2|FIL|FS|RETRO|COMB_ROC|MSUM|SUM",
    "SUB|SUBTRACT|MIP|MIPTHIN|MNIP|CSA|CSA MPR|CSA 3D EDITOR|CSAPARALLEL|CSARANGE|CSA BLACK IMAGE|CSA MIP|COMPOSED|COMP_SP",
    "COMP_DIF|COMP_AD|SH|SH1|SH2|SH5_1|SHMIP|MEANTHIN|DRB|DRG|DRS|VFRAME|BIAS|UNI|INV1|INV2|IMAGE NUM 1|IMAGE NUM 2",
    "SCREEN SAVE|SCREENSAVE|PASTED|VOLREN|VRT|CT_SOM5 SEQ",
    "ADC|ADC_UNSPECIFIED|EADC|EXP|TRACE|TRACEW|FA|TENSOR|TENSOR_B0|CALC_BVALUE|DIFFUSION_MAP|ISOTROPIC|COLFA",
    "T1MAP|T1_MAP|T2MAP|T2_MAP|T2STAR MAP|T2_STAR_MAP|R2|R2_STAR|R2STAR|T2STAR|FF|WF|PDFF|FAT_FRACTION|FATFRACTION",
    "WATER_FRACTION|FIELD_MAP|B0 MAP|B1 MAP|B0|B1|CBF|CBV|MTT|TTP|PBP|RELCBF|RELCBV|RELMTT",
    "W|F|IP|OP|OPP|OOP|IN|OUT|WATER|FAT|WATER_ONLY|FAT_ONLY|WATERONLY|FATONLY|IN_PHASE|OUT_PHASE|OPP_PHASE|INPHASE",
    "OUTPHASE|OPPHASE|OPPOSED|OPPOSED_PHASE|OUT_OF_PHASE",
    "M_SE|M_FFE|M_IR|M_PCA|P_SE|P_FFE|P_IR|R_SE|R_FFE|R_IR|I_SE|I_FFE|I_IR|W_SE|F_SE|IP_SE|OP_SE|W_FFE|F_FFE|IP_FFE",
    "OP_FFE|SE|FFE|IR|PCA|B|DIXON_W|DIXON_F|UNSPECIFIED|STITCHED",
)  # fmt: skip
# PS3.16 annex L, as far as MR goes, and what technicians type for the spine.
_BODY_PARTS = _terms(
    "ABDOMEN|ABDOMENPELVIS|ADRENAL|ANKLE|AORTA|ARM|AXILLA|BACK|BLADDER|BRAIN|BREAST|BUTTOCK|CALF|CERVIX|CHEST|CHESTABDOMEN",
    "CHESTABDPELVIS|CLAVICLE|COCCYX|CSPINE|CTSPINE|CTLSPINE|ELBOW|EXTREMITY|FACE|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD",
    "HEADNECK|HEART|HIP|HUMERUS|IAC|JAW|KIDNEY|KNEE|LEG|LIVER|LSPINE|LSSPINE|LTSPINE|LUNG|MEDIASTINUM|NECK|NECKCHEST",
    "ORBIT|PANCREAS|PELVIS|PROSTATE|SACRUM|SCAPULA|SHOULDER|SIJOINT|SPINE|SPINALCORD|SSPINE|STERNUM|THIGH|THORAX|TLSPINE",
    "TMJ|TOE|TSPINE|UTERUS|WHOLEBODY|WHOLESPINE|WRIST",
    "L-SPINE|L SPINE|LUMBAR|LUMBAR SPINE|LUMBARSPINE|LUMBAR_SPINE|LUMBOSACRAL|LS SPINE|LWS|BWS|HWS|T-SPINE|C-SPINE",
    "T SPINE|C SPINE|THORACIC SPINE|CERVICAL SPINE|WHOLE SPINE|RACHIS|LOMBAIRE|COLUMNA|COLONNA|CARDIAC",
)
_SEQUENCES = _terms("SE|IR|GR|EP|RM")
_VARIANTS = _terms("SK|MTC|SS|TRSS|SP|MP|OSP|NONE")
_NUCLEI = _terms("1H|H1|3HE|7LI|13C|19F|23NA|31P|129XE|NONE")
_VOLUMETRIC = _terms("VOLUME|SAMPLED|DISTORTED|MIXED")
# By keyword. Every attribute that stays and is coded must be here; RescaleType and ImagedNucleus are, too.
CLOSED: dict[str, frozenset[str]] = {
    "ImageType": _IMAGE_TYPE,
    "FrameType": _IMAGE_TYPE,
    "Modality": _terms("MR"),
    "BodyPartExamined": _BODY_PARTS,
    "PatientPosition": _terms("HFP|HFS|HFDR|HFDL|FFP|FFS|FFDR|FFDL|LFP|LFS|RFP|RFS|AFP|AFS|AFDR|AFDL|PFP|PFS|PFDR|PFDL"),
    "ScanningSequence": _SEQUENCES,
    "SequenceVariant": _VARIANTS,
    "MRAcquisitionType": _terms("1D|2D|3D"),
    "InPlanePhaseEncodingDirection": _terms("ROW|COL|COLUMN|OTHER"),
    "AcquisitionContrast": _terms(
        "DIFFUSION|FLOW_ENCODED|FLUID_ATTENUATED|PERFUSION|PROTON_DENSITY|STIR|TAGGING|T1|T2|T2_STAR|TOF|UNKNOWN|MIXED"
    ),
    "ContentQualification": _terms("PRODUCT|RESEARCH|SERVICE"),
    "VolumetricProperties": _VOLUMETRIC,
    "VolumeBasedCalculationTechnique": _terms(
        "MAX_IP|MIN_IP|VOLUME_RENDER|SURFACE_RENDER|MPR|CURVED_MPR|NONE|MIXED|MEAN_IP|MEDIAN_IP"
    ),
    "PixelPresentation": _terms("MONOCHROME|COLOR|MIXED|TRUE_COLOR|COLOR_RANGE|COLOR_REF"),
    "ComplexImageComponent": _terms("MAGNITUDE|PHASE|REAL|IMAGINARY|MIXED"),
    "PresentationLUTShape": _terms("IDENTITY|INVERSE"),
    "PhotometricInterpretation": _terms("MONOCHROME1|MONOCHROME2"),
    "LossyImageCompression": _terms("00|01"),
    "LossyImageCompressionMethod": _terms(
        "ISO_10918_1|ISO_14495_1|ISO_15444_1|ISO_13818_2|ISO_14496_10|ISO_23008_2|ISO_15444_15|ISO_18181_1"
    ),
    "ImagedNucleus": _NUCLEI,
    "ResonantNucleus": _NUCLEI,
    "RescaleType": _terms("US|HU|OD|HU_MOD|MGML|Z_EFF|ED|EDW|PCT|normalized"),
}  # fmt: skip
# What stands for a value that is not known, where one must stand: in its place among others, or for type 1.
_INSTEAD = {"ImageType": "OTHER", "FrameType": "OTHER", "RescaleType": "US"}


def closed(keyword: str, values: Sequence[str]) -> list[str]:
    """The values of a coded attribute that may stay; others become OTHER (US in RescaleType) or are left out."""
    known, instead = CLOSED[keyword], _INSTEAD.get(keyword, "")
    judged = [value if value.strip().upper() in known or value.strip() in known else instead for value in values]
    return [value for value in judged if value]
