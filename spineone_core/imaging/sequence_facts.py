"""What the acquisition was, by its numbers and codes alone: spin or gradient echo, inversion, and the contrast that follows.

Times are in ms. Impossible values are told and not used: echo times below 1 ms (written in seconds, or cut), repetition times
not longer than the echo time, zeros.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spineone_core.imaging.headers import FrameHeader

# Real T2: TE 80-125 ms, TR 1000-5600 ms (3-D sequences 1000); real T1: TE < 30 and TR < 1000.
T2_ECHO_MS = (60.0, 250.0)
T2_REPETITION_MS = 900.0
T1_ECHO_MS, T1_REPETITION_MS = 30.0, 1000.0
# Below this no spin echo is T2-weighted, whatever its name; from here to 60 ms a name decides.
NAMED_T2_ECHO_MS = 40.0
# Inversion times that null fat, from 0.2 T to 3 T, and the echo times of such series. Longer ones null water
# (fluid-attenuated) or make T1 contrast.
STIR_INVERSION_MS, STIR_ECHO_MS = (60.0, 400.0), (20.0, 250.0)
FLUID_INVERSION_MS = 1400.0
# Outside these no time is one.
POSSIBLE_ECHO_MS, POSSIBLE_REPETITION_MS, POSSIBLE_INVERSION_MS = (1.0, 3000.0), (1.0, 60_000.0), (1.0, 20_000.0)
# Flip angles (degrees): no gradient echo has more than 90, no spin echo less than 60.
SPIN_FLIP_DEG, GRADIENT_FLIP_DEG = 95.0, 60.0
# Echoes of a turbo spin echo; echo-planar and single-shot trains are longer.
TURBO_ECHOES = (3, 64)

_GRADIENT_NAME = (
    r"^\*?(fl|fi|tfl|tfi|me|qfl|ep|de|swi|ci|psif)\d*d|^\*?psif|^(t1)?t?ffe|^b?-?tfe"
    r"|^(e?f?gre|spgr|fspgr|efgre|fiesta|merge)"
)
_PLANAR_NAME = r"^\*?(ep|re)_?b?\d|^\*?ep2d|^epi"
_SPIN_NAME = r"^\*?(tse|spc|se|tir|h\d?d|hst|bld)\d*|^(fr)?fse|^tse|^ssfse|^cube"
_INVERSION_NAME = r"^\*?(tir|spcir)|^(fse)?ir\b"


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """The facts of one header.

    ``spin_echo`` is None where nothing says so; ``inversion`` likewise. ``planar`` is an echo-planar read-out, ``stir`` a
    fat-nulling inversion by its time. ``notes`` tell which values were not used.
    """

    echo: float | None
    repetition: float | None
    inversion_time: float | None
    spin_echo: bool | None
    planar: bool
    inversion: bool | None
    turbo: bool
    notes: tuple[str, ...]

    @property
    def stir(self) -> bool:
        """Whether the inversion time nulls fat."""
        low, high = STIR_INVERSION_MS
        return self.inversion_time is not None and low <= self.inversion_time <= high


def read_facts(header: FrameHeader) -> SequenceFacts:
    """The facts of a header (PS3.3 C.8.3.1, MR Image; C.8.13.4, MR Pulse Sequence)."""
    notes: list[str] = []
    echo = _possible(header.echo_time, POSSIBLE_ECHO_MS, "echo time", notes)
    repetition = _possible(header.repetition_time, POSSIBLE_REPETITION_MS, "repetition time", notes)
    if echo is not None and repetition is not None and repetition <= echo:
        notes.append("impossible repetition time not used")
        repetition = None
    if header.echo_time and echo is None and 0 < header.echo_time < 1 and repetition is not None and repetition < 30:
        # Echo time in seconds: the repetition time is in seconds, too.
        notes.append("impossible repetition time not used")
        repetition = None
    # Zero is how many scanners say that there is no inversion.
    inversion_time = (
        _possible(header.inversion_time, POSSIBLE_INVERSION_MS, "inversion time", notes)
        if header.inversion_time
        else None
    )
    spin_echo, planar = _spin_echo(header), _is_planar(header)
    low, high = TURBO_ECHOES
    turbo = bool(spin_echo and not planar and low <= (header.echo_train or 0) <= high)
    inversion = _is_inversion(header, inversion_time)
    return SequenceFacts(echo, repetition, inversion_time, spin_echo, planar, inversion, turbo, tuple(notes))


def _possible(value: float | None, limits: tuple[float, float], name: str, notes: list[str]) -> float | None:
    if value is None or limits[0] <= value <= limits[1]:
        return value
    notes.append(f"impossible {name} not used")
    return None


def _codes(values: tuple[str, ...]) -> set[str]:
    return {value.strip().upper() for value in values}


def _spin_echo(header: FrameHeader) -> bool | None:
    """By the codes, else the sequence's name, else the kind of image (Philips), else the flip angle or a steady state."""
    codes, kind, name = (
        _codes(header.scanning_sequence),
        header.echo_kind.strip().upper(),
        header.sequence_name.strip().lower(),
    )
    if re.search(_GRADIENT_NAME, name):
        return False
    if "SE" in codes or kind in ("SPIN", "BOTH"):
        return True
    if "GR" in codes or kind == "GRADIENT":
        return False
    if re.search(_SPIN_NAME, name):
        return True
    image = _codes(header.image_type[2:])
    if image & {"FFE", "M_FFE"}:
        return False
    if image & {"SE", "M_SE"}:
        return True
    flip = header.flip_angle or 0.0
    if flip > SPIN_FLIP_DEG:
        return True
    if 0 < flip < GRADIENT_FLIP_DEG or _codes(header.sequence_variant) & {"SS", "TRSS"}:
        return False
    return None


def _is_planar(header: FrameHeader) -> bool:
    return (
        "EP" in _codes(header.scanning_sequence)
        or re.search(_PLANAR_NAME, header.sequence_name.strip().lower()) is not None
    )


def _is_inversion(header: FrameHeader, inversion_time: float | None) -> bool | None:
    codes, enhanced = _codes(header.scanning_sequence), header.inversion_recovery.strip().upper()
    if (
        "IR" in codes
        or enhanced == "YES"
        or header.acquisition_contrast.strip().upper() == "STIR"
        or inversion_time is not None
        or re.search(_INVERSION_NAME, header.sequence_name.strip().lower())
    ):
        return True
    return False if codes - {"RM"} or enhanced == "NO" else None


# ---------------------------------------------------------------- what follows


def kind_by_times(echo: float | None, repetition: float | None) -> str | None:
    """The contrast of a spin echo by echo and repetition time in ms; None where they do not tell."""
    if echo is None or echo <= 0:
        return None
    if repetition is not None and repetition <= 0:
        repetition = None
    if T2_ECHO_MS[0] <= echo <= T2_ECHO_MS[1] and (repetition is None or repetition >= T2_REPETITION_MS):
        return "T2"
    if echo > T2_ECHO_MS[1]:
        return "with too long an echo time"
    if echo < T1_ECHO_MS and repetition is not None and repetition < T1_REPETITION_MS:
        return "T1-weighted"
    if echo < T2_ECHO_MS[0] and repetition is not None and repetition >= T1_REPETITION_MS:
        return "proton density"
    return None


def contrast_against_t2(facts: SequenceFacts) -> tuple[str, str] | None:
    """What the acquisition is, and what says so, where its facts rule out T2; None where they do not."""
    if facts.planar:
        return "echo planar", "its sequence parameters"
    if facts.spin_echo is False:
        return "gradient echo", "its sequence parameters"
    if facts.inversion_time is not None and facts.inversion_time > STIR_INVERSION_MS[1]:
        late = facts.inversion_time > FLUID_INVERSION_MS
        return "fluid-attenuated" if late else "T1-weighted", "its sequence parameters"
    kind = kind_by_times(facts.echo, facts.repetition)
    if kind in ("with too long an echo time", "T1-weighted"):
        return kind, "TE and TR"
    return None


def too_short_for_t2(facts: SequenceFacts) -> str | None:
    """What a spin echo without fat-nulling inversion is, where its echo is too short for T2; None where it is not."""
    if facts.echo is None or facts.echo >= NAMED_T2_ECHO_MS:
        return None
    return kind_by_times(facts.echo, facts.repetition) or "with too short an echo time"
